"""Operators that read or write elements at positions given by a tensor, constant or computed."""

from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.distinct import all_distinct, rows_distinct
from fusioncam.export.gradient.rules.table import Step, product, rule
from fusioncam.export.gradient.tape import Dims, dims

# Elements of a one-hot tensor for each picture, up to which it is written: TensorRT-RTX has no Scatter that adds.
MOST = 2**20
LETTERS = ascii_lowercase[:-1]  # "z" stands for the axis that is picked along


@dataclass(frozen=True)
class Picked:
    """A choice along one axis: y = x[positions], its axes named by letters as in an Einsum.

    Attributes:
        y: Letters of the result. Those that x lacks stand together in place of its letter z.
        at: Letters of the positions.
        x: Letters of what is picked from; z is the axis that is picked along.
        shape: Lengths of the axes of x.
    """

    y: str
    at: str
    x: str
    shape: Dims

    def undo(self, s: Step, positions: ir.Value, distinct: bool) -> ir.Value:
        """Return for each element of x the sum of the gradient of y over the places that picked it.

        Args:
            s: The step.
            positions: The positions along z; negative ones count from the end.
            distinct: Whether no element is picked twice.
        """
        lengths = dict(zip(self.y, dims(s.y), strict=True))
        size = self.shape[self.x.index("z")]
        places = product([lengths[c] or 1 for c in self.at])
        if not distinct and size is not None and size * places <= MOST:
            missing = [(lengths[c], d) for c, d in zip(self.x, self.shape, strict=True) if c != "z" and lengths[c] != d]
            if all(a is not None and b is not None for a, b in missing):
                return self._by_product(s, positions, size, lengths)
        return self._by_scatter(s, positions, lengths, None if distinct else "add")

    def _by_product(self, s: Step, positions: ir.Value, size: int, lengths: dict[str, int | None]) -> ir.Value:
        op = s.op
        if positions.dtype != ir.DataType.INT64:  # onnxruntime has no OneHot for others
            positions = op.Cast(positions, to=ir.DataType.INT64)
        hot = op.OneHot(op.Mod(positions, op.constant(np.int64(size))), op.ints([size]), s.like([0, 1]), axis=-1)
        total = op.Einsum(s.dy, hot, equation=f"{self.y},{self.at}z->{self.x}")
        # GatherElements may leave the ends of other axes out.
        ends = [0 if c == "z" else (d or 0) - (lengths[c] or 0) for c, d in zip(self.x, self.shape, strict=True)]
        return op.Pad(total, op.ints([0] * len(ends) + ends)) if any(ends) else total

    def _by_scatter(
        self, s: Step, positions: ir.Value, lengths: dict[str, int | None], reduction: str | None
    ) -> ir.Value:
        op, dy = s.op, s.dy
        joined = [lengths[c] for c in self.y if c not in self.x]
        count = None if None in joined else product([d for d in joined if d is not None])
        shape = tuple(count if c == "z" else lengths[c] for c in self.x)
        if len(joined) != 1:
            dy = op.reshape(dy, shape)
        if len(joined) != 1 or self.at != self.y:
            kept = tuple(d if c == "z" or c in self.at else 1 for c, d in zip(self.x, shape, strict=True))
            positions = op.Expand(op.reshape(positions, kept), op.Shape(dy))
        zeros = op.zeros_like(s.x) if self.shape == dims(s.x) else op.reshape(op.zeros_like(s.x), self.shape)
        return scattered(s, "ScatterElements", (zeros, positions, dy), reduction, axis=self.x.index("z"))


def scattered(
    s: Step, op_type: str, operands: tuple[ir.Value, ir.Value, ir.Value], reduction: str | None, **attributes: int
) -> ir.Value:
    """Return a Scatter of numbers of the type of the step's input: onnxruntime's adds no float16."""
    data, indices, new = operands
    scatter = getattr(s.op, op_type)
    if reduction is None or s.x.dtype != ir.DataType.FLOAT16:
        return scatter(data, indices, new, reduction=reduction, **attributes)  # type: ignore[no-any-return]
    data, new = (s.op.Cast(v, to=ir.DataType.FLOAT) for v in (data, new))
    return s.op.Cast(scatter(data, indices, new, reduction=reduction, **attributes), to=s.x.dtype)


def fixed(lengths: Dims) -> list[int]:
    """Return lengths, none of which may grow with the batch."""
    if None in lengths:
        raise NotImplementedError("a choice from the batch")
    return [d for d in lengths if d is not None]


def pick_axis(s: Step, axis: int) -> ir.Value:
    """Return the gradient of a Gather along `axis` by positions that are computed."""
    rank, more = len(dims(s.x)), len(dims(s.input(1)))
    before, at, after = LETTERS[:axis], LETTERS[axis : axis + more], LETTERS[axis + more : rank + more - 1]
    picked = Picked(before + at + after, at, f"{before}z{after}", dims(s.x))
    distinct = more == 0 or (more == 1 and all_distinct(s.input(1), 0, dims(s.x)[axis]))
    return picked.undo(s, s.input(1), distinct)


def pick_many(s: Step, batch: int) -> ir.Value:
    """Return the gradient of a GatherND: its positions along several axes become positions along one."""
    op, shape, indices, known = s.op, dims(s.x), s.input(1), s.constant(1)
    *more, depth = dims(indices)
    if depth is None:
        raise NotImplementedError("an unknown number of positions")
    lead, rest = shape[batch : batch + depth], shape[batch + depth :]
    strides = [product(fixed(lead[i + 1 :])) for i in range(depth)]
    lengths = op.Slice(op.Shape(s.x), op.ints([batch]), op.ints([batch + depth]), op.ints([0]))
    near = op.Mod(op.Cast(indices, to=ir.DataType.INT64), lengths)
    positions = op.ReduceSum(op.Mul(near, op.ints(strides)), op.ints([-1]), keepdims=0)
    positions.dtype = ir.DataType.INT64
    at, after = LETTERS[: len(more)], LETTERS[len(more) : len(more) + len(rest)]
    size = None if None in lead else product(fixed(lead))
    picked = Picked(at + after, at, f"{at[:batch]}z{after}", (*shape[:batch], size, *rest))
    distinct = known is not None and rows_distinct(known, lead, batch)
    return op.reshape_as(picked.undo(s, positions, distinct), s.x)


@rule("GatherElements")
def _gather_elements(s: Step) -> ir.Value:
    axis = s.axis(0)
    letters = LETTERS[: len(dims(s.x))]
    picked = Picked(letters, letters, letters.replace(letters[axis], "z"), dims(s.x))
    return picked.undo(s, s.input(1), all_distinct(s.input(1), axis, dims(s.x)[axis]))


@dataclass(frozen=True)
class Places:
    """The places that a Scatter writes to.

    Attributes:
        read: Returns the elements of a tensor at these places.
        write: Returns a tensor with elements written to these places, by a reduction (None: they replace).
        distinct: Whether no place is written twice.
    """

    read: Callable[[ir.Value], ir.Value]
    write: Callable[[ir.Value, ir.Value, str | None], ir.Value]
    distinct: bool


@rule("ScatterElements", every_input=True)
def _scatter_elements(s: Step) -> ir.Value | None:
    axis, indices = s.axis(0), s.input(1)
    return written(s, along_axis(s, indices, axis, all_distinct(indices, axis, dims(s.input(0))[axis])))


def along_axis(s: Step, indices: ir.Value, axis: int, distinct: bool) -> Places:
    """Return the places of a ScatterElements."""
    op = s.op
    return Places(
        lambda data: op.GatherElements(data, indices, axis=axis),
        lambda data, new, how: scattered(s, "ScatterElements", (data, indices, new), how, axis=axis),
        distinct,
    )


@rule("ScatterND", every_input=True)
def _scatter_nd(s: Step) -> ir.Value | None:
    op, indices, known = s.op, s.input(1), s.constant(1)
    places = Places(
        lambda data: op.GatherND(data, indices),
        lambda data, new, how: scattered(s, "ScatterND", (data, indices, new), how),
        known is not None and rows_distinct(known, dims(s.input(0)), 0),
    )
    return written(s, places)


@rule("TensorScatter", every_input=True)
def _tensor_scatter(s: Step) -> ir.Value | None:
    op, cache, new = s.op, dims(s.input(0)), s.input(1)
    axis, rank = s.axis(-2), len(cache)
    length, size = dims(new)[axis], cache[axis]
    if length is None or size is None:
        raise NotImplementedError("a cache along the batch")
    places = op.constant(np.arange(length).reshape(-1, *[1] * (rank - axis - 1)))
    if s.has(2):
        places = op.Add(op.Unsqueeze(s.input(2), op.ints(range(1, rank))), places)
    if s.attribute("mode", "linear") == "circular":
        places = op.Mod(places, op.constant(np.int64(size)))
    return written(s, along_axis(s, op.Expand(places, op.Shape(new)), axis, distinct=True))


def written(s: Step, places: Places) -> ir.Value | None:
    """Return the gradient of a Scatter by its data or by what it writes, input 2 (1 of a TensorScatter)."""
    if s.index == 1 and s.node.op_type != "TensorScatter":
        return None
    how = str(s.attribute("reduction", "none"))
    return REDUCTIONS[how](s, places)


def _replaced(s: Step, places: Places) -> ir.Value:
    op = s.op
    if s.index == 0:
        new = s.input(1 if s.node.op_type == "TensorScatter" else 2)
        return places.write(s.dy, op.zeros_like(new), None)
    gradient = places.read(s.dy)
    if places.distinct:
        return gradient
    # Of elements that are written to the same place, the one that is left has the gradient: ask the operator itself.
    count = op.Range(op.constant(np.int64(0)), op.Size(s.x), op.constant(np.int64(1)))
    numbers = op.Reshape(count, op.Shape(s.x))
    left = places.write(op.Expand(op.constant(np.int64(0)), op.Shape(s.y)), numbers, None)
    return op.Where(op.Equal(places.read(left), numbers), gradient, s.like(0))


def _added(s: Step, places: Places) -> ir.Value:
    return s.dy if s.index == 0 else places.read(s.dy)


def _multiplied(s: Step, places: Places) -> ir.Value:
    op, data, new = s.op, s.input(0), s.input(2)
    if s.index == 0:
        return op.Mul(s.dy, places.write(op.Expand(s.like(1), op.Shape(data)), new, "mul"))
    if places.distinct:
        return places.read(op.Mul(s.dy, data))
    zero = op.Equal(new, s.like(0))
    others = op.Where(zero, s.like(1), new)
    whole = places.write(op.Mul(s.dy, data), others, "mul")
    zeros = op.Cast(zero, to=s.x.dtype)
    count = op.Sub(places.read(places.write(op.zeros_like(data), zeros, "add")), zeros)
    return op.Where(op.Equal(count, s.like(0)), op.Div(places.read(whole), others), s.like(0))


def _extreme(s: Step, places: Places) -> ir.Value:
    # Elements that tie share the gradient, as torch's scatter_reduce does.
    if s.x.dtype == ir.DataType.FLOAT16:  # onnxruntime holds operands in float32, and the output equals none of them
        raise NotImplementedError("it chooses among numbers in float16")
    op, data, new = s.op, s.input(0), s.input(2)
    stays = op.Cast(op.Equal(data, s.y), to=s.x.dtype)
    wins = op.Cast(op.Equal(new, places.read(s.y)), to=s.x.dtype)
    share = op.Div(s.dy, places.write(stays, wins, "add"))
    return op.Mul(stays, share) if s.index == 0 else op.Mul(wins, places.read(share))


REDUCTIONS: dict[str, Callable[[Step, Places], ir.Value]] = {
    "none": _replaced,
    "add": _added,
    "mul": _multiplied,
    "max": _extreme,
    "min": _extreme,
}
