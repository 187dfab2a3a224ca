"""PNG: its chunks, the work of unpacking them, and its EXIF, in a chunk or, as older programs write it, in a text."""

import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
# libpng unpacks each of these chunks, 8 MB at most, and the number of them is free; no pixel depends on them.
_PACKED_NOTES = (b"zTXt", b"iTXt", b"iCCP")
_PIECE = 1 << 20  # bytes unpacked at a time

_KEY = b"Raw profile type exif\0"
_PREFIX = b"Exif\0\0"
_MOST = 1 << 20  # bytes of a text with EXIF


def png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the kind and all bytes of each chunk up to IEND, or up to the first damaged chunk."""
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


def is_whole_png(data: bytes) -> bool:
    """Return whether a PNG is whole; libpng writes to stderr about a bad chunk before OpenCV can report it."""
    return any(kind == b"IEND" for kind, _ in png_chunks(data))


def without_packed_notes(data: bytes) -> bytes | None:
    """Return a whole PNG without notes that take work to unpack; None where its pixels overflow or are damaged."""
    chunks = [(kind, whole) for kind, whole in png_chunks(data) if kind not in _PACKED_NOTES]
    if _overflows(data, (whole[8:-4] for kind, whole in chunks if kind == b"IDAT")):
        return None
    return b"".join((PNG, *(whole for _, whole in chunks)))


def _overflows(data: bytes, parts: Iterable[memoryview]) -> bool:
    """Return whether the packed pixels of a PNG unpack to more than its header declares, or not at all.

    libpng unpacks all of them. Adam7 turns H rows into at most 2 H + 7, none of them longer (PNG specification, 8.2).
    """
    width, height, depth, colour, interlaced = map(int, struct.unpack(">IIBBxxB", data[16:29]))
    row = 1 + (width * depth * _CHANNELS.get(colour, 4) + 7) // 8
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


def with_exif(data: bytes) -> bytes:
    """Move the EXIF of a PNG from a text, where ImageMagick writes it, into a chunk, where OpenCV looks for it."""
    exif = None
    for kind, whole in png_chunks(data):
        if kind == b"eXIf":
            return data
        content = bytes(whole[8:-4]) if kind in (b"tEXt", b"zTXt") else b""
        if content.startswith(_KEY):
            with suppress(ValueError, zlib.error):
                exif = _profile(content[len(_KEY) :], packed=kind == b"zTXt")
    if exif is None:
        return data
    chunk = b"eXIf" + exif.removeprefix(_PREFIX)
    checksum = zlib.crc32(chunk).to_bytes(4, "big")
    end = len(PNG) + 25  # of IHDR, which comes first
    return data[:end] + struct.pack(">I", len(chunk) - 4) + chunk + checksum + data[end:]


def _profile(text: bytes, packed: bool) -> bytes:
    """Decode the hexadecimal digits of a raw profile, after its name and length; raises ValueError."""
    if packed:
        text = zlib.decompressobj().decompress(text[1:], _MOST)
    *_, digits = text[:_MOST].split(None, 2)
    return bytes.fromhex(digits.decode("ascii"))
