"""Values for the inputs of a model, in the forms that users have them: text, lists, arrays, files."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from fusioncam.errors import UsageError, first_line
from fusioncam.kernels.arrays import Array

InputValue: TypeAlias = Any
"""A number, a list, an array of any library, text as on the command line, or the path of a .npy file."""
InputValues: TypeAlias = Mapping[str, InputValue]
"""Values by the name of the input."""

ARRAY_FILE = ".npy"
TRUTHS = {"true": True, "1": True, "false": False, "0": False}
SHOWN = 60  # characters of a value that an error repeats


def option(name: str) -> str:
    """Return the option that gives an input a value, for errors."""
    return f"--input {name}=VALUE or --input {name}=FILE{ARRAY_FILE}"


def read_value(value: InputValue, kind: str, name: str) -> Array:
    """Return a value as an array of a type, in its own shape; a list in a text has one axis.

    Args:
        value: The value.
        kind: NumPy's name of the type, or `string`.
        name: The input, for errors.

    Raises:
        UsageError: The file cannot be read, or the value does not fit the type without loss.
    """
    if isinstance(value, os.PathLike) or (isinstance(value, str) and value.endswith(ARRAY_FILE)):
        array = read_array_file(value, name)
    elif isinstance(value, str):
        array = _of_text(value, kind, name)
    else:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError, RuntimeError) as error:  # ragged lists, tensors on a GPU
            raise UsageError(f"the value of input {name!r} is no array: {first_line(error)}") from error
    if kind == "string":
        return array.astype(str).astype(object)
    cast = _without_loss(array, np.dtype(kind))
    if cast is None:
        held = f"{array.dtype} numbers" if array.dtype.kind in "biuf" else f"{array.dtype} values"
        raise UsageError(f"input {name!r} takes {kind}, which cannot hold the {held} that it is given")
    return cast


def fitting_shape(value: InputValue, array: Array, dims: Sequence[int | None]) -> tuple[int, ...] | None:
    """Return the shape in which an array serves as an input of `dims`; None where it does not fit.

    Args:
        value: The value that the array was read from: a number, or numbers in a text, have no shape of their own.
        array: The array.
        dims: Sizes, None for any. The first may be left out where it can be 1.
    """
    shapes = [array.shape]
    if dims and dims[0] in (None, 1):
        shapes.append((1, *array.shape))
    if array.ndim == 0 or (isinstance(value, str) and not value.endswith(ARRAY_FILE)):
        open_axes = [i for i, d in enumerate(dims) if d is None]
        if len(open_axes) > 1 and open_axes[0] == 0:
            open_axes = open_axes[1:]
        known = math.prod(d or 1 for d in dims)
        rest = array.size // max(known, 1)
        shapes.append(tuple(rest if [i] == open_axes else d or 1 for i, d in enumerate(dims)))
    for shape in shapes:
        whole = len(shape) == len(dims) and math.prod(shape) == array.size
        if whole and all(d in (None, size) for d, size in zip(dims, shape, strict=True)):
            return shape
    return None


def read_array_file(path: str | os.PathLike[str], name: str) -> Array:
    """Return the array of a .npy file, for the input of this name; raise UsageError where there is none."""
    try:
        array = np.load(os.fspath(path), allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"the value of input {name!r} cannot be read: {first_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise UsageError(
            f"{os.fspath(path)} holds several arrays; give the one for input {name!r} as a {ARRAY_FILE} file"
        )
    return array


def _of_text(text: str, kind: str, name: str) -> Array:
    """Return a text as an array: one value, or a list with commas."""
    words = [word.strip() for word in text.split(",")]
    if kind == "string":
        return np.array(words, object)
    try:
        if kind == "bool":
            return np.array([TRUTHS[word.lower()] for word in words])
        return np.array([(float if kind.startswith("float") else int)(word) for word in words])
    except (KeyError, ValueError) as error:
        shown = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
        raise UsageError(
            f"input {name!r} takes {kind}: give a number, several with commas, or a {ARRAY_FILE} file, not {shown!r}"
        ) from error


def _without_loss(array: Array, dtype: np.dtype[Any]) -> Array | None:
    """Return an array in another type; None where its values are none of that type."""
    if array.dtype.kind not in "biuf":
        return None
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
    if dtype.kind == "f":  # rounding is no loss, infinity is
        return cast if np.array_equal(np.isfinite(cast), np.isfinite(array)) else None
    return cast if np.array_equal(cast, array) else None
