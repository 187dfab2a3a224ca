"""Limits of size and work that a picture file must keep to."""

import re

from fusioncam.errors import ImageError
from fusioncam.runtime.photos.formats.jpeg import JPEG
from fusioncam.runtime.photos.formats.png import PNG, is_whole_png, without_packed_notes

MAX_PIXELS = 100_000_000
MAX_BYTES = 1 << 30
# Progressive pictures have some ten scans, and each scan goes over all pixels.
MAX_SCANS = 50
_SCAN = rb"\xff\xda\x00[\x08\x0a\x0c\x0e][\x01-\x04]"


def bounded(data: bytes, name: str) -> bytes:
    """Return the part of a file that makes its pixels, where they take no more work than their number explains.

    Args:
        data: A file of a format that declares its true size.
        name: The file's name in errors.

    Raises:
        ImageError: The file is a JPEG of too many scans, or a PNG that holds more than its pixels.
    """
    if data.startswith(JPEG) and len(re.findall(_SCAN, data)) > MAX_SCANS:
        raise ImageError(f"{name} is a JPEG of more than {MAX_SCANS} scans: save it again as PNG or JPEG")
    if not data.startswith(PNG) or not is_whole_png(data):
        return data
    if (pixels := without_packed_notes(data)) is None:
        raise ImageError(
            f"{name} is a PNG that holds more than its pixels, or is damaged: save it again as PNG or JPEG"
        )
    return pixels
