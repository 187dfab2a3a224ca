"""How good a map is: how near to another, and what the model makes of the picture under it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fusioncam.runtime.image import Float32Array


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


def average_drop(whole: Sequence[float], under_map: Sequence[float]) -> float:
    """Average Drop (Grad-CAM++, arXiv 1710.11063): mean of max(0, p - p') / p; lower is better.

    Args:
        whole: p_c(x) of every picture, above 0.
        under_map: p' = p_c(x * E), E its map.
    """
    pairs = zip(whole, under_map, strict=True)
    return float(np.mean([max(0.0, p - under) / p for p, under in pairs]))


def fault(found: Float32Array, size: tuple[int, ...]) -> str | None:
    """Why an array is no map of a picture of `size` (H, W), if it is none."""
    if found.shape != size:
        return f"its shape is {found.shape}, not {size}"
    if not np.isfinite(found).all():
        return "it holds NaN or infinity"
    if found.min() < 0 or found.max() > 1:
        return f"it goes from {found.min():.3g} to {found.max():.3g}, not from 0 to 1"
    return None
