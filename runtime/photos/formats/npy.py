"""Arrays in files of NumPy, .npy and .npz: the header is checked before memory is taken, and nothing is unpickled."""

import io
import math
import zipfile
from typing import IO

import numpy as np
from numpy.lib import format as npy

from fusioncam.errors import ImageError, first_line, out_of_memory
from fusioncam.kernels.arrays import Array

NPY, ZIP = b"\x93NUMPY", b"PK\x03\x04"
SUFFIXES = {".npy", ".npz"}
NAMED = "image"  # the array of an .npz that counts, where it holds several
KINDS = "buif"  # of NumPy's types: truth values, whole numbers, and real ones
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def is_array_file(data: bytes) -> bool:
    """Return whether a file is an .npy or an .npz, by its first bytes."""
    if data.startswith(ZIP):
        length = int.from_bytes(data[26:28], "little")
        return data[30 : 30 + length].endswith(b".npy")
    return data.startswith(NPY)


def read_array(data: bytes, name: str, most: int) -> Array:
    """Return the array in a file.

    Args:
        data: The file: an .npy; or an .npz that holds one array, or one called `image`.
        name: The file's name in errors.
        most: The greatest number of elements.

    Raises:
        ImageError: The file is damaged, holds objects or texts, is too large, or does not say which array counts.
        OutOfMemoryError: There is not enough memory.
    """
    try:
        if data.startswith(NPY):
            return _read(io.BytesIO(data), name, most)
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(_member(archive, name)) as file:
            return _read(file, name, most)
    except ImageError:
        raise
    except Exception as error:  # of NumPy's parser of headers, of zipfile and of zlib
        raise out_of_memory(error) or ImageError(
            f"{name} is damaged or cut short ({first_line(error)}): save the array again"
        ) from error


def _member(archive: zipfile.ZipFile, name: str) -> str:
    names = [n.removesuffix(".npy") for n in archive.namelist()]
    if len(names) > 1 and NAMED not in names:
        found = ", ".join(map(repr, names[:8]))
        raise ImageError(f"{name} holds {len(names)} arrays ({found}): save one alone, or call it {NAMED!r}")
    return f"{NAMED if NAMED in names else names[0]}.npy"


def _read(file: IO[bytes], name: str, most: int) -> Array:
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise ImageError(f"{name} holds records, not numbers: save a plain array")
    shape, turned, dtype = _HEADERS[version](file)
    if dtype.kind not in KINDS:
        raise ImageError(f"{name} holds {dtype}, not real numbers: save an array of whole numbers or floats")
    count = math.prod(shape)
    if not 0 < count <= most:
        raise ImageError(f"{name} holds {count:,} numbers, the limit is {most:,}: shrink it first")
    content = file.read(count * dtype.itemsize)
    if len(content) != count * dtype.itemsize:
        raise ImageError(f"{name} is damaged or cut short: save the array again")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if turned else "C")
