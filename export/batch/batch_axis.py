"""Places of the batch in tensors, and the table of rules by which operators move them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.reader import NodeReader
from fusioncam.kernels.arrays import Array

REMEDY = "export the model with a dynamic batch axis"


@dataclass(frozen=True)
class Place:
    """The place of the batch in a tensor: `axis`, whose size is lead * batch * (the rest)."""

    axis: int
    lead: int = 1


@dataclass(frozen=True)
class Passage:
    """One way of the batch through a node.

    Attributes:
        outputs: The place of the batch in every output; None where an output has none.
        operands: Places at which the batch meets inputs that are made without the image, by the index of the input.
        broadcasts: Whether one row of such an operand serves all images; else it is repeated for each.
        picks_own: Whether each image picks rows of its own by their numbers in it, of rows that lie behind each other.
        reshaped: Whether the batch comes to its place in the output by a Reshape, which one image does not need.
    """

    outputs: tuple[Place | None, ...]
    operands: Mapping[int, Place] = field(default_factory=dict)
    broadcasts: bool = True
    picks_own: bool = False
    reshaped: bool = False


class NoPlaceError(Exception):
    """An error for a node that the batch cannot have gone through.

    Args:
        why: The end of a sentence that begins with the name of the node: what it does.
        remedy: Advice to the user.
    """

    def __init__(self, why: str, remedy: str = REMEDY) -> None:
        super().__init__(why)
        self.remedy = remedy


@dataclass(frozen=True)
class Visit(NodeReader):
    """A node that the batch comes into.

    Attributes:
        node: The node.
        places: The place of the batch in every tensor so far that carries it.
        batch: Its size.
    """

    node: ir.Node
    places: Mapping[ir.Value, Place]
    batch: int

    def carries(self, i: int) -> bool:
        """Return whether input `i` carries the batch."""
        return self.has(i) and self.node.inputs[i] in self.places

    def place(self, i: int) -> Place:
        """Return the place of the batch in input `i`, which carries it."""
        return self.places[self.input(i)]

    def shape(self, i: int) -> tuple[int, ...]:
        """Return the shape of input `i`."""
        return shape_of(self.input(i))

    @property
    def before(self) -> tuple[int, ...]:
        """Return the shape of the first input."""
        return self.shape(0)

    @property
    def after(self) -> tuple[int, ...]:
        """Return the shape of the first output."""
        return shape_of(self.node.outputs[0])

    @property
    def carrying(self) -> list[int]:
        """Return the indices of the inputs that carry the batch."""
        return [i for i in range(len(self.node.inputs)) if self.carries(i)]

    def only(self, *allowed: int) -> None:
        """Make sure that no other inputs than these carry the batch.

        Raises:
            NoPlaceError: The batch comes in by another input, which usually holds parameters.
        """
        if strange := [i for i in self.carrying if i not in allowed]:
            raise NoPlaceError(f"computes its input {strange[0]} from the image")

    def everywhere(self, place: Place, operands: Mapping[int, Place] | None = None, broadcasts: bool = True) -> Passage:
        """Return the passage that has the batch in the same place of all outputs."""
        return Passage((place,) * len(self.node.outputs), operands or {}, broadcasts)

    def stacked(self, place: Place, inputs: Iterable[int]) -> Passage:
        """Return the passage of an operator all of whose `inputs` have a row for every image, in one place.

        Raises:
            NoPlaceError: The batch has another place in one of them.
        """
        inputs = [i for i in inputs if self.has(i)]
        self.only(*inputs)
        if any(self.place(i) != place for i in self.carrying):
            raise NoPlaceError("takes the batch in another axis")
        return self.everywhere(place, {i: place for i in inputs if not self.carries(i)}, broadcasts=False)


Rule = Callable[[Visit], list[Passage]]
PASSAGES: dict[tuple[str, str], Rule] = {}


def passage(*op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Return a decorator that enters a function into the table as the rule of `op_types` in a domain."""

    def enter(rule: Rule) -> Rule:
        PASSAGES.update({(domain, op_type): rule for op_type in op_types})
        return rule

    return enter


def shape_of(value: ir.Value) -> tuple[int, ...]:
    """Return the shape of a tensor, all of whose dimensions are known."""
    assert value.shape is not None
    return tuple(d for d in value.shape if isinstance(d, int))


def only(places: Iterable[Place]) -> Place:
    """Return the one place that all `places` are.

    Raises:
        NoPlaceError: The places differ.
    """
    first, *others = set(places)
    if others:
        raise NoPlaceError("joins images of one place with those of another")
    return first


def one_row(array: Array, place: Place, batch: int) -> Array | None:
    """Return a constant with its batch cut to one image; None where it differs between the images."""
    split = array.reshape(split_shape(array.shape, place, batch))
    first = split.take([0], place.axis + 1)
    if not np.array_equal(split, np.broadcast_to(first, split.shape)):
        return None
    shape = list(array.shape)
    shape[place.axis] //= batch
    return first.reshape(shape)


def split_shape(shape: Sequence[int], place: Place, batch: int) -> list[int]:
    """Return `shape` with the axis of the batch split into its lead, the batch and the rest."""
    size = shape[place.axis]
    return [*shape[: place.axis], place.lead, batch, size // (place.lead * batch), *shape[place.axis + 1 :]]
