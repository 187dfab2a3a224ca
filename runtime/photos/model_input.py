"""Model input from a picture: resized and normalised as the model was trained, and the way back for display."""

from typing import TypeAlias

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, Size
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.display import drawable
from fusioncam.runtime.photos.geometry import display_image, on_shown
from fusioncam.runtime.photos.given import PhotoLike, open_given

ImageLike: TypeAlias = PhotoLike | Float32Array

DARK = 64  # of 255


def _constants(preprocessing: Preprocessing) -> tuple[Float32Array, Float32Array, slice]:
    """Return mean and std (C, 1, 1), and the way between the channels of a photo and the model's."""
    sides = [1] * len(preprocessing.size)
    mean, std = (np.array(v, np.float32).reshape(-1, *sides) for v in (preprocessing.mean, preprocessing.std))
    return mean, std, slice(None, None, -1 if preprocessing.channel_order == "bgr" else 1)


def preprocess(image: Array, preprocessing: Preprocessing) -> Float32Array:
    """Resize a picture and normalise it: x = (pixel * rescale - mean) / std.

    Args:
        image: (H0, W0, 3) uint8 RGB, (H0, W0, 1) uint8 grey, or bands (H0, W0, C) float32 in the model's order.
        preprocessing: The model's own.

    Returns:
        x: (C, H, W) float32, C-contiguous, channels in the model's order.
    """
    return normalised(display_image(image, preprocessing), preprocessing, image.shape[:-1])


def normalised(seen: Array, preprocessing: Preprocessing, photo_size: Size | None = None) -> Float32Array:
    """Return a picture of the model's size (H, W, C) as the model's input (C, H, W), see `preprocess`.

    Args:
        seen: The picture, as `display_image` returns it.
        preprocessing: The model's own.
        photo_size: (H0, W0) of the photo; the padding of a letterbox gets its exact value then, which a picture of
            whole numbers may have rounded.
    """
    mean, std, order = _constants(preprocessing)
    pixels = np.moveaxis(seen, -1, 0)[order].astype(np.float32)
    if photo_size is not None and preprocessing.resize == "letterbox":
        padding = np.ones(preprocessing.size, np.bool_)
        on_shown(padding, photo_size, preprocessing)[...] = False
        pixels[:, padding] = np.array(preprocessing.pad, np.float32)[:, None]
    return np.ascontiguousarray((pixels * np.float32(preprocessing.rescale) - mean) / std)


def unpreprocess(x: Float32Array, preprocessing: Preprocessing) -> Array:
    """Return the picture behind a model input, for display: the inverse of `preprocess`, except for resizing.

    Args:
        x: (C, H, W) float32, channels in the model's order.
        preprocessing: The model's own.

    Returns:
        (H, W, 3) uint8 RGB, clipped to 0..255; bands, signals and volumes as `drawable` shows them.
    """
    mean, std, order = _constants(preprocessing)
    with np.errstate(over="ignore"):  # what is far too large is white all the same
        pixels = (x * std + mean) / np.float32(preprocessing.rescale)
    if preprocessing.takes_photos:
        pixels = np.rint(pixels).clip(0, 255).astype(np.uint8)
    return drawable(np.ascontiguousarray(np.moveaxis(pixels[order], 0, -1)), preprocessing)


def as_input(image: ImageLike, preprocessing: Preprocessing) -> tuple[Array | None, Float32Array]:
    """Turn a picture in any form into a model input.

    Args:
        image: A path; the bytes of a file, or a file object; a PIL image; an array of pixels, see `pixels_of`, or of
            bands, see `bands_of`; a signal or a volume, see `field_of`; or a preprocessed float32 (C, H, W) or
            (1, C, H, W) array. Arrays may be of any library.
        preprocessing: The model's own; (H, W) must be its size.

    Returns:
        photo: The picture as `picture_of` returns it, or None where the input came preprocessed.
        x: (C, H, W) float32, C-contiguous.

    Raises:
        ImageError: The picture cannot be read, the array has another shape or type, or it holds NaN or infinity.
    """
    given = open_given(image, preprocessing)
    if given.size is None:
        return None, given.values
    return given.values, preprocess(given.values, preprocessing)
