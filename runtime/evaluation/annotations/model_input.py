"""Regions of a photo in the pixels of the model's input."""

import numpy as np

from fusioncam.kernels.arrays import BoolArray
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.axes import axes
from fusioncam.runtime.photos.geometry import display_image, visible_slices


def in_model_input(region: BoolArray, preprocessing: Preprocessing) -> BoolArray:
    """Return a region of a photo in the pixels of the model's input, resized and cut as the photo is.

    Args:
        region: (H0, W0) bool.
        preprocessing: The model's own.

    Returns:
        (H, W) bool: the pixels of which at least half lie in the region, or, for a region too small or thin for that,
        the pixels that it touches. Nowhere true where the crop leaves nothing of the region.
    """
    inside = np.zeros(region.shape, np.bool_)
    visible = visible_slices((region.shape[0], region.shape[1]), preprocessing)
    inside[visible] = region[visible]
    if not inside.any():
        return np.zeros(preprocessing.size, np.bool_)
    unpadded = preprocessing.model_copy(update={"pad": (0.0,)})
    shares = display_image(region[..., None].astype(np.uint8) * 255, unpadded)[..., 0]
    mask = shares >= 128
    if not mask.any():
        landed = (
            ((at + 0.5) * axis.resized / axis.whole - axis.start).astype(int).clip(0, axis.size - 1)
            for at, axis in zip(inside.nonzero(), axes((region.shape[0], region.shape[1]), preprocessing), strict=True)
        )
        mask[tuple(landed)] = True
    return mask
