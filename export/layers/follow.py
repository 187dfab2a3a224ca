"""Positions, followed from the image through the graph, whatever its tensors are reshaped to.

Data movement runs on the positions as on the tensor. A product has the positions of its rows, a pool the middle of its
windows. So no pattern of Reshape and Transpose needs to be known.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import reads
from fusioncam.export.layers.movement import joined, moved
from fusioncam.export.layers.positions import (
    NOWHERE,
    Positions,
    broadcasts,
    compressed,
    finest,
    mean,
    nowhere,
    regular,
    resampled,
    sizes,
    unpadded,
)
from fusioncam.export.operators import ATTENTION, MOVEMENT, NORMALIZATIONS, POINTWISE, PRODUCTS, SPATIAL


@dataclass
class Part:
    """The positions along some of the picture's axes; see `Trace`.

    Attributes:
        axes: Which axes.
        rank: The rank of the image.
    """

    axes: Sequence[int]
    rank: int
    positions: dict[ir.Value, Positions] = field(default_factory=dict)
    mixing: set[ir.Node] = field(default_factory=set)
    pairs: set[ir.Value] = field(default_factory=set)
    lost: list[ir.Node] = field(default_factory=list)

    def whole(self, size: Sequence[int]) -> Positions:
        """Return the positions of a whole picture of this size, (D, H, W) for one."""
        shape = [n if axis in self.axes else 1 for axis, n in enumerate(size)]
        return regular(*(size[axis] for axis in self.axes)).reshape(shape)


class Follower:
    """A finder of the positions of one node's outputs, from those of its inputs."""

    def __init__(self, node: ir.Node, made: Part, reached: set[ir.Value]) -> None:
        self.node, self.made, self.reached = node, made, reached

    def follow(self) -> list[Positions | None]:
        """Return the positions of every output, None where they are unknown."""
        kind = self.node.op_type
        if kind in SPATIAL:
            return [self._spatial()]
        if kind in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand"):
            return [self._reshaped()]
        if kind in MOVEMENT or (kind == "Where" and self._constant(0)):
            return self._moved(MOVEMENT.get(kind, (1, 2)))
        if kind.startswith("Reduce") or kind == "CumSum":
            return [self._reduced()]
        if kind in PRODUCTS:
            return [self._product(*PRODUCTS[kind])]
        if kind == "Einsum":
            return [self._einsum()]
        if kind in ATTENTION:
            return [self._attention()]
        return self._elementwise()

    def _input(self, i: int) -> ir.Value | None:
        return self.node.inputs[i] if i < len(self.node.inputs) else None

    def _constant(self, i: int) -> bool:
        value = self._input(i)
        return value is None or value.const_value is not None

    def _of(self, value: ir.Value | None) -> Positions | None:
        """Return the positions of an input; None where it was lost."""
        if value is None or value not in self.reached:
            return np.full((1,) * len((value.shape if value is not None else None) or ()), NOWHERE)
        return self.made.positions.get(value)

    def _spatial(self) -> Positions | None:
        kind, x, y = SPATIAL[self.node.op_type], self._input(0), self.node.outputs[0]
        array = self._of(x)
        if x is None or x.shape is None or len(x.shape) != len(y.shape or ()):
            return None
        before, after = sizes(x), sizes(y)
        last = kind.channels_last or bool(self.node.attributes.get_int("channels_last", 0))
        channel = len(after) - 1 if last else 1
        depthwise = before[channel] == after[channel] == self.node.attributes.get_int("group", 1)
        if array is None:  # lost, but a convolution of whole pictures goes over their rows and columns
            if len(after) != self.made.rank or not kind.weighted or str((y.shape or ("",))[0]) != "N":
                return None
            grid = compressed(self.made.whole(after[1:-1] if last else after[2:]))
            return grid[None, ..., None] if last else grid[None, None]
        if kind.weighted and not depthwise:
            array = mean(array, [channel])
        if before != after or kind.weighted:
            self.made.mixing.add(self.node)
        reach = self._reach(len(after), last)
        for axis in range(len(after)):
            if axis != channel:
                array, length = unpadded(array, axis, before[axis], reach.get(axis, 0))
                array = resampled(array, axis, length, after[axis])
        if array.shape[channel] not in (1, after[channel]):
            array = mean(array, [channel])
        return array

    def _reach(self, rank: int, channels_last: bool) -> dict[int, int]:
        """Return how far a window reaches behind its first element, by axis; nothing for operators without windows."""
        weights = self._input(1) if SPATIAL[self.node.op_type].weighted else None
        kernel = self.node.attributes.get_ints("kernel_shape", ())
        if not kernel and weights is not None and weights.shape is not None and len(weights.shape) == rank:
            kernel = sizes(weights)[1:-1] if channels_last else sizes(weights)[2:]
        dilations = self.node.attributes.get_ints("dilations", ()) or (1,) * len(kernel)
        first = 1 if channels_last else 2
        return {first + i: (k - 1) * d for i, (k, d) in enumerate(zip(kernel, dilations, strict=False))}

    def _reshaped(self) -> Positions | None:
        x, shape = self._input(0), sizes(self.node.outputs[0])
        array = self._of(x)
        if x is None or array is None:
            return None
        if x in self.made.pairs:
            self.made.pairs.update(self.node.outputs)
        if array.size == 1:
            return array.reshape((1,) * len(shape))
        if self.node.op_type == "Expand":
            return array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
        return compressed(np.broadcast_to(array, sizes(x)).reshape(shape))

    def _moved(self, data: tuple[int, ...]) -> list[Positions | None]:
        node = self.node
        if node.op_type == "QLinearConcat":
            data = tuple(range(2, len(node.inputs), 3))
        at = [i for i, v in enumerate(node.inputs) if v is not None and (i in data or not data)]
        arrays = [self._of(node.inputs[i]) for i in at]
        if any(node.inputs[i] in self.made.pairs for i in at):
            self.made.pairs.update(node.outputs)
        if node.op_type in ("Concat", "QLinearConcat"):
            return [joined(node, at, arrays)]
        known = [a for a in arrays if a is not None]
        if len(known) < len(arrays) or not all(self._constant(i) for i in range(len(node.inputs)) if i not in at):
            return [None] * len(node.outputs)
        return moved(node, dict(zip(at, known, strict=True)))

    def _reduced(self) -> Positions | None:
        x, array = self._input(0), self._of(self._input(0))
        if x is None or array is None:
            return None
        rank, after = len(sizes(x)), len(sizes(self.node.outputs[0]))
        if self.node.op_type == "CumSum":
            return array
        attribute = self.node.attributes.get("axes")
        axes = list(attribute.value) if attribute is not None else None
        if axes is None and (where := self._input(1)) is not None:
            if where.const_value is None:
                return None
            axes = where.const_value.numpy().ravel().tolist()
        if not axes:
            axes = [] if self.node.attributes.get_int("noop_with_empty_axes", 0) else list(range(rank))
        axes = [a % rank for a in axes]
        self._mixes(array, axes)
        positions = mean(array, axes)
        return positions if after == rank else np.squeeze(positions, tuple(axes))

    def _product(self, left: int, right: int) -> Positions | None:
        """Return the positions of a product: those of the left operand's rows, and of the right one's columns."""
        sides = [self._input(left), self._input(right)]
        arrays = [self._of(v) for v in sides]
        shape = sizes(self.node.outputs[0])
        operands = []
        for i, (array, name) in enumerate(zip(arrays, ("transA", "transB"), strict=True)):
            if array is None or array.ndim < 2:
                operands.append(array if array is None else np.full((1,) * len(shape), NOWHERE))
                continue
            if self.node.attributes.get_int(name, 0):
                array = array.swapaxes(-1, -2)
            operands.append(self._summed(array, (-2 if i else -1) + array.ndim, len(shape)))
        return self._of_product(operands)

    def _summed(self, array: Positions, axis: int, rank: int) -> Positions:
        self._mixes(array, [axis])
        array = mean(array, [axis])
        return array.reshape((1,) * (rank - array.ndim) + array.shape)

    def _einsum(self) -> Positions | None:
        terms, _, result = self.node.attributes["equation"].as_string().replace(" ", "").partition("->")
        if "." in terms or not result or any(len({*term}) < len(term) for term in terms.split(",")):
            return None
        operands: list[Positions | None] = []
        for term, value in zip(terms.split(","), self.node.inputs, strict=True):
            array = self._of(value)
            if array is not None:
                gone = [i for i, letter in enumerate(term) if letter not in result]
                self._mixes(array, gone)
                kept = [letter for letter in term if letter in result]
                array = np.squeeze(mean(array, gone), tuple(gone)).transpose(
                    np.argsort([result.index(k) for k in kept])
                )
                sides = iter(array.shape)
                array = array.reshape([next(sides) if letter in kept else 1 for letter in result])
            operands.append(array)
        return self._of_product(operands)

    def _attention(self) -> Positions | None:
        """Return the positions of attention's output: those of its queries."""
        array, shape = self._of(self._input(0)), sizes(self.node.outputs[0])
        self.made.mixing.add(self.node)
        if array is None:
            return None
        if array.ndim == len(shape):
            return mean(array, [array.ndim - 1])
        array = mean(array, range(2, array.ndim))
        return array.reshape((*array.shape[:2], *[1] * (len(shape) - 2)))

    def _elementwise(self) -> list[Positions | None]:
        """Return the positions after an operator whose operands broadcast, as in all that keep the shape."""
        node, shape = self.node, sizes(self.node.outputs[0])
        values = [v for v in reads(node) if v in self.reached]
        fitting = [v for v in values if v.shape is not None
                   and broadcasts((1,) * (len(shape) - len(v.shape)) + sizes(v), shape)]  # fmt: skip
        arrays = [self._of(v) for v in fitting]
        known = [a if a is None else a.reshape((1,) * (len(shape) - a.ndim) + a.shape) for a in arrays]
        unlike = not any(v.shape is not None and sizes(v) == shape for v in fitting)
        if not fitting or (unlike and node.op_type not in POINTWISE):
            return [None] * len(node.outputs)
        if not self.made.pairs.isdisjoint(fitting):
            self.made.pairs.update(node.outputs)
        positions = self._of_sum(known)
        if node.op_type not in POINTWISE:
            self.made.mixing.add(node)
        elif positions is not None:
            self._mixes(positions, self._axes_of_norm(len(shape)))
        return [positions if o.shape is not None and sizes(o) == shape else None for o in node.outputs]

    def _axes_of_norm(self, rank: int) -> list[int]:
        """Return the axes a normalisation sums over."""
        kind = self.node.op_type
        axis = self.node.attributes.get_int("axis", -1) % max(rank, 1)  # a single number has no axis
        if kind in NORMALIZATIONS:
            return [*range(axis, rank)]
        return [axis] if rank and kind in ("Softmax", "LogSoftmax", "LpNormalization") else []

    def _of_product(self, arrays: list[Positions | None]) -> Positions | None:
        """Return the positions of a product: those of its rows, where each operand has them along another axis."""
        known = [a for a in arrays if a is not None and not nowhere(a)]
        if not known:
            return self._blank(arrays)
        if len(known) > 1:
            self.made.mixing.add(self.node)
            along = [{i for i, d in enumerate(a.shape) if d > 1} for a in known]
            if all(one - other for one, other in zip(along, along[1:] + along[:1], strict=True)):
                self.made.pairs.update(self.node.outputs)
                return known[0]
        return finest(known)[0]

    def _of_sum(self, arrays: list[Positions | None]) -> Positions | None:
        """Return the positions of the operand that tells most apart; the mean of several close by, as in a window."""
        known = [a for a in arrays if a is not None and not nowhere(a)]
        if not known:
            return self._blank(arrays)
        best = finest(known)
        if len(best) < len(known) or any(not np.array_equal(a, best[0], equal_nan=True) for a in best):
            self.made.mixing.add(self.node)
        return best[0] if len(best) == 1 else mean(np.stack(np.broadcast_arrays(*best)), [0])[0]

    def _blank(self, arrays: list[Positions | None]) -> Positions | None:
        """Return no positions where that is certain, None where an operand was lost."""
        blank = [a for a in arrays if a is not None]
        return blank[0] if blank and len(blank) == len(arrays) else None

    def _mixes(self, array: Positions, axes: Iterable[int]) -> None:
        """Note that the node sums along `axes`, if the positions differ there."""
        if any(array.shape[a] > 1 for a in axes):
            self.made.mixing.add(self.node)
