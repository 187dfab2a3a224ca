"""Reading nodes: their inputs, constants and attributes, as the rules of every table need them."""

from collections.abc import Iterable
from typing import Any

import onnx_ir as ir

from fusioncam.kernels.arrays import Array


class NodeReader:
    """A node, read by the positions of its inputs and the names of its attributes.

    Attributes:
        node: The node.
    """

    node: ir.Node

    def has(self, i: int) -> bool:
        """Return whether input `i` is given."""
        return len(self.node.inputs) > i and self.node.inputs[i] is not None

    def input(self, i: int) -> ir.Value:
        """Return input `i`, which must be given."""
        value = self.node.inputs[i]
        assert value is not None
        return value

    def given(self, i: int) -> ir.Value | None:
        """Return input `i`, or None where it is not given."""
        return self.node.inputs[i] if self.has(i) else None

    def constant(self, i: int) -> Array | None:
        """Return the value of input `i`, or None where that is absent or no constant."""
        return constant_of(self.input(i)) if self.has(i) else None

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return the value of an attribute, or `default` where the node has none of that name."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value


def constant_of(value: ir.Value | None) -> Array | None:
    """Return the numbers of a constant, or None where a value is absent or none."""
    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def number_for(axis: int, numbers: Array | None, axes: Iterable[int] | None, rank: int) -> Any:
    """Return the entry of `numbers` for one axis, or None.

    Args:
        axis: The axis, counted from the front.
        numbers: An entry for each of some axes; None or empty for no entry.
        axes: These axes; by default the first ones.
        rank: The number of all axes.
    """
    if numbers is None or not len(numbers):
        return None
    named = range(len(numbers)) if axes is None else [int(a) % rank for a in axes]
    return next((number for a, number in zip(named, numbers, strict=True) if a == axis), None)
