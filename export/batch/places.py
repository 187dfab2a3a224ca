"""Places of the batch in tensors, and the table of what operators make of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from fusioncam.kernels.arrays import Array

REMEDY = "export the model with a dynamic batch axis"


@dataclass(frozen=True)
class Place:
    """The place of the batch in a tensor: `axis`, whose size is lead * batch * (whatever remains)."""

    axis: int
    lead: int = 1


@dataclass(frozen=True)
class Passage:
    """One way of the batch through a node.

    Attributes:
        outputs: Its place in every output; None where it is not in it.
        operands: Inputs that are made without the image and meet the batch, by index, and where in them.
        broadcasts: Whether one row of such an operand serves all images; else it is repeated for each.
    """

    outputs: tuple[Place | None, ...]
    operands: Mapping[int, Place] = field(default_factory=dict)
    broadcasts: bool = True


class NoPlaceError(Exception):
    """The batch cannot have gone through this node.

    Args:
        why: What the node does, as the end of a sentence that begins with its name.
        remedy: What the user is to do.
    """

    def __init__(self, why: str, remedy: str = REMEDY) -> None:
        super().__init__(why)
        self.remedy = remedy


@dataclass(frozen=True)
class Visit:
    """A node that the batch comes into.

    Attributes:
        node: The node.
        places: The place of the batch in every tensor so far that carries it.
        batch: Its size.
    """

    node: ir.Node
    places: Mapping[ir.Value, Place]
    batch: int

    def has(self, i: int) -> bool:
        """Return whether input `i` is given."""
        return len(self.node.inputs) > i and self.node.inputs[i] is not None

    def carries(self, i: int) -> bool:
        """Return whether input `i` carries the batch."""
        return self.has(i) and self.node.inputs[i] in self.places

    def place(self, i: int) -> Place:
        """The place of the batch in input `i`, which carries it."""
        value = self.node.inputs[i]
        assert value is not None
        return self.places[value]

    def shape(self, i: int) -> tuple[int, ...]:
        """The shape of input `i`."""
        value = self.node.inputs[i]
        assert value is not None
        return shape_of(value)

    @property
    def before(self) -> tuple[int, ...]:
        """The shape of the first input."""
        return self.shape(0)

    @property
    def after(self) -> tuple[int, ...]:
        """The shape of the first output."""
        return shape_of(self.node.outputs[0])

    @property
    def carrying(self) -> list[int]:
        """The inputs that carry the batch."""
        return [i for i in range(len(self.node.inputs)) if self.carries(i)]

    def only(self, *allowed: int) -> None:
        """Make sure that the batch comes in by these inputs alone.

        Raises:
            NoPlaceError: It comes in by another, which holds parameters as a rule.
        """
        if strange := [i for i in self.carrying if i not in allowed]:
            raise NoPlaceError(f"computes its input {strange[0]} from the image")

    def constant(self, i: int) -> Array | None:
        """The value of input `i`, or None where it is not given or not constant."""
        value = self.node.inputs[i] if self.has(i) else None
        return None if value is None or value.const_value is None else value.const_value.numpy()

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute, or `default`."""
        attribute = self.node.attributes.get(name)
        return default if attribute is None else attribute.value

    def everywhere(self, place: Place, operands: Mapping[int, Place] | None = None, broadcasts: bool = True) -> Passage:
        """The passage that has the batch in the same place of all outputs."""
        return Passage((place,) * len(self.node.outputs), operands or {}, broadcasts)

    def stacked(self, place: Place, inputs: Iterable[int]) -> Passage:
        """The passage of an operator all of whose `inputs` have a row for every image, in one place.

        Raises:
            NoPlaceError: The batch is elsewhere in one of them.
        """
        inputs = [i for i in inputs if self.has(i)]
        self.only(*inputs)
        if any(self.place(i) != place for i in self.carrying):
            raise NoPlaceError("takes the batch in another axis")
        return self.everywhere(place, {i: place for i in inputs if not self.carries(i)}, broadcasts=False)


Rule = Callable[[Visit], list[Passage]]
PASSAGES: dict[tuple[str, str], Rule] = {}


def passage(*op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Enter the decorated function into the table as what `op_types` make of the place of the batch."""

    def enter(rule: Rule) -> Rule:
        PASSAGES.update({(domain, op_type): rule for op_type in op_types})
        return rule

    return enter


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """The shape of a tensor, all of whose dimensions are known."""
    assert value.shape is not None
    return tuple(d for d in value.shape if isinstance(d, int))


def only(found: Iterable[Place]) -> Place:
    """The place that all of `found` are.

    Raises:
        NoPlaceError: They differ.
    """
    first, *others = set(found)
    if others:
        raise NoPlaceError("joins images of one place with those of another")
    return first


def one_row(array: Array, place: Place, batch: int) -> Array | None:
    """Return what a constant holds for one image, its batch cut to 1; None where it differs between the images."""
    split = array.reshape(split_shape(array.shape, place, batch))
    first = split.take([0], place.axis + 1)
    if not np.array_equal(split, np.broadcast_to(first, split.shape)):
        return None
    shape = list(array.shape)
    shape[place.axis] //= batch
    return first.reshape(shape)


def split_shape(shape: Sequence[int], place: Place, batch: int) -> list[int]:
    """`shape` with the axis of the batch taken apart: what leads, the batch, what remains."""
    size = shape[place.axis]
    return [*shape[: place.axis], place.lead, batch, size // (place.lead * batch), *shape[place.axis + 1 :]]
