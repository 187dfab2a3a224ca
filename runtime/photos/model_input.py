"""Model input from a picture: resized and normalised as the model was trained, and the way back for display."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from fusioncam.kernels.arrays import Float32Array, UInt8Array
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.geometry import display_image
from fusioncam.runtime.photos.given import Given, PhotoLike, open_given

ImageLike: TypeAlias = PhotoLike | Float32Array

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
    return _normalised(display_image(image, preprocessing), preprocessing)


def _normalised(seen: UInt8Array, preprocessing: Preprocessing) -> Float32Array:
    """Return a picture of the model's size, normalised."""
    mean, std, order = _constants(preprocessing)
    pixels = seen.transpose(2, 0, 1)[order]
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
    with np.errstate(over="ignore"):  # what is far too large is white all the same
        pixels = (x * std + mean) / np.float32(preprocessing.rescale)
    return np.ascontiguousarray(np.rint(pixels).clip(0, 255).astype(np.uint8)[order].transpose(1, 2, 0))


@dataclass(frozen=True, eq=False)
class ModelInput:
    """A picture made ready for the model.

    Attributes:
        x: (3, H, W) float32, C-contiguous.
        given: The picture itself.
        dark: Whether all pixels of the input are below a quarter of white. Values of 10 to 14 bits in a file of 16
            bits, which does not declare their depth, look like that.
    """

    x: Float32Array
    given: Given
    dark: bool


def prepare(image: "ImageLike | ModelInput", preprocessing: Preprocessing) -> ModelInput:
    """Make a picture in any form ready for the model; see `as_input`."""
    if isinstance(image, ModelInput):
        return image
    given = open_given(image, preprocessing.size)
    if given.again is None:
        seen = unpreprocess(given.values, preprocessing)
        return ModelInput(given.values, given, int(seen.max()) <= DARK)
    seen = display_image(given.values, preprocessing)
    return ModelInput(_normalised(seen, preprocessing), given, int(seen.max()) <= DARK)


def as_input(image: ImageLike, preprocessing: Preprocessing) -> tuple[UInt8Array | None, Float32Array]:
    """Turn a picture in any form into a model input.

    Args:
        image: A path; the bytes of a file, or a file object; a PIL image; an array of pixels, see `pixels_of`; or a
            preprocessed float32 (3, H, W) or (1, 3, H, W) array. Arrays may be of any library.
        preprocessing: The model's own; (H, W) must be its size.

    Returns:
        photo: (H0, W0, 3) uint8 RGB, or None where the input came preprocessed.
        x: (3, H, W) float32, C-contiguous.

    Raises:
        ImageError: The picture cannot be read, the array has another shape or type, or it holds NaN or infinity.
    """
    ready = prepare(image, preprocessing)
    return None if ready.given.again is None else ready.given.values, ready.x
