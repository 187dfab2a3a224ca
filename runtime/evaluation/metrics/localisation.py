"""Localisation: a good map lies on the object. No pass is needed, but somebody must have marked the object."""

from collections.abc import Mapping

import cv2
import numpy as np

from fusioncam.kernels.arrays import BoolArray, Float32Array
from fusioncam.runtime.evaluation.metrics.catalogue import flags_of
from fusioncam.runtime.probes.measured import Measured


def localisation(maps: Mapping[str, Float32Array], mask: BoolArray, tolerance: float = 0.0) -> dict[str, Measured]:
    """Measure the pointing game and the energy pointing game of several maps of one picture.

    Args:
        maps: E (H, W) by method, in [0, 1].
        mask: The part of the object (H, W) that the model sees, at the size of its input.
        tolerance: See `pointing`.

    Returns:
        By method: `pointing` and `energy`; no values for a map that holds NaN, or where the mask is empty.
    """
    measured = {}
    for method, saliency in maps.items():
        flags = (*flags_of(saliency), *(() if mask.any() else ("no_object",)))
        sound = not {"nan_map", "no_object"} & {*flags}
        values = {"pointing": pointing(saliency, mask, tolerance), "energy": energy(saliency, mask)} if sound else {}
        measured[method] = Measured(values, flags=flags)
    return measured


def pointing(saliency: Float32Array, mask: BoolArray, tolerance: float = 0.0) -> float:
    """Return 1 where the map's maximum lies on the object, else 0: the pointing game (arXiv 1608.00507).

    Where several pixels share the maximum, the share of them on the object counts. A blank map points nowhere: 0.

    Args:
        saliency: E (H, W).
        mask: The object (H, W).
        tolerance: Pixels by which the maximum may miss the object; RISE and TorchRay allow 15 on photos.
    """
    near = widened(mask, tolerance)
    return float(near[saliency == saliency.max()].mean()) if saliency.any() else 0.0


def energy(saliency: Float32Array, mask: BoolArray) -> float:
    """Return the share of the map's sum on the object, 0 if blank: the energy pointing game (arXiv 1910.01279)."""
    total = saliency.sum(dtype=np.float64)
    return float(saliency[mask].sum(dtype=np.float64) / total) if total > 0 else 0.0


def widened(mask: BoolArray, tolerance: float) -> BoolArray:
    """Return the mask of the object and of all that is at most `tolerance` pixels from it."""
    if tolerance <= 0 or not mask.any():
        return mask
    far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(far <= tolerance)
