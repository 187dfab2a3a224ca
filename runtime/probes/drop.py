"""Average Drop and Increase in Confidence (Grad-CAM++, arXiv 1710.11063): p_c(x) beside p_c(x * E)."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from fusioncam.kernels.arrays import Array
from fusioncam.runtime.probes.measured import Measured
from fusioncam.runtime.probes.probe import WHOLE, Key, Known, Map, Probe, Subject


def drop(p: npt.ArrayLike, under: npt.ArrayLike) -> Array:
    """Return max(0, p - p') / p of confidences p > 0 and p' under the map; NaN for other p."""
    p = np.asarray(p, np.float64)
    above = np.where(p > 0, p, np.nan)
    return np.asarray(np.maximum(above - under, 0) / above)


def average_drop(whole: Sequence[float], under_map: Sequence[float]) -> float:
    """Return the Average Drop, the mean of max(0, p - p') / p; lower is better.

    Args:
        whole: p_c(x) of every picture, above 0.
        under_map: p' = p_c(x * E), E its map.
    """
    if len(whole) != len(under_map):
        raise ValueError(f"{len(whole)} pictures and {len(under_map)} maps")
    return float(drop(whole, under_map).mean())


def drop_probe(subject: Subject, target: Map) -> Probe:
    """Return the probe of both metrics."""
    under: Key = ("under", target.name)

    def read(known: Known) -> Measured:
        before, after = known[WHOLE], known[under]
        values = {
            "confidence": before,
            "confidence_under_map": after,
            "drop": float(drop(before, after)),
            "increase": float(after > before),
        }
        return Measured(values, flags=() if before > 0 else ("no_confidence",))

    return Probe({WHOLE: subject.shared[WHOLE], under: lambda: subject.x * target.saliency}, read)
