"""The table of gradient rules, and the step of the walk that a rule works with."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fusioncam.export.gradient.reader import NodeReader
from fusioncam.export.gradient.tape import Dims, Ops, dims
from fusioncam.kernels.arrays import Array

Gradient = Callable[["Step"], ir.Value | None]
BodyGradients = Callable[["BodyStep"], Iterable[tuple[ir.Value, ir.Value]]]
Walk = Callable[[Ops, Mapping[ir.Value, ir.Value], Sequence[ir.Value]], dict[ir.Value, ir.Value]]


@dataclass(frozen=True)
class Rule:
    """The derivative of one operator.

    Attributes:
        gradient: Appends the gradient by input `Step.index`; None where it is zero everywhere.
        broadcasts: The gradient is returned in the shape of the output, and the walker sums it to that of the input.
        every_input: Every input has a gradient, not the first alone: the others are more than weights or parameters.
    """

    gradient: Gradient
    broadcasts: bool = False
    every_input: bool = False


RULES: dict[tuple[str, str], Rule] = {}

# Operators that hold bodies: the function yields pairs of a tensor that the node reads, there or in a body, and what
# its gradient receives.
BODY_RULES: dict[tuple[str, str], BodyGradients] = {}


def rule(
    *op_types: str, domain: str = "", broadcasts: bool = False, every_input: bool = False
) -> Callable[[Gradient], Gradient]:
    """Return a decorator that enters a function into the table as the rule of `op_types` in a domain."""

    def enter(gradient: Gradient) -> Gradient:
        for op_type in op_types:
            RULES[domain, op_type] = Rule(gradient, broadcasts, every_input)
        return gradient

    return enter


def rules(gradients: Mapping[str, Gradient], broadcasts: bool = False, every_input: bool = False) -> None:
    """Enter the functions of a table, by operator, as rules; see `rule`."""
    for op_type, gradient in gradients.items():
        rule(op_type, broadcasts=broadcasts, every_input=every_input)(gradient)


@dataclass(frozen=True)
class Step(NodeReader):
    """One step of the walk: a node, the gradients of its outputs, and the input to differentiate by.

    Attributes:
        op: Appends nodes.
        node: The node to differentiate.
        received: Gradient of each output, None where nothing reaches the logits from it.
        index: The input to differentiate by.
    """

    op: Ops
    node: ir.Node
    received: Sequence[ir.Value | None]
    index: int

    @property
    def dy(self) -> ir.Value:
        """Return the gradient of the first output, the only one that may have any.

        Raises:
            NotImplementedError: Another output has one, too.
        """
        first, *others = self.received
        if first is None or any(others):
            raise NotImplementedError("an output other than its first is used")
        return first

    @property
    def x(self) -> ir.Value:
        """Return the input to differentiate by."""
        return self.input(self.index)

    @property
    def y(self) -> ir.Value:
        """Return the first output."""
        return self.node.outputs[0]

    def array(self, i: int) -> Array:
        """Return the value of input `i`.

        Raises:
            NotImplementedError: The input is not a constant.
        """
        value = self.constant(i)
        if value is None:
            raise NotImplementedError(f"its input {i} ({self.input(i).name!r}) is not a constant")
        return value

    def axis(self, default: int) -> int:
        """Return the attribute `axis`, counted from the front."""
        axis = int(self.attribute("axis", default))
        return axis + len(dims(self.input(0))) if axis < 0 else axis

    def like(self, array: npt.ArrayLike) -> ir.Value:
        """Return a constant of the element type of the input to differentiate by."""
        if self.x.dtype is None or not self.x.dtype.is_floating_point():
            raise NotImplementedError(f"it works on {self.x.dtype}")
        return self.op.like(array, self.x)

    def static(self, value: ir.Value, start: int = 0) -> list[int]:
        """Return the dimensions of `value` from axis `start` on, none of which may grow with the batch."""
        shape = dims(value)[start:]
        if None in shape:
            raise NotImplementedError(f"the shape of {value.name!r} depends on the batch in axis {shape.index(None)}")
        return [d for d in shape if d is not None]

    def output(self, i: int) -> ir.Value:
        """Return output `i`; the node makes it from now on, if it has not."""
        if i >= len(self.node.outputs):
            self.node.resize_outputs(i + 1)
        value = self.node.outputs[i]
        value.name = value.name or f"{self.y.name}/output_{i}"
        return value


@dataclass(frozen=True)
class BodyStep(NodeReader):
    """One step of the walk at a node that holds bodies.

    Attributes:
        op: Appends nodes.
        node: The node to differentiate.
        received: Gradient of each output, None where nothing reaches the logits from it.
        wanted: The tensors to differentiate by: inputs of the node, and what its bodies read of the graphs around them.
        walk: Appends gradients within a body; see `gradients` in `walk.py`.
    """

    op: Ops
    node: ir.Node
    received: Sequence[ir.Value | None]
    wanted: Sequence[ir.Value]
    walk: Walk


def unbroadcast(op: Ops, gradient: ir.Value, wide: Dims, x: ir.Value) -> ir.Value:
    """Return the sum of `gradient`, of shape `wide`, over the axes along which `x` was broadcast."""
    narrow = dims(x)
    missing = len(wide) - len(narrow)
    axes = [i for i, d in enumerate(wide) if i < missing or (narrow[i - missing] == 1 and d != 1)]
    if not axes:
        return gradient
    summed = op.ReduceSum(gradient, op.ints(axes), keepdims=int(len(axes) > missing))
    return op.reshape_as(summed, x) if 0 < missing < len(axes) else summed


def along(s: Step, matrix: Array, value: ir.Value, shape: Dims, axis: int) -> ir.Value:
    """Return `value`, of shape `shape`, multiplied by a constant matrix along one axis, as long as its columns.

    The axes behind it are joined meanwhile: that copies nothing, where a move of the axis to the end would.
    """
    op, rest, (rows, columns) = s.op, shape[axis + 1 :], matrix.shape
    if not rest:
        return op.MatMul(value, s.like(matrix.T))
    kept = [0] * axis  # Reshape takes a 0 as "this axis as it is"
    if len(rest) == 1:
        return op.MatMul(s.like(matrix), value)
    joined = op.MatMul(s.like(matrix), op.Reshape(value, op.ints([*kept, columns, -1])))
    return op.Reshape(joined, op.ints([*kept, rows, *(-1 if d is None else d for d in rest)]))


def product(shape: Sequence[int]) -> int:
    """Return the number of elements of a shape."""
    return int(np.prod(shape, dtype=np.int64))
