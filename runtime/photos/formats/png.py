"""The EXIF of a PNG: in a chunk of its own, or as older programs do, in a text."""

import struct
import zlib
from contextlib import suppress

from fusioncam.runtime.photos.formats import PNG, png_chunks

_KEY = b"Raw profile type exif\0"
_PREFIX = b"Exif\0\0"
_MOST = 1 << 20  # bytes of such a text


def with_exif(data: bytes) -> bytes:
    """Put the EXIF of a PNG where OpenCV looks for it: from a text, as ImageMagick writes it, into a chunk."""
    found = None
    for kind, whole in png_chunks(data):
        if kind == b"eXIf":
            return data
        content = bytes(whole[8:-4]) if kind in (b"tEXt", b"zTXt") else b""
        if content.startswith(_KEY):
            with suppress(ValueError, zlib.error):
                found = _profile(content[len(_KEY) :], packed=kind == b"zTXt")
    if found is None:
        return data
    chunk = b"eXIf" + found.removeprefix(_PREFIX)
    sum_of_it = zlib.crc32(chunk).to_bytes(4, "big")
    end = len(PNG) + 25  # of IHDR, which comes first
    return data[:end] + struct.pack(">I", len(chunk) - 4) + chunk + sum_of_it + data[end:]


def _profile(text: bytes, packed: bool) -> bytes:
    """The bytes that a raw profile spells in hexadecimal digits, after its name and length; raises ValueError."""
    if packed:
        text = zlib.decompressobj().decompress(text[1:], _MOST)
    *_, digits = text[:_MOST].split(None, 2)
    return bytes.fromhex(digits.decode("ascii"))
