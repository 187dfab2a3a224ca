"""JPEG: its segments, up to the first scan."""

import struct

JPEG = b"\xff\xd8\xff"
_SCAN, _END = b"\xff\xda", b"\xff\xd9"


def is_whole_jpeg(data: bytes) -> bool:
    """Return whether a JPEG has an end behind its first scan; OpenCV 4.10 reads grey where the file is cut short."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        if data.startswith(_SCAN, at):
            return _END in data[at:]
        (length,) = struct.unpack_from(">H", data, at + 2)
        at += 1 if data[at + 1] == 0xFF else 2 + length
    return False
