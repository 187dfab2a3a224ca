"""Pictures of random patches, which show more of a model than noise does: shapes survive its pools."""

from collections.abc import Sequence

import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest

PATCH = 8  # pixels


def patchwork(rng: np.random.Generator, shape: Sequence[int], count: int = 1) -> Array:
    """Draw squares of random colours: (count, C, H, W) float64 in [0, 1).

    Args:
        rng: The source of the colours.
        shape: (C, H, W); (C, L) of a signal, (C, D, H, W) of a volume.
        count: Number of pictures.
    """
    channels, *size = shape
    patches = rng.random((count, channels, *(-(-n // PATCH) for n in size)))
    for axis, n in enumerate(size, start=2):
        patches = patches.repeat(PATCH, axis).take(range(n), axis)
    return patches


def pictures(manifest: Manifest, count: int) -> Array:
    """Draw pictures of patches and preprocess them: (count, C, H, W) float32, the same at each call.

    Bands have numbers of any size, so theirs are drawn in -2..2, the range of most models' inputs, unless the source
    takes whole numbers.
    """
    prep = manifest.preprocessing
    patches = patchwork(np.random.default_rng(0), prep.shape, count)
    if prep.extremes is None and np.dtype(manifest.source.type).kind == "f":
        return np.asarray(4 * patches - 2, np.float32)
    pixels = 255 * patches
    mean, std = (np.reshape(v, (-1, *[1] * len(prep.size))) for v in (prep.mean, prep.std))
    return np.asarray((pixels * prep.rescale - mean) / std, np.float32)
