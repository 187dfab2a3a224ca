"""Boxes of AVIF (ISO 14496-12, 23008-12) and JPEG 2000 (ISO 15444-1): orientation and colours of a picture."""

import struct
from collections.abc import Callable, Iterator

import numpy as np

from fusioncam.kernels.arrays import Array

_YCC = 18  # of `EnumCS`: sYCC


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each box, and start and end of its content, up to the first damaged box."""
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if length == 1 and start + 16 <= end:
            (length,), head = struct.unpack_from(">Q", data, start + 8), 16
        stop = end if length == 0 else start + length
        if stop < start + head or stop > end:
            return
        yield kind, start + head, stop
        start = stop


def _inner(data: bytes, start: int, end: int, *path: bytes) -> tuple[int, int] | None:
    """Find the content of the box to which a path leads."""
    for step in path:
        content = next(((a, b) for kind, a, b in _boxes(data, start, end) if kind == step), None)
        if content is None:
            return None
        start, end = content[0] + (4 if step == b"meta" else 0), content[1]
    return start, end


def has_colours_of_ycc(data: bytes) -> bool:
    """Return whether a JPEG 2000 has colours that OpenCV converts wrong."""
    if not data.startswith(b"\0\0\0\x0cjP  "):
        return False
    place = _inner(data, 0, len(data), b"jp2h", b"colr")
    return place is not None and data[place[0]] == 1 and data[place[0] + 3 : place[0] + 7] == struct.pack(">I", _YCC)


def orientation(data: bytes) -> Callable[[Array], Array] | None:
    """Return the correction that turns an AVIF by its properties `irot` and `imir`, which OpenCV ignores, or None."""
    if data[4:8] != b"ftyp":
        return None
    try:
        quarters, mirror = _properties(data)
    except (struct.error, IndexError):
        return None
    if not quarters and mirror is None:
        return None

    def after(pixels: Array) -> Array:
        turned = np.rot90(pixels, quarters)  # anticlockwise, as `irot`
        return np.ascontiguousarray(turned if mirror is None else np.flip(turned, mirror))

    return after


def _properties(data: bytes) -> tuple[int, int | None]:
    """Return the quarter turns anticlockwise, and the axis of the mirroring after them (0: top and bottom) or None."""
    meta = _inner(data, 0, len(data), b"meta")
    listed = meta and _inner(data, *meta, b"iprp", b"ipco")
    owned = meta and _inner(data, *meta, b"iprp", b"ipma")
    primary = meta and _inner(data, *meta, b"pitm")
    if not (meta and listed and owned and primary):
        return 0, None
    item = struct.unpack_from(">I" if data[primary[0]] else ">H", data, primary[0] + 4)[0]
    own = set(_owned(data, owned[0], item))
    quarters, mirror = 0, None
    for number, (kind, start, _) in enumerate(_boxes(data, *listed), 1):
        if number in own and kind == b"irot":
            quarters = data[start] & 3
        elif number in own and kind == b"imir":
            mirror = data[start] & 1
    return quarters, mirror


def _owned(data: bytes, at: int, item: int) -> Iterator[int]:
    """Yield the numbers of an item's properties, from the box `ipma`."""
    wide_items, wide_numbers = data[at] > 0, data[at + 3] & 1
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(count):
        (owner,) = struct.unpack_from(">I" if wide_items else ">H", data, at)
        at += 4 if wide_items else 2
        for place in range(at + 1, at + 1 + data[at] * (1 + wide_numbers), 1 + wide_numbers):
            number = struct.unpack_from(">H", data, place)[0] & 0x7FFF if wide_numbers else data[place] & 0x7F
            if owner == item:
                yield number
        at += 1 + data[at] * (1 + wide_numbers)
