"""Likeness of two maps."""

import numpy as np

from fusioncam.kernels.arrays import Float32Array


def correlation(first: Float32Array, second: Float32Array) -> float:
    """Return Pearson's correlation of two maps (H, W) over the pixels; a flat map correlates with its equal only."""
    one, other = first.astype(np.float64).ravel(), second.astype(np.float64).ravel()
    if not (np.ptp(one) and np.ptp(other)):
        return float(np.array_equal(one, other))
    return float(np.corrcoef(one, other)[0, 1])
