"""Pictures of random patches, which show more of a model than noise does: shapes survive its pools."""

import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest

PATCH = 8  # pixels


def patchwork(rng: np.random.Generator, size: tuple[int, int], count: int = 1) -> Array:
    """Draw squares of random colours: (count, 3, H, W) float64 in [0, 1).

    Args:
        rng: The source of the colours.
        size: (H, W) in pixels.
        count: Number of pictures.
    """
    height, width = size
    patches = rng.random((count, 3, -(-height // PATCH), -(-width // PATCH)))
    return patches.repeat(PATCH, axis=2).repeat(PATCH, axis=3)[..., :height, :width]


def pictures(manifest: Manifest, count: int) -> Array:
    """Draw pictures of patches and preprocess them: (count, 3, H, W) float32, the same at each call."""
    prep = manifest.preprocessing
    pixels = 255 * patchwork(np.random.default_rng(0), prep.size, count)
    mean, std = (np.reshape(v, (3, 1, 1)) for v in (prep.mean, prep.std))
    return np.asarray((pixels * prep.rescale - mean) / std, np.float32)
