"""Files that OpenCV reads otherwise than they are meant: mended before or after decoding, or refused by name."""

import re
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.runtime.photos.formats import PNG, boxes, gif, png, tiff
from fusioncam.runtime.photos.formats.marks import unread

# The head of a Netpbm file: its kind, width, height and, but for bitmaps, the greatest value; comments among them.
_BLANK = rb"(?:\s|#[^\n]*\n)+"
_NETPBM = re.compile(rb"P([2356])" + (_BLANK + rb"(\d{1,9})") * 3)

_BMP_MASKS = (3, 6)  # compressions of BMP that have masks, the second with one for alpha


class Mended(NamedTuple):
    """The right way to read a file.

    Attributes:
        data: What OpenCV is to be given.
        after: What makes the right picture of the one that OpenCV gives; the same orientation and BGR order go in.
        raw: Whether OpenCV is to give all channels as they are in the file.
        refusal: What it is that cannot be read, or None.
    """

    data: bytes
    after: Callable[[Array], Array] | None = None
    raw: bool = False
    refusal: str | None = None


def mended(data: bytes) -> Mended:
    """Return what to do about a file; a format that needs nothing comes back as it is."""
    if (kind := unread(data)) is not None:
        return Mended(data, refusal=f"is {kind}, which is not read here")
    if data.startswith(PNG):
        return Mended(png.with_exif(data))
    if tiff.is_tiff(data):
        found = tiff.read_tags(data)
        if (refusal := tiff.refusal(data, found)) is not None:
            return Mended(data, refusal=refusal)
        if tiff.has_associated_alpha(found):
            return Mended(data, _divided_by_alpha, raw=True)
        return Mended(tiff.with_plain_alpha(data, found))
    if data.startswith(b"GIF8"):
        return Mended(gif.first_frame(data))
    if data.startswith(b"BM"):
        return Mended(_with_masks_in_its_head(data), _spread(data))
    if (netpbm := _NETPBM.match(data)) is not None:
        return Mended(data + b"\n", _rescaled(netpbm))  # OpenCV wants something behind the last number of a text
    if boxes.has_colours_of_ycc(data):
        return Mended(data, refusal="is a JPEG 2000 in YCC colours, which is not read here")
    if (turned := boxes.orientation(data)) is not None:
        return Mended(data, turned)
    return Mended(data)


def _divided_by_alpha(pixels: Array) -> Array:
    """Colours that were multiplied by their alpha, as they were before; black where that is 0."""
    alpha = pixels[..., 3:].astype(np.int64)
    most = 255 if pixels.dtype == np.uint8 else 65535
    whole = pixels[..., :3].astype(np.int64) * most // np.maximum(alpha, 1)
    return (whole.clip(0, most) * (alpha > 0)).astype(pixels.dtype)


def _rescaled(head: re.Match[bytes]) -> Callable[[Array], Array] | None:
    """Netpbm's greatest value is white; OpenCV heeds that in texts of 8 bits only."""
    kind, most = int(head[1]), int(head[4])
    if most in (0, 255) or most > 65535 or (kind in (2, 3) and most < 255):
        return None

    def after(pixels: Array) -> Array:
        return np.asarray((pixels.astype(np.int64) * 255 + most // 2) // most, np.uint8)

    return after


def _with_masks_in_its_head(data: bytes) -> bytes:
    """Put the masks of a BMP of 32 bits where OpenCV heeds them: into its head, not behind a shorter one."""
    if len(data) < 70:
        return data
    (start, head), (bits, compression) = struct.unpack_from("<II", data, 10), struct.unpack_from("<HI", data, 28)
    if bits != 32 or compression not in _BMP_MASKS or head not in (40, 52):
        return data
    alpha = data[66:70] if compression == _BMP_MASKS[1] else bytes(4)
    return data[:10] + struct.pack("<II", 70, 56) + data[18:30] + b"\3\0\0\0" + data[34:66] + alpha + data[start:]


def _spread(data: bytes) -> Callable[[Array], Array] | None:
    """BMPs of 16 bits hold 5 or 6 a channel: the greatest is white, which OpenCV makes 248 or 252."""
    if len(data) < 70 or struct.unpack_from("<H", data, 28) != (16,):
        return None
    (compression, green) = struct.unpack_from("<I", data, 30)[0], struct.unpack_from("<I", data, 58)[0]
    bits = np.array((5, 6 if compression == 3 and green == 0x7E0 else 5, 5))

    def after(pixels: Array) -> Array:
        return np.asarray((pixels.astype(np.int64) >> (8 - bits)) * 255 // ((1 << bits) - 1), np.uint8)

    return after
