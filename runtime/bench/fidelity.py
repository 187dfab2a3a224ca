"""How near a map is to another."""

from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Float32Array


class Difference(NamedTuple):
    """Two maps: their correlation over the pixels (Pearson's), and the largest difference of a pixel."""

    correlation: float
    largest: float


def difference(found: Float32Array, wanted: Float32Array) -> Difference:
    """How far a map (H, W) is from another; a flat map correlates with its equal only."""
    one, other = found.astype(np.float64).ravel(), wanted.astype(np.float64).ravel()
    largest = float(np.abs(one - other).max())
    if not (np.ptp(one) and np.ptp(other)):
        return Difference(float(largest == 0), largest)
    return Difference(float(np.corrcoef(one, other)[0, 1]), largest)
