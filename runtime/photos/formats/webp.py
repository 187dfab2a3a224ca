"""WebP: its orientation, which OpenCV applies from 4.13 on only."""

import struct
from collections.abc import Callable, Iterator

import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.runtime.photos.formats.tiff import ORIENTATION, first_value, read_tags

# The correction of each orientation of EXIF; 1 needs none.
_TURNS: dict[int, Callable[[Array], Array]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.swapaxes(np.rot90(pixels, 2), 0, 1),
    8: np.rot90,
}


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each chunk, and start and end of its content."""
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, at + 8, at + 8 + length
        at += 8 + length + length % 2


def without_exif(data: bytes) -> tuple[bytes, Callable[[Array], Array] | None]:
    """Return a WebP whose EXIF no OpenCV finds, and the correction that turns the picture as the EXIF says."""
    place = next(((start, end) for kind, start, end in _chunks(data) if kind == b"EXIF"), None)
    if place is None:
        return data, None
    start, end = place
    tags = read_tags(data[start:end].removeprefix(b"Exif\0\0"))
    return data[: start - 8] + b"none" + data[start - 4 :], _TURNS.get(first_value(tags, ORIENTATION, 1))
