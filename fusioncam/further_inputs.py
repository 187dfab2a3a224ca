"""Further inputs of a model, beside the picture that is explained: a part of the manifest."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from fusioncam.errors import UsageError
from fusioncam.input_values import InputValue, fitting_shape, option, read_value
from fusioncam.kernels.arrays import Array
from fusioncam.preprocessing import Part, Positive

ElementType = Literal[
    "float32", "float16", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
]  # fmt: skip
Count = Annotated[int, Field(ge=0)]
RUNTIME_NAMES = {"float32": "float", "float64": "double"}  # where onnxruntime's differ from NumPy's
WHITE = 255


class FurtherInput(Part):
    """A further input of a bundle's graphs: one value for all passes of a picture.

    Attributes:
        name: Its name in the source, by which users give its value.
        tensor: Its name in the graphs, which need some names for their own inputs and outputs.
        type: Type of its elements.
        shape: Its shape without the batch, which comes first.
        channel_axis: Of a picture, which is prepared as the explained one is, the axis of its channels; None of others.
        entries: Of numbers that choose from tables, the length of the table of each element, 0 for no table; one length
            where that of all elements is the same; empty where none chooses.
        default: The value where none is given, element by element; None where one must be given.
    """

    name: str
    tensor: str
    type: ElementType
    shape: tuple[Count, ...]
    channel_axis: Positive | None = None
    entries: tuple[Count, ...] = ()
    default: tuple[bool | int | float, ...] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return NumPy's type of the elements."""
        return np.dtype(self.type)

    @property
    def runtime_type(self) -> str:
        """Return onnxruntime's name of the type."""
        return f"tensor({RUNTIME_NAMES.get(self.type, self.type)})"

    @property
    def words(self) -> str:
        """Return name, type and shape for errors and lists: `'meta' float32 (4)`."""
        return f"{self.name!r} {self.type} ({', '.join(map(str, self.shape))})"

    @property
    def size(self) -> tuple[int, ...] | None:
        """Return (H, W) of a picture, None of other inputs."""
        axis = self.channel_axis
        return None if axis is None else (*self.shape[: axis - 1], *self.shape[axis:])

    def row(self, value: InputValue) -> Array:
        """Return a value as the input's row for one picture, (1, ...).

        Raises:
            UsageError: The value cannot be read, or is of another type, shape or range.
        """
        array = read_value(value, self.type, self.name)
        shape = fitting_shape(value, array, (1, *self.shape))
        if shape is None:
            raise UsageError(
                f"the value of input {self.words} has shape ({', '.join(map(str, array.shape))}); give one of its shape"
            )
        row = np.ascontiguousarray(array).reshape(shape)
        tables = np.broadcast_to(self._tables, shape)
        places = np.nonzero((tables > 0) & ((row < -tables) | (row >= tables))) if self.entries else ((),)
        if len(places[0]):
            raise UsageError(
                f"input {self.name!r} chooses from a table of {tables[places][0]}, numbered from 0, and is given "
                f"{row[places][0]}"
            )
        return row

    def default_row(self) -> Array | None:
        """Return the row for a picture without a value, (1, ...); None where a value must be given."""
        return None if self.default is None else np.array(self.default, self.dtype).reshape(1, *self.shape)

    def draw(self, count: int, seed: int = 0) -> Array:
        """Return values for so many pictures, (count, ...), to try graphs on; those of one seed begin alike.

        Real numbers lie in 0..1. Whole ones are places in their table, or 1: most others are masks, switches and sizes.
        """
        shape = (count, *self.shape)
        numbers = np.random.default_rng(seed).random(shape)
        most = self._tables
        if self.channel_axis is not None and self.dtype.kind != "f":
            most = np.array(min(WHITE, np.iinfo(self.dtype).max))
        others = numbers if self.dtype.kind == "f" else 1
        return np.asarray(np.where(most > 0, np.floor(numbers * most), others)).astype(self.dtype)

    @property
    def _tables(self) -> Array:
        """Return the length of the table of each element, 0 for none, in a shape that broadcasts to a row."""
        return np.array(self.entries or (0,)).reshape(1, *(self.shape if len(self.entries) > 1 else ()))


def drawn(inputs: Iterable[FurtherInput], count: int, seed: int = 0) -> dict[str, Array]:
    """Return values of all inputs for so many pictures, by tensor; see `FurtherInput.draw`."""
    return {each.tensor: each.draw(count, seed + n) for n, each in enumerate(inputs, start=1)}


def refuse_inputs(inputs: Sequence[FurtherInput], what: str) -> None:
    """Raise UsageError where a model has further inputs, for what takes pictures alone."""
    if inputs:
        values = " ".join(f"--input {each.name}=VALUE" for each in inputs)
        taken = ", ".join(each.words for each in inputs)
        raise UsageError(f"{what} takes models of one input, and this one also takes {taken}: export it with {values}")


def missing(each: FurtherInput) -> str:
    """Return the way to give an input its value, for errors."""
    return f"give it with inputs={{{each.name!r}: ...}}, or {option(each.name)}"
