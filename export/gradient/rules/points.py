"""Reading a picture at points between its elements, as GridSample does, and the two gradients of that.

A point reads some neighbours along each axis, with weights that are polynomials of its place between two of them. What
lies outside of the picture is found by moving the neighbours inside, not the point: for a border, a reflection and
zeros alike the weights are then those of any other point, and so are their slopes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.scatter import MOST, scattered
from fusioncam.export.gradient.rules.table import Step, product


@dataclass(frozen=True)
class Kernel:
    """The neighbours that a point reads along an axis.

    Attributes:
        offsets: Their positions, from the one before the point on.
        weights: Their weights as polynomials of the point's distance from the one before it: a row for each power,
            from 0 on, a column for each neighbour.
        nearest: The point moves to the nearest element first.
    """

    offsets: Sequence[int]
    weights: Sequence[Sequence[float]]
    nearest: bool = False

    @property
    def slopes(self) -> Sequence[Sequence[float]]:
        """Return the derivatives of the weights, as polynomials of the same kind."""
        return [*([power * w for w in row] for power, row in enumerate(self.weights) if power), [0] * len(self.offsets)]


NEAREST = Kernel((0,), ((1,), (0,)), nearest=True)
LINEAR = Kernel((0, 1), ((1, 0), (-1, 1)))


def cubic(a: float) -> Kernel:
    """Return the kernel of cubic convolution (Keys 1981, equation 4, where `a` is -0.5)."""
    weights = ((0, 1, 0, 0), (a, 0, -a, 0), (-2 * a, -a - 3, 2 * a + 3, a), (a, a + 2, -a - 2, -a))
    return Kernel((-1, 0, 1, 2), weights)


def evaluated(s: Step, polynomials: Sequence[Sequence[float]], at: ir.Value) -> ir.Value:
    """Return the values of polynomials at the numbers `at`, (..., 1), as (..., polynomials)."""
    *lower, value = (s.like(row) for row in polynomials)
    for row in reversed(lower):
        value = s.op.Add(s.op.Mul(value, at), row)
    return value


@dataclass(frozen=True)
class Neighbours:
    """The neighbours that points read along one axis.

    Attributes:
        s: The step.
        kernel: What a point reads.
        index: The neighbours' positions in the picture, (B, P, neighbours).
        rest: The points' distances from the neighbour before them, (B, P, 1).
        seen: Whether a neighbour does not count as zero, (B, P, neighbours); None where all do not.
    """

    s: Step
    kernel: Kernel
    index: ir.Value
    rest: ir.Value
    seen: ir.Value | None

    @cached_property
    def weight(self) -> ir.Value:
        """Return the neighbours' weights, (B, P, neighbours)."""
        return self._seen(evaluated(self.s, self.kernel.weights, self.rest))

    @cached_property
    def slope(self) -> ir.Value:
        """Return the derivatives of the weights by the places of the points, (B, P, neighbours)."""
        return self._seen(evaluated(self.s, self.kernel.slopes, self.rest))

    def _seen(self, value: ir.Value) -> ir.Value:
        """Return a value, 0 for neighbours that count as zero."""
        return value if self.seen is None else self.s.op.Where(self.seen, value, self.s.like(0))


def neighbours(
    s: Step, place: ir.Value, size: int, kernel: Kernel, padding: str = "zeros", corners: bool = False
) -> Neighbours:
    """Return what points at `place`, (B, P, 1), read along an axis of `size` elements.

    Args:
        s: The step.
        place: Places of the points: 0 is the middle of the first element, 1 of the second.
        size: The number of elements.
        kernel: What a point reads.
        padding: What is outside: `zeros`, `border` (the outermost element), `reflection`.
        corners: A reflection is about the middle of the outermost element, not about its outer edge.
    """
    op = s.op
    before = op.Round(place) if kernel.nearest else op.Floor(place)
    rest = op.Sub(place, before)
    at = before if kernel.nearest else op.Add(before, s.like(kernel.offsets))
    if padding == "reflection":
        at = _reflected(s, at, *(0.0, size - 1.0) if corners else (-0.5, size - 0.5))
    within = op.Clip(at, s.like(0), s.like(size - 1))
    seen = op.Equal(within, at) if padding == "zeros" else None
    return Neighbours(s, kernel, op.Cast(within, to=ir.DataType.INT64), rest, seen)


def _reflected(s: Step, at: ir.Value, low: float, high: float) -> ir.Value:
    """Return positions reflected at `low` and `high` until they are between these."""
    op, span = s.op, 2 * (high - low)
    if not span:
        return op.Mul(at, s.like(0))
    shifted = op.Sub(at, s.like(low))
    turns = op.Mul(op.Floor(op.Div(shifted, s.like(span))), s.like(span))
    way = op.Sub(shifted, turns)
    return op.Add(op.Min(way, op.Sub(s.like(span), way)), s.like(low))


@dataclass(frozen=True)
class Points:
    """Points in pictures of several axes, P in each of B pictures; each point reads K elements.

    Attributes:
        s: The step.
        sizes: The pictures' axes.
        count: P.
        kernel: What a point reads along each axis.
        axes: What it reads along each axis.
    """

    s: Step
    sizes: Sequence[int]
    count: int
    kernel: Kernel
    axes: Sequence[Neighbours]

    @property
    def reads(self) -> int:
        """Return the number K of elements that a point reads."""
        return int(len(self.kernel.offsets) ** len(self.sizes))

    @cached_property
    def index(self) -> ir.Value:
        """Return the positions of the elements in the flattened picture, (B, P, K)."""
        strides = [product(self.sizes[axis + 1 :]) for axis in range(len(self.sizes))]
        parts = [
            a.index if stride == 1 else self.s.op.Mul(a.index, self.s.op.ints([stride]))
            for a, stride in zip(self.axes, strides, strict=True)
        ]
        return self._joined("Add", parts)

    @cached_property
    def weight(self) -> ir.Value:
        """Return the weights of the elements, (B, P, K)."""
        return self._joined("Mul", [a.weight for a in self.axes])

    def slope(self, axis: int) -> ir.Value:
        """Return the derivatives of the weights by the points' places along `axis`, (B, P, K)."""
        return self._joined("Mul", [a.slope if i == axis else a.weight for i, a in enumerate(self.axes)])

    def _joined(self, op_type: str, parts: Sequence[ir.Value]) -> ir.Value:
        """Return what a node makes of a number for each axis, for all combinations of neighbours."""
        op, each = self.s.op, len(self.kernel.offsets)
        joined, known = parts[0], each
        for part in parts[1:]:
            both = getattr(op, op_type)(op.Unsqueeze(joined, op.ints([3])), op.Unsqueeze(part, op.ints([2])))
            known *= each
            joined = op.reshape(both, (None, self.count, known))
        return joined

    def read(self, picture: ir.Value, channels: int) -> ir.Value:
        """Return the elements that the points read, (B, P, K, channels)."""
        op = self.s.op
        rows = op.Transpose(op.reshape(picture, (None, channels, product(self.sizes))), perm=[0, 2, 1])
        index = op.reshape(self.index, (None, self.count, self.reads, 1))
        return op.GatherND(rows, index, batch_dims=1)

    def sampled(self, read: ir.Value, weight: ir.Value | None = None) -> ir.Value:
        """Return the points' values, (B, P, channels), of the elements read."""
        op = self.s.op
        weight = op.Unsqueeze(self.weight if weight is None else weight, op.ints([2]))
        return op.Squeeze(op.MatMul(weight, read), op.ints([2]))

    def slopes(self, read: ir.Value, dy: ir.Value) -> list[ir.Value]:
        """Return the gradient by the points' places along each axis, each (B, P, 1).

        Args:
            read: The elements read.
            dy: The gradient by the points' values, (B, P, channels).
        """
        op = self.s.op
        received = op.Squeeze(op.MatMul(read, op.Unsqueeze(dy, op.ints([3]))), op.ints([3]))
        products = [op.Mul(received, self.slope(axis)) for axis in range(len(self.sizes))]
        return [op.ReduceSum(p, op.ints([2]), keepdims=1) for p in products]

    def spread(self, dy: ir.Value, picture: ir.Value, channels: int) -> ir.Value:
        """Return the gradient by the pictures, in the shape of `picture`, of the points' values.

        Args:
            dy: The gradient by the points' values, (B, P, channels).
            picture: The pictures, (B, channels, *sizes).
            channels: Their channels.
        """
        op = self.s.op
        if self.count * product(self.sizes) <= MOST:
            return op.reshape_as(op.MatMul(op.Transpose(dy, perm=[0, 2, 1]), self._matrix()), picture)
        given = op.Mul(op.Unsqueeze(dy, op.ints([2])), op.Unsqueeze(self.weight, op.ints([3])))
        first = op.Mul(numbered(self.s, self.index), op.ints([product(self.sizes)]))
        return added(self.s, op.Add(op.reshape(first, (None, 1, 1)), self.index), given, picture, channels)

    def _matrix(self) -> ir.Value:
        """Return the weight that each point gives to each element, (B, P, elements): TensorRT takes its product."""
        op, s, rank = self.s.op, self.s, len(self.sizes)
        matrix = None
        for axis, (near, size) in enumerate(zip(self.axes, self.sizes, strict=True)):
            reads = op.Equal(op.Unsqueeze(near.index, op.ints([3])), op.constant(np.arange(size)))
            weights = op.Where(reads, op.Unsqueeze(near.weight, op.ints([3])), s.like(0))
            weights = op.ReduceSum(weights, op.ints([2]), keepdims=0)
            shape = [size if i == axis else 1 for i in range(rank)]
            weights = op.reshape(weights, (None, self.count, *shape)) if rank > 1 else weights
            matrix = weights if matrix is None else op.Mul(matrix, weights)
        assert matrix is not None
        return op.reshape(matrix, (None, self.count, product(self.sizes))) if rank > 1 else matrix


def added(s: Step, index: ir.Value, given: ir.Value, picture: ir.Value, channels: int) -> ir.Value:
    """Return the sums of what is given to the elements of pictures, in the shape of `picture`.

    ScatterND adds whole rows, one for each element; it knows no batch, so all pictures are one table.

    Args:
        s: The step.
        index: Rows of the table, of any shape.
        given: What is added to them, (*index, channels).
        picture: The pictures, (B, channels, ...).
        channels: Their channels, or those of a part of them.
    """
    op, elements = s.op, product(s.static(picture, 2))
    table = op.Reshape(op.zeros_like(picture), op.ints([-1, channels]))
    index, given = op.Reshape(index, op.ints([-1, 1])), op.Reshape(given, op.ints([-1, channels]))
    rows = op.reshape(scattered(s, "ScatterND", (table, index, given), "add"), (None, elements, channels))
    return op.reshape_as(op.Transpose(rows, perm=[0, 2, 1]), picture)


def numbered(s: Step, value: ir.Value) -> ir.Value:
    """Return 0, 1, 2, ... for the first axis of `value`."""
    scalar = s.op.constant(0, "int64"), s.op.constant(1, "int64")
    return s.op.Range(scalar[0], s.op.Squeeze(s.op.Shape(value, start=0, end=1)), scalar[1])
