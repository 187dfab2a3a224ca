"""Volumes in files of NIfTI, .nii and .nii.gz, read and written by nibabel, which comes with the extra `nifti`."""

import gzip
import io
import math
import zlib
from types import ModuleType
from typing import Any

import numpy as np

from fusioncam.errors import ImageError, first_line
from fusioncam.kernels.arrays import Array, Float32Array

SUFFIXES = (".nii", ".nii.gz")
GZIP = b"\x1f\x8b"
HEADER = 540  # bytes of the longer of both headers
MAGIC = {348: (344, b"n+1\0"), 540: (4, b"n+2\0")}  # by the size that a header begins with: where it says so


def is_nifti(data: bytes) -> bool:
    """Return whether a file is a NIfTI of one file, packed by gzip or not."""
    head = _head(data)
    sizes = int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")
    return any(size in sizes and head[at : at + 4] == text for size, (at, text) in MAGIC.items())


def _head(data: bytes) -> bytes:
    if not data.startswith(GZIP):
        return data[:HEADER]
    try:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, HEADER)
    except zlib.error:
        return b""


def read_nifti(data: bytes, name: str, most: int) -> Array:
    """Return the numbers of a volume, (X, Y, Z) or (X, Y, Z, C) in the order of the file, by its slope and intercept.

    Args:
        data: The file.
        name: Its name in errors.
        most: The greatest number of voxels.

    Raises:
        ImageError: nibabel is missing; the file is damaged or too large.
    """
    image = _form(data)
    try:
        header = _header(data)
        count = math.prod(header.get_data_shape())
        if not 0 < count <= most:
            raise ImageError(f"{name} holds {count:,} numbers, the limit is {most:,}: shrink it first")
        if data.startswith(GZIP):
            room = count * header.get_data_dtype().itemsize + (1 << 24)  # for extensions of the header
            data = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(data, room)
        values = np.asarray(image.from_bytes(data).dataobj)
    except ImageError:
        raise
    except Exception as error:  # those of nibabel share no base class
        raise ImageError(f"{name} is damaged or cut short ({first_line(error)}): save it again") from error
    return values


def affine_of(data: bytes) -> Array | None:
    """Return the affine (4, 4) of a NIfTI, from voxels to the scanner; None of any other file."""
    return np.asarray(_header(data).get_best_affine(), np.float64) if is_nifti(data) else None


def _form(data: bytes) -> Any:
    sizes = int.from_bytes(_head(data)[:4], "little"), int.from_bytes(_head(data)[:4], "big")
    return _nibabel().Nifti2Image if HEADER in sizes else _nibabel().Nifti1Image


def _header(data: bytes) -> Any:
    return _form(data).header_class.from_fileobj(io.BytesIO(_head(data).ljust(HEADER, b"\0")), check=False)


def nifti_bytes(saliency: Float32Array, affine: Array) -> bytes:
    """Return a map (X, Y, Z) as a file .nii.gz of float32, in the space of the volume that it explains."""
    image: Any = _nibabel().Nifti1Image(saliency.astype(np.float32, copy=False), affine)
    return gzip.compress(image.to_bytes(), mtime=0)


def _nibabel() -> ModuleType:
    try:
        import nibabel
    except ImportError as error:
        raise ImageError('NIfTI needs nibabel: pip install "fusioncam[nifti]", or save the volume as .npy') from error
    module: ModuleType = nibabel
    return module
