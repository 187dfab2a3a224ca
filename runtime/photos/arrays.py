"""Arrays of pixels become photos by fixed rules; an array that could mean two things is refused."""

import cv2
import numpy as np

from fusioncam.errors import ImageError
from fusioncam.kernels.arrays import Array, UInt8Array
from fusioncam.runtime.photos.limits import MAX_PIXELS

CHANNELS = (1, 3, 4)  # grey, RGB, RGB with alpha
DEEP = 257  # 16 bits over 8 bits: 65535 / 255
HALF_A_LEVEL = 0.5 / 255  # beyond 0..1, which rounding takes away; what was resized may lie there


def pixels_of(array: Array) -> UInt8Array | None:
    """Return the photo that an array holds; None where its shape or type is that of no photo.

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA: uint8, uint16 in 0..65535, or float in 0..1. Grey is
            spread over three channels and alpha is dropped, as for files.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ImageError: It holds several pictures, its channels come first, or its floats are not in 0..1.
    """
    kind = f"{array.dtype.kind}{array.dtype.itemsize}"
    deep, real = kind == "u2", array.dtype.kind == "f"
    if not (kind == "u1" or deep or real):
        return None
    if array.ndim == 4 and array.shape[3] in CHANNELS:
        raise ImageError(
            f"cannot explain {described(array)}: it holds pictures one by one, as explain_batch takes them"
        )
    if array.ndim not in (2, 3):
        return None
    if array.ndim == 3 and array.shape[2] not in CHANNELS:
        if array.shape[0] in CHANNELS and not real:
            raise ImageError(
                f"the channels of {described(array)} come first: pass (H, W, channels), image.transpose(1, 2, 0)"
            )
        return None
    if not 0 < array.shape[0] * array.shape[1] <= MAX_PIXELS:
        return None
    if array.ndim == 2:
        array = array[..., None]
    colours = array[..., : 3 if array.shape[2] >= 3 else 1]
    pixels = _from_unit(colours) if real else _from_16_bits(colours) if deep else colours
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)), np.uint8)


def described(array: Array) -> str:
    """Return the type and the shape of an array, for errors."""
    return f"a {array.dtype} array of shape {tuple(array.shape)}"


def _from_16_bits(pixels: Array) -> Array:
    # OpenCV's rounding, as for files.
    scaled = cv2.convertScaleAbs(np.ascontiguousarray(pixels, np.uint16), alpha=1 / DEEP)
    return np.asarray(scaled).reshape(pixels.shape)


def _from_unit(pixels: Array) -> Array:
    """Return pixels in 0..1 as 0..255."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (low >= -HALF_A_LEVEL and high <= 1 + HALF_A_LEVEL):  # NaN, too
        raise ImageError(
            f"{described(pixels)} reaches from {low:.3g} to {high:.3g}, but a photo of floats lies in 0..1: divide it "
            "by its white, or pass image.astype(numpy.uint8) where it lies in 0..255"
        )
    return np.rint(pixels.astype(np.float32) * 255).clip(0, 255)
