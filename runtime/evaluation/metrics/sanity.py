"""Likeness of two maps, for the sanity check of Adebayo et al. (arXiv 1810.03292).

A map that shows what a model has learned must change when its weights are shuffled
(`fusioncam.export.randomise.randomised_bundle`).
"""

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array


def spearman(one: Float32Array, other: Float32Array) -> float:
    """Return the rank correlation of two maps (H, W), -1..1; NaN if one of them holds NaN.

    Equal pixels share the mean of their ranks. A flat map has no order: it is like its equal (1), like no other (0).
    """
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("nan")
    first, second = ranks(one), ranks(other)
    if not (np.ptp(first) and np.ptp(second)):
        return float(np.array_equal(one, other))
    return float(np.corrcoef(first, second)[0, 1])


def ranks(values: Array) -> Array:
    """Return the ranks (n,) of values, from 0 on; equal values share the mean of their ranks."""
    _, place, count = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count + 1) / 2)[place])
