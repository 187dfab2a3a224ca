"""Facts that picture files state about themselves, read before anything is decoded."""

import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator

from fusioncam.errors import ImageError

PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff"
# AVIF and JPEG 2000 hold 10 or 12 bits a sample, which OpenCV hands out unscaled in 16: asked for 8, it scales them.
_DEEP_CONTAINERS = (b"ftyp", b"jP  ")
_CODESTREAM = b"\xff\x4f\xff\x51"  # a JPEG 2000 without a container
_TIFF = (b"II*\0", b"MM\0*")

# Starts of a JPEG's frame. Of its pattern below, a match takes one byte only, or a false frame could hide a true one.
_FRAME = rb"[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]"
# Progressive pictures have some ten scans, and each goes over all pixels.
MAX_SCANS = 50
_SCAN = rb"\xff\xda\x00[\x08\x0a\x0c\x0e][\x01-\x04]"
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# libpng unpacks these, 8 MB each and as many as there are, though no pixel depends on them.
_PACKED_NOTES = (b"zTXt", b"iTXt", b"iCCP")
_PIECE = 1 << 20  # bytes unpacked at a time


def _big(first: bytes, second: bytes) -> tuple[int, int]:
    return int.from_bytes(first, "big"), int.from_bytes(second, "big")


def _little(first: bytes, second: bytes) -> tuple[int, int]:
    return int.from_bytes(first, "little"), int.from_bytes(second, "little")


def _signed(first: bytes, second: bytes) -> tuple[int, int]:
    return int.from_bytes(first, "little", signed=True), int.from_bytes(second, "little", signed=True)


def _less_one(first: bytes, second: bytes) -> tuple[int, int]:
    return int.from_bytes(first, "little") + 1, int.from_bytes(second, "little") + 1


def _webp_lossless(packed: bytes, _: bytes) -> tuple[int, int]:
    bits = int.from_bytes(packed, "little")
    return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1


# Where each format that can blow a small file up to a huge picture declares its size: (how the file begins, the two
# fields, how they are read). OpenCV's own limit is read once, when the library is loaded, so it cannot be relied on. A
# JPEG or TIFF may hold a thumbnail too: the largest size found is the one that counts.
_SIZES: tuple[tuple[bytes, bytes, Callable[[bytes, bytes], tuple[int, int]]], ...] = (
    (PNG, rb"\A.{12}IHDR(.{4})(.{4})", _big),
    (JPEG, rb"\xff(?=" + _FRAME + rb"\x00[\x0b\x0e\x11\x14][\x02-\x10](..)(..)[\x01-\x04])", _big),
    (b"GIF8", rb"\AGIF8[79]a(..)(..)", _little),
    (b"BM", rb"\ABM.{4}\x00{4}.{4}(?!\x0c\x00{3}).{4}(.{4})(.{4})", _signed),
    (b"BM", rb"\ABM.{4}\x00{4}.{4}\x0c\x00{3}(..)(..)", _little),
    (b"RIFF", rb"\A.{8}WEBPVP8X.{8}(.{3})(.{3})", _less_one),
    (b"RIFF", rb"\A.{8}WEBPVP8 .{7}\x9d\x01\x2a(..)(..)", _little),
    (b"RIFF", rb"\A.{8}WEBPVP8L.{4}\x2f(.{4})()", _webp_lossless),
    (b"II*\0", rb"\x00\x01[\x03\x04]\x00\x01\x00{3}(.{4})\x01\x01[\x03\x04]\x00\x01\x00{3}(.{4})", _little),
    (b"MM\0*", rb"\x01\x00\x00\x03\x00{3}\x01(..)..\x01\x01\x00\x03\x00{3}\x01(..)", _big),
    (b"MM\0*", rb"\x01\x00\x00\x04\x00{3}\x01(.{4})\x01\x01\x00\x04\x00{3}\x01(.{4})", _big),
    (b"\0\0\0", rb"ihdr(.{4})(.{4})", _big),
    (b"\0\0\0", rb"ispe\x00{4}(.{4})(.{4})", _big),
)


def declared_pixels(data: bytes) -> int:
    """Pixels the file says it holds, 0 where it is of a format outside the table."""
    sizes = (
        read(*found)
        for head, pattern, read in _SIZES
        if data.startswith(head)
        for found in re.findall(pattern, data, re.DOTALL)
    )
    return max((abs(first * second) for first, second in sizes), default=0)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and whole bytes of each chunk up to IEND, as far as they are sound."""
    at, view = len(PNG), memoryview(data)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, end = data[at + 4 : at + 8], at + 12 + length
        if data[end - 4 : end] != zlib.crc32(view[at + 4 : end - 4]).to_bytes(4, "big"):
            return
        yield kind, view[at:end]
        if kind == b"IEND":
            return
        at = end


def is_whole(data: bytes) -> bool:
    """Return whether a PNG is whole; libpng writes to stderr about a bad chunk before OpenCV can report it."""
    return not data.startswith(PNG) or any(kind == b"IEND" for kind, _ in png_chunks(data))


def is_deep(data: bytes) -> bool:
    """Return whether OpenCV must be asked for 8 bits, so that it scales the samples."""
    return data[4:8] in _DEEP_CONTAINERS or data.startswith(_CODESTREAM)


def keeps_its_word(data: bytes) -> bool:
    """Return whether what is decoded is as large as `declared_pixels` says, or nothing is.

    TIFF's tags may come in other types and any order. The containers of AVIF and JPEG 2000 hold a size besides that of
    the picture in them.
    """
    return not (data.startswith(_TIFF) or is_deep(data))


def bounded(data: bytes, name: str) -> bytes:
    """The part of a file that makes its pixels, if they take no more work than so many pixels may.

    Args:
        data: A file of a format that keeps its word.
        name: What errors call it.

    Raises:
        ImageError: It is a JPEG of too many scans, or a PNG that holds more than its pixels.
    """
    if data.startswith(JPEG) and len(re.findall(_SCAN, data)) > MAX_SCANS:
        raise ImageError(f"{name} is a JPEG of more than {MAX_SCANS} scans: save it again as PNG or JPEG")
    if not data.startswith(PNG) or not is_whole(data):
        return data
    chunks = [(kind, whole) for kind, whole in png_chunks(data) if kind not in _PACKED_NOTES]
    if _png_overflows(data, (whole[8:-4] for kind, whole in chunks if kind == b"IDAT")):
        raise ImageError(
            f"{name} is a PNG that holds more than its pixels, or is damaged: save it again as PNG or JPEG"
        )
    return b"".join((PNG, *(whole for _, whole in chunks)))


def _png_overflows(data: bytes, parts: Iterable[memoryview]) -> bool:
    """Return whether the packed data of a PNG unpack to more than its head asks for, or not at all.

    libpng unpacks all of it. Adam7 makes of H rows up to 2 H + 7, none of which is longer (PNG specification, 8.2).
    """
    width, height, depth, colour, interlaced = map(int, struct.unpack(">IIBBxxB", data[16:29]))
    row = 1 + (width * depth * _PNG_CHANNELS.get(colour, 4) + 7) // 8
    left, unpacker = row * (2 * height + 7 if interlaced else height), zlib.decompressobj()
    try:
        for part in parts:
            rest: bytes | memoryview = part
            while rest and not unpacker.eof and left >= 0:
                left -= len(unpacker.decompress(rest, _PIECE))
                rest = unpacker.unconsumed_tail
    except zlib.error:
        return True
    return left < 0
