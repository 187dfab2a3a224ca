"""Repairs of files that OpenCV reads wrong, before or after decoding; other such files are refused by name."""

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.runtime.photos.formats import boxes, gif, png, tiff, webp
from fusioncam.runtime.photos.formats.signatures import unread_format, unsupported_format

# The header of a Netpbm file: its kind, width, height and, except for bitmaps, greatest value, with comments between.
_BLANK = rb"(?:\s|#[^\n]*\n)+"
_NETPBM = re.compile(rb"P([2356])" + (_BLANK + rb"(\d{1,9})") * 3)

_BMP_MASKS = (3, 6)  # compressions of BMP that have masks, the second with one for alpha


class Repair(NamedTuple):
    """The right way to read a file.

    Attributes:
        data: The bytes for OpenCV.
        correct: Turns OpenCV's picture into the right one, in the same orientation and BGR order; None: it is right.
        raw: Whether OpenCV shall give all channels as they are in the file.
        refusal: The reason that the file cannot be read, or None.
    """

    data: bytes
    correct: Callable[[Array], Array] | None = None
    raw: bool = False
    refusal: str | None = None


def repair(data: bytes) -> Repair:
    """Return the right way to read a file; most formats need no repair."""
    if (kind := unsupported_format(data)) is not None:
        return Repair(data, refusal=f"is {kind}, which is not supported")
    if (kind := unread_format(data)) is not None:
        remedy = "update OpenCV to 4.12 or later, or save the picture again as PNG or JPEG"
        return Repair(data, refusal=f"is {kind}, which OpenCV {cv2.__version__} does not read: {remedy}")
    if data.startswith(png.PNG):
        return Repair(png.with_exif(data))
    if tiff.is_tiff(data):
        tags = tiff.read_tags(data)
        if (refusal := tiff.refusal(data, tags)) is not None:
            return Repair(data, refusal=refusal)
        if tiff.has_associated_alpha(tags):
            return Repair(data, _divide_by_alpha, raw=True)
        return Repair(tiff.with_plain_alpha(data, tags))
    if data.startswith(b"RIFF"):
        return Repair(*webp.without_exif(data))
    if data.startswith(b"GIF8"):
        return Repair(gif.first_frame(data))
    if data.startswith(b"BM"):
        return Repair(_with_masks_in_header(data), _spread_16_bits(data))
    if (netpbm := _NETPBM.match(data)) is not None:
        return Repair(data + b"\n", _rescale(netpbm))  # OpenCV expects a byte after the last number of a text
    if boxes.has_colours_of_ycc(data):
        return Repair(data, refusal="is a JPEG 2000 in YCC colours, which is not supported")
    if (turned := boxes.orientation(data)) is not None:
        return Repair(data, turned)
    return Repair(data)


def _divide_by_alpha(pixels: Array) -> Array:
    """Undo the multiplication of colours by their alpha; black where alpha is 0."""
    alpha = pixels[..., 3:].astype(np.int64)
    most = 255 if pixels.dtype == np.uint8 else 65535
    whole = pixels[..., :3].astype(np.int64) * most // np.maximum(alpha, 1)
    return (whole.clip(0, most) * (alpha > 0)).astype(pixels.dtype)


def _rescale(head: re.Match[bytes]) -> Callable[[Array], Array] | None:
    """Return the correction that makes Netpbm's greatest value white; OpenCV does that in texts of 8 bits only."""
    kind, most = int(head[1]), int(head[4])
    if most in (0, 255) or most > 65535 or (kind in (2, 3) and most < 255):
        return None

    def after(pixels: Array) -> Array:
        return np.asarray((pixels.astype(np.int64) * 255 + most // 2) // most, np.uint8)

    return after


def _with_masks_in_header(data: bytes) -> bytes:
    """Move the masks of a BMP of 32 bits from behind a short header into a longer one, where OpenCV reads them."""
    if len(data) < 70:
        return data
    (start, head), (bits, compression) = struct.unpack_from("<II", data, 10), struct.unpack_from("<HI", data, 28)
    if bits != 32 or compression not in _BMP_MASKS or head not in (40, 52):
        return data
    alpha = data[66:70] if compression == _BMP_MASKS[1] else bytes(4)
    return data[:10] + struct.pack("<II", 70, 56) + data[18:30] + b"\3\0\0\0" + data[34:66] + alpha + data[start:]


def _spread_16_bits(data: bytes) -> Callable[[Array], Array] | None:
    """Return the correction of a BMP with 5 or 6 bits a channel: OpenCV reads white as 248 or 252."""
    if len(data) < 70 or struct.unpack_from("<H", data, 28) != (16,):
        return None
    (compression, green) = struct.unpack_from("<I", data, 30)[0], struct.unpack_from("<I", data, 58)[0]
    bits = np.array((5, 6 if compression == 3 and green == 0x7E0 else 5, 5))

    def after(pixels: Array) -> Array:
        return np.asarray((pixels.astype(np.int64) >> (8 - bits)) * 255 // ((1 << bits) - 1), np.uint8)

    return after
