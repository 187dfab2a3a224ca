"""Further inputs of one picture: their values, in the forms that users have them, become rows for the graphs."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.further_inputs import FurtherInput, drawn, missing
from fusioncam.input_values import ARRAY_FILE, InputValue, InputValues, read_array_file
from fusioncam.kernels.arrays import Array, Size
from fusioncam.manifest import Manifest
from fusioncam.runtime.prepared import prepare


@dataclass(frozen=True, eq=False)
class PictureInputs:
    """The further inputs of one picture, the same for all of its passes.

    Attributes:
        rows: By the names of the graphs' inputs, (1, ...).
        widths: Of those that lie on the places of the picture, the axis along which it is mirrored.
    """

    rows: Mapping[str, Array] = field(default_factory=dict)
    widths: Mapping[str, int] = field(default_factory=dict)

    def mirrored(self) -> Self:
        """Return the inputs of the mirrored picture: what lies on its places is mirrored with it."""
        turned = {name: np.ascontiguousarray(np.flip(self.rows[name], axis)) for name, axis in self.widths.items()}
        return replace(self, rows={**self.rows, **turned})

    def repeated(self, count: int) -> dict[str, Array]:
        """Return the rows for so many passes of the picture, (count, ...)."""
        return {name: np.repeat(row, count, axis=0) for name, row in self.rows.items()}


NO_INPUTS = PictureInputs()
"""The inputs of a picture whose model takes nothing else."""


def read_inputs(
    manifest: Manifest, values: InputValues | PictureInputs | None, usual: Mapping[str, Array] | None = None
) -> PictureInputs:
    """Return the further inputs of a picture.

    Args:
        manifest: The bundle's.
        values: See `given_rows`.
        usual: Rows of inputs for which no value is given, by the names of the graphs' inputs.

    Raises:
        UsageError: As of `given_rows`; a value is missing, and has no default.
        ImageError: A second picture cannot be read.
    """
    if isinstance(values, PictureInputs):
        return values
    rows = {**(usual or {}), **given_rows(manifest, values)}
    for each in manifest.inputs:
        if each.tensor not in rows:
            default = each.default_row()
            if default is None:
                raise UsageError(f"the model also takes {each.words} for each picture: {missing(each)}")
            rows[each.tensor] = default
    return _placed(manifest, rows)


def given_rows(manifest: Manifest, values: InputValues | None) -> dict[str, Array]:
    """Return the rows (1, ...) of values, by the names of the graphs' inputs.

    Args:
        manifest: The bundle's.
        values: By the names of the source's inputs. The value of a second picture may have any form of a picture, and
            is prepared as the explained one is; an array of the input's own type and shape is taken as it is.

    Raises:
        UsageError: A value does not fit its input, or is for no input of the model.
        ImageError: A second picture cannot be read.
    """
    takes = {each.name: each for each in manifest.inputs}
    if not isinstance(values, Mapping | None):
        raise UsageError(f"inputs is a mapping from names to values, not {type(values).__name__}")
    given = {name: value for name, value in (values or {}).items() if value is not None}
    if strange := [name for name in given if name not in takes]:
        listed = ", ".join(each.words for each in manifest.inputs)
        raise UsageError(f"the model has no further input {strange[0]!r}; it takes {listed or 'the picture alone'}")
    return {takes[name].tensor: _row(manifest, takes[name], value) for name, value in given.items()}


def input_digests(manifest: Manifest, values: InputValues) -> dict[str, str]:
    """Return a sha256 of each value, by the names of the graphs' inputs; raise the errors of `given_rows`."""
    return {name: hashlib.sha256(row.tobytes()).hexdigest() for name, row in given_rows(manifest, values).items()}


def drawn_inputs(manifest: Manifest, seed: int = 0) -> PictureInputs:
    """Return inputs at random, to try a model with."""
    return _placed(manifest, drawn(manifest.inputs, 1, seed))


def _placed(manifest: Manifest, rows: Mapping[str, Array]) -> PictureInputs:
    size = manifest.preprocessing.size
    widths = {each.tensor: axis for each in manifest.inputs if (axis := _width(each, size)) is not None}
    return PictureInputs(rows, widths)


def _width(each: FurtherInput, size: Size) -> int | None:
    """Return the axis of the picture's width in a row; None where the input does not lie on the picture's places."""
    if each.size == size:
        return len(each.shape) - (each.channel_axis == len(each.shape))
    return len(each.shape) if each.shape[-len(size) :] == size else None


def _row(manifest: Manifest, each: FurtherInput, value: InputValue) -> Array:
    if each.size is None:
        return each.row(value)
    named = isinstance(value, str | os.PathLike) and os.fspath(value).endswith(ARRAY_FILE)
    array = read_array_file(value, each.name) if named else value
    if _is_ready(each, array):
        return each.row(array)
    preprocessing = manifest.preprocessing.model_copy(update={"size": each.size})
    x: Array = np.moveaxis(prepare(array, preprocessing).x[None], 1, each.channel_axis or 1)
    if each.dtype.kind in "iu":
        ends = np.iinfo(each.dtype)
        x = np.clip(np.rint(x), ends.min, ends.max)
    return np.ascontiguousarray(x.astype(each.dtype))


def _is_ready(each: FurtherInput, value: Any) -> bool:
    """Return whether a value is the input itself, and no picture that is to be prepared."""
    shape, kind = getattr(value, "shape", None), getattr(value, "dtype", None)
    return tuple(shape or ()) in (each.shape, (1, *each.shape)) and str(kind).rpartition(".")[2] == each.type
