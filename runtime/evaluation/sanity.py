"""How alike two maps are, for the sanity check of Adebayo et al. (arXiv 1810.03292).

A map that shows what a model has learned must change when its weights are shuffled
(`fusioncam.export.randomise.randomised_bundle`).
"""

from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.runtime.work import Array, Floats

WINDOW, DEVIATION = (11, 11), 1.5
C1, C2 = 0.01**2, 0.03**2  # maps go from 0 to 1


class Similarity(NamedTuple):
    """Two maps: rank correlation over the pixels (Spearman), -1..1, and structural similarity (SSIM), 1 if equal."""

    spearman: float
    ssim: float


def similarity(one: Floats, other: Floats) -> Similarity:
    """How alike two maps (H, W) in [0, 1] are; NaN if they hold NaN."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return Similarity(np.nan, np.nan)
    return Similarity(spearman(one, other), ssim(one, other))


def spearman(one: Floats, other: Floats) -> float:
    """Correlation of the pixels' ranks, equal pixels sharing the mean of theirs.

    A flat map has no order: it is like its equal (1), and like no other (0).
    """
    first, second = ranks(one), ranks(other)
    if not (np.ptp(first) and np.ptp(second)):
        return float(np.array_equal(one, other))
    return float(np.corrcoef(first, second)[0, 1])


def ranks(values: Array) -> Array:
    """Ranks (n,) from 0 on; equal values share the mean of theirs."""
    _, place, count = np.unique(values.ravel(), return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count + 1) / 2)[place])


def ssim(one: Floats, other: Floats) -> float:
    """Structural similarity (Wang et al., TIP 2004): Gaussian windows of 11 pixels, deviation 1.5, at every pixel.

    Beyond the edges the maps are mirrored.
    """
    a, b = one.astype(np.float64), other.astype(np.float64)
    mean_a, mean_b, aa, bb, ab = (cv2.GaussianBlur(m, WINDOW, DEVIATION) for m in (a, b, a * a, b * b, a * b))
    both = mean_a * mean_b
    squares = mean_a**2 + mean_b**2
    alike = (2 * both + C1) * (2 * (ab - both) + C2) / ((squares + C1) * (aa + bb - squares + C2))
    return float(alike.mean())
