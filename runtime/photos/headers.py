"""The size that a picture file declares in its header, read before anything is decoded."""

import math
import re
from collections.abc import Callable
from typing import Literal

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
# AVIF and JPEG 2000 hold 10 or 12 bits a sample. OpenCV scales them to 8 bits on request, but not to 16.
_DEEP_CONTAINERS = (b"ftyp", b"jP  ")
_CODESTREAM = b"\xff\x4f\xff\x51"  # a JPEG 2000 without a container
_TIFF = (b"II*\0", b"MM\0*")

# Start of a JPEG's frame. A match of the pattern below consumes one byte only, or a false frame could hide a true one.
_FRAME = rb"[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]"


_Reader = Callable[[bytes, bytes], tuple[int, ...]]


def _reader(order: Literal["big", "little"], signed: bool = False, plus: int = 0) -> _Reader:
    """Return a reader of two whole numbers, to each of which `plus` is added."""
    return lambda *fields: tuple(int.from_bytes(field, order, signed=signed) + plus for field in fields)


def _webp_lossless(packed: bytes, _: bytes) -> tuple[int, ...]:
    bits = int.from_bytes(packed, "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


_big, _little = _reader("big"), _reader("little")


# For each format whose small file may hold a huge picture: (start of the file, pattern of the two fields of its size,
# reader of the fields). OpenCV reads its own limit once, when the library is loaded, so it cannot be relied on. A JPEG
# or TIFF may also hold a thumbnail: the largest size counts.
_SIZES: tuple[tuple[bytes, bytes, _Reader], ...] = (
    (_PNG, rb"\A.{12}IHDR(.{4})(.{4})", _big),
    (_JPEG, rb"\xff(?=" + _FRAME + rb"\x00[\x0b\x0e\x11\x14][\x02-\x10](..)(..)[\x01-\x04])", _big),
    (b"GIF8", rb"\AGIF8[79]a(..)(..)", _little),
    (b"BM", rb"\ABM.{4}\x00{4}.{4}(?!\x0c\x00{3}).{4}(.{4})(.{4})", _reader("little", signed=True)),
    (b"BM", rb"\ABM.{4}\x00{4}.{4}\x0c\x00{3}(..)(..)", _little),
    (b"RIFF", rb"\A.{8}WEBPVP8X.{8}(.{3})(.{3})", _reader("little", plus=1)),
    (b"RIFF", rb"\A.{8}WEBPVP8 .{7}\x9d\x01\x2a(..)(..)", _little),
    (b"RIFF", rb"\A.{8}WEBPVP8L.{4}\x2f(.{4})()", _webp_lossless),
    (b"II*\0", rb"\x00\x01[\x03\x04]\x00\x01\x00{3}(.{4})\x01\x01[\x03\x04]\x00\x01\x00{3}(.{4})", _little),
    (b"MM\0*", rb"\x01\x00\x00\x03\x00{3}\x01(..)..\x01\x01\x00\x03\x00{3}\x01(..)", _big),
    (b"MM\0*", rb"\x01\x00\x00\x04\x00{3}\x01(.{4})\x01\x01\x00\x04\x00{3}\x01(.{4})", _big),
    (b"\0\0\0", rb"ihdr(.{4})(.{4})", _big),
    (b"\0\0\0", rb"ispe\x00{4}(.{4})(.{4})", _big),
)


def declared_pixels(data: bytes) -> int:
    """Return the number of pixels that a file declares, 0 for a format outside the table."""
    sizes = (
        read(*fields)
        for head, pattern, read in _SIZES
        if data.startswith(head)
        for fields in re.findall(pattern, data, re.DOTALL)
    )
    return max((abs(math.prod(size)) for size in sizes), default=0)


def is_deep(data: bytes) -> bool:
    """Return whether OpenCV must be asked for 8 bits to scale the samples."""
    return data[4:8] in _DEEP_CONTAINERS or data.startswith(_CODESTREAM)


def declares_true_size(data: bytes) -> bool:
    """Return whether a file of this format decodes to the size of `declared_pixels`, or not at all.

    TIFF's tags may have other types and any order. The containers of AVIF and JPEG 2000 hold a second size beside that
    of their picture.
    """
    return not (data.startswith(_TIFF) or is_deep(data))
