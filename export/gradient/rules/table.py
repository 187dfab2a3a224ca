"""The table of gradient rules, and what a rule gets to work with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fusioncam.export.gradient.tape import Ops, dims

Gradient = Callable[["Step"], ir.Value | None]


@dataclass(frozen=True)
class Rule:
    """How one operator is differentiated.

    Attributes:
        gradient: Appends the gradient with respect to input `Step.index`; None where it is zero everywhere.
        broadcasts: The gradient is returned in the shape of the output, and the walker sums it to that of the input.
    """

    gradient: Gradient
    broadcasts: bool = False


RULES: dict[tuple[str, str], Rule] = {}


def rule(*op_types: str, broadcasts: bool = False, domain: str = "") -> Callable[[Gradient], Gradient]:
    """Enter the decorated function into the table as the rule of `op_types`."""

    def enter(gradient: Gradient) -> Gradient:
        for op_type in op_types:
            RULES[domain, op_type] = Rule(gradient, broadcasts)
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
        """Gradient of the first output."""
        if self.received[0] is None:
            raise NotImplementedError("only its second or a later output is used")
        return self.received[0]

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

    def array(self, i: int) -> npt.NDArray[Any]:
        """The value of input `i`.

        Raises:
            NotImplementedError: The input is not a constant.
        """
        value = self.input(i).const_value
        if value is None:
            raise NotImplementedError(f"its input {i} ({self.input(i).name!r}) is not a constant")
        return value.numpy()

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or `default`."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def axis(self, default: int) -> int:
        """The attribute `axis`, counted from the front."""
        axis = int(self.attribute("axis", default))
        return axis + len(dims(self.input(0))) if axis < 0 else axis

    def scalar(self, value: float) -> ir.Value:
        """A constant scalar of the element type of the input in question."""
        return self.op.like(value, self.x)

    def only_input(self, *allowed: int) -> None:
        """Refuse to differentiate by a weight or a parameter that is computed from the image."""
        if self.index not in allowed:
            raise NotImplementedError(f"its input {self.index} ({self.x.name!r}) depends on the layer")

    def static(self, value: ir.Value, start: int = 0) -> list[int]:
        """The dimensions of `value` from axis `start` on, none of which may grow with the batch."""
        shape = dims(value)[start:]
        if None in shape:
            raise NotImplementedError(f"the shape of {value.name!r} depends on the batch in axis {shape.index(None)}")
        return [d for d in shape if d is not None]


def product(shape: Sequence[int]) -> int:
    """Number of elements."""
    return int(np.prod(shape, dtype=np.int64))
