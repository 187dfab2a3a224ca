"""The table of gradient rules, and what a rule gets to work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fusioncam.export.gradient.tape import Dims, Ops, dims
from fusioncam.kernels.arrays import Array

Gradient = Callable[["Step"], ir.Value | None]


@dataclass(frozen=True)
class Rule:
    """How one operator is differentiated.

    Attributes:
        gradient: Appends the gradient with respect to input `Step.index`; None where it is zero everywhere.
        broadcasts: The gradient is returned in the shape of the output, and the walker sums it to that of the input.
        every_input: Any input may be asked for, not just the first: the others are no mere weights or parameters.
    """

    gradient: Gradient
    broadcasts: bool = False
    every_input: bool = False


RULES: dict[tuple[str, str], Rule] = {}


def rule(
    *op_types: str, domain: str = "", broadcasts: bool = False, every_input: bool = False
) -> Callable[[Gradient], Gradient]:
    """Enter the decorated function into the table as the rule of `op_types`, of ONNX's own domain or another."""

    def enter(gradient: Gradient) -> Gradient:
        for op_type in op_types:
            RULES[domain, op_type] = Rule(gradient, broadcasts, every_input)
        return gradient

    return enter


@dataclass(frozen=True)
class Step:
    """One step of the walk: a node, the gradients of its outputs, and the input in question.

    Attributes:
        op: Appends nodes.
        node: The node to differentiate.
        received: Gradient of each output, None where nothing reaches the logits from it.
        index: Which input the gradient is wanted for.
    """

    op: Ops
    node: ir.Node
    received: Sequence[ir.Value | None]
    index: int

    @property
    def dy(self) -> ir.Value:
        """Gradient of the first output, which must be the only one that matters."""
        first, *others = self.received
        if first is None or any(others):
            raise NotImplementedError("an output other than its first is used")
        return first

    @property
    def x(self) -> ir.Value:
        """The input in question."""
        return self.input(self.index)

    @property
    def y(self) -> ir.Value:
        """The first output."""
        return self.node.outputs[0]

    def input(self, i: int) -> ir.Value:
        """Input `i`, which must be there."""
        value = self.node.inputs[i]
        assert value is not None
        return value

    def has(self, i: int) -> bool:
        """Whether the optional input `i` is given."""
        return len(self.node.inputs) > i and self.node.inputs[i] is not None

    def constant(self, i: int) -> Array | None:
        """The value of input `i`, or None if it is not a constant."""
        tensor = ir.convenience.get_const_tensor(self.input(i))
        return None if tensor is None else tensor.numpy()

    def array(self, i: int) -> Array:
        """The value of input `i`.

        Raises:
            NotImplementedError: The input is not a constant.
        """
        value = self.constant(i)
        if value is None:
            raise NotImplementedError(f"its input {i} ({self.input(i).name!r}) is not a constant")
        return value

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or `default`."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def axis(self, default: int) -> int:
        """The attribute `axis`, counted from the front."""
        axis = int(self.attribute("axis", default))
        return axis + len(dims(self.input(0))) if axis < 0 else axis

    def like(self, array: npt.ArrayLike) -> ir.Value:
        """A constant of the element type of the input in question."""
        if self.x.dtype is None or not self.x.dtype.is_floating_point():
            raise NotImplementedError(f"it works on {self.x.dtype}")
        return self.op.like(array, self.x)

    def static(self, value: ir.Value, start: int = 0) -> list[int]:
        """The dimensions of `value` from axis `start` on, none of which may grow with the batch."""
        shape = dims(value)[start:]
        if None in shape:
            raise NotImplementedError(f"the shape of {value.name!r} depends on the batch in axis {shape.index(None)}")
        return [d for d in shape if d is not None]


def unbroadcast(op: Ops, gradient: ir.Value, wide: Dims, x: ir.Value) -> ir.Value:
    """Sum `gradient`, of shape `wide`, over the axes along which `x` was broadcast."""
    narrow = dims(x)
    missing = len(wide) - len(narrow)
    axes = [i for i, d in enumerate(wide) if i < missing or (narrow[i - missing] == 1 and d != 1)]
    if not axes:
        return gradient
    summed = op.ReduceSum(gradient, op.ints(axes), keepdims=int(len(axes) > missing))
    return op.reshape_as(summed, x) if 0 < missing < len(axes) else summed


def along(s: Step, matrix: Array, value: ir.Value, shape: Dims, axis: int) -> ir.Value:
    """Multiply `value`, of shape `shape`, by a constant matrix along one axis, whose elements match its columns.

    The axes behind are taken as one meanwhile: that copies nothing, where moving the axis to the end would.
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
    """Number of elements."""
    return int(np.prod(shape, dtype=np.int64))
