"""The difference of two maps."""

from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Float32Array


class Difference(NamedTuple):
    """The correlation (Pearson's) of two maps over the pixels, and the largest difference of a pixel."""

    correlation: float
    largest: float


def difference(first: Float32Array, second: Float32Array) -> Difference:
    """Return the difference of two maps (H, W); a flat map correlates with its equal only."""
    one, other = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    largest = float(np.abs(one - other).max())
    if not (np.ptp(one) and np.ptp(other)):
        return Difference(float(largest == 0), largest)
    return Difference(float(np.corrcoef(one, other)[0, 1]), largest)
