"""Model input from a picture: resized and normalised as the model was trained, and the way back for display."""

import os
from typing import TypeAlias

import numpy as np

from fusioncam.errors import ImageError
from fusioncam.kernels.arrays import Float32Array, UInt8Array
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.geometry import display_image
from fusioncam.runtime.photos.limits import MAX_PIXELS
from fusioncam.runtime.photos.photo import Photo

ImageLike: TypeAlias = str | os.PathLike[str] | UInt8Array | Float32Array | Photo

DARK = 64  # of 255


def _constants(preprocessing: Preprocessing) -> tuple[Float32Array, Float32Array, slice]:
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    return mean, std, slice(None, None, -1 if preprocessing.channel_order == "bgr" else 1)


def preprocess(image: UInt8Array, preprocessing: Preprocessing) -> Float32Array:
    """Resize a picture and normalise it: x = (pixel * rescale - mean) / std.

    Args:
        image: (H0, W0, 3) uint8 RGB.
        preprocessing: The model's own.

    Returns:
        x: (3, H, W) float32, C-contiguous, channels in the model's order.
    """
    mean, std, order = _constants(preprocessing)
    pixels = display_image(image, preprocessing).transpose(2, 0, 1)[order]
    return np.ascontiguousarray((pixels.astype(np.float32) * np.float32(preprocessing.rescale) - mean) / std)


def unpreprocess(x: Float32Array, preprocessing: Preprocessing) -> UInt8Array:
    """Return the picture behind a model input, for display: the inverse of `preprocess`, except for resizing.

    Args:
        x: (3, H, W) float32, channels in the model's order.
        preprocessing: The model's own.

    Returns:
        (H, W, 3) uint8 RGB, clipped to 0..255.
    """
    mean, std, order = _constants(preprocessing)
    pixels = (x * std + mean) / np.float32(preprocessing.rescale)
    return np.ascontiguousarray(np.rint(pixels).clip(0, 255).astype(np.uint8)[order].transpose(1, 2, 0))


def is_dark(x: Float32Array, preprocessing: Preprocessing) -> bool:
    """Return whether all pixels of a model input are below a quarter of white.

    Values of 10 to 14 bits in a file of 16 bits, which does not declare their depth, look like that.

    Args:
        x: (3, H, W) float32, channels in the model's order.
        preprocessing: The model's own.
    """
    return int(unpreprocess(x, preprocessing).max()) <= DARK


def as_input(image: ImageLike, preprocessing: Preprocessing) -> tuple[UInt8Array | None, Float32Array]:
    """Turn a path, a photo or a preprocessed array into a model input.

    Args:
        image: A path, an (H0, W0, 3) uint8 RGB array, or a preprocessed float32 (3, H, W) or (1, 3, H, W) array.
        preprocessing: The model's own; (H, W) must be its size.

    Returns:
        photo: (H0, W0, 3) uint8 RGB, or None where the input came preprocessed.
        x: (3, H, W) float32, C-contiguous.

    Raises:
        ImageError: The file cannot be read, the array has another shape or type, or it holds NaN or infinity.
    """
    if isinstance(image, str | os.PathLike):
        image = read_image(image)
    if isinstance(image, Photo):
        image = image.pixels
    height, width = preprocessing.size
    shape: tuple[int, ...] = getattr(image, "shape", ())
    dtype = getattr(image, "dtype", None)
    if dtype == np.uint8 and len(shape) == 3 and shape[2] == 3 and 0 < shape[0] * shape[1] <= MAX_PIXELS:
        photo = np.ascontiguousarray(image, np.uint8)
        return photo, preprocess(photo, preprocessing)
    if dtype == np.float32 and shape in ((3, height, width), (1, 3, height, width)):
        x = np.ascontiguousarray(image, np.float32).reshape(3, height, width)
        if not np.isfinite(x).all():
            raise ImageError("the input array holds NaN or infinity: check how it was preprocessed")
        return None, x
    kind = type(image).__name__ if dtype is None else f"a {dtype} array of shape {tuple(shape)}"
    raise ImageError(
        f"cannot explain {kind}: pass a path, an (H, W, 3) uint8 RGB array of at most {MAX_PIXELS:,} pixels, "
        f"or a preprocessed float32 (3, {height}, {width}) array"
    )
