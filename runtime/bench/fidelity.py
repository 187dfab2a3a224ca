"""The difference of two maps."""

from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Float32Array
from fusioncam.runtime.probes.likeness import correlation


class Difference(NamedTuple):
    """The correlation (Pearson's) of two maps over the pixels, and the largest difference of a pixel."""

    correlation: float
    largest: float


def difference(first: Float32Array, second: Float32Array) -> Difference:
    """Return the difference of two maps (H, W); a flat map correlates with its equal only."""
    largest = np.abs(first.astype(np.float64) - second.astype(np.float64)).max()
    return Difference(correlation(first, second), float(largest))
