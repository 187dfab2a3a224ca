"""Does a map lie on the object? Needs no pass, but somebody who has marked the object."""

from collections.abc import Mapping

import cv2
import numpy as np

from fusioncam.kernels.arrays import BoolArray, Float32Array
from fusioncam.runtime.evaluation.metrics.catalogue import Measured, flags_of


def localisation(maps: Mapping[str, Float32Array], mask: BoolArray, tolerance: float = 0.0) -> dict[str, Measured]:
    """Pointing game and energy pointing game of several maps of one picture.

    Args:
        maps: E (H, W) by method, in [0, 1].
        mask: The object (H, W), at the size of the model's input: what of it the model sees.
        tolerance: See `pointing`.

    Returns:
        By method: `pointing` and `energy`; no values for a map that holds NaN, or where the mask is empty.
    """
    near = widened(mask, tolerance)
    return {method: _located(saliency, mask, near) for method, saliency in maps.items()}


def _located(saliency: Float32Array, mask: BoolArray, near: BoolArray) -> Measured:
    flags = (*flags_of(saliency), *(() if mask.any() else ("no_object",)))
    if "nan_map" in flags or "no_object" in flags:
        return Measured(flags=flags)
    return Measured({"pointing": _hit(saliency, near), "energy": energy(saliency, mask)}, flags=flags)


def pointing(saliency: Float32Array, mask: BoolArray, tolerance: float = 0.0) -> float:
    """The pointing game (Zhang et al., arXiv 1608.00507): whether the map's maximum lies on the object, 0 or 1.

    Where several pixels share the maximum, the share of them that do. A blank map points nowhere: 0.

    Args:
        saliency: E (H, W).
        mask: The object (H, W).
        tolerance: Pixels by which the maximum may miss the object; RISE and TorchRay allow 15 on photos.
    """
    return _hit(saliency, widened(mask, tolerance))


def _hit(saliency: Float32Array, near: BoolArray) -> float:
    return float(near[saliency == saliency.max()].mean()) if saliency.any() else 0.0


def energy(saliency: Float32Array, mask: BoolArray) -> float:
    """The energy pointing game (Score-CAM, arXiv 1910.01279): share of the map's sum on the object; 0 if blank."""
    total = saliency.sum(dtype=np.float64)
    return float(saliency[mask].sum(dtype=np.float64) / total) if total > 0 else 0.0


def widened(mask: BoolArray, tolerance: float) -> BoolArray:
    """The object and what is at most `tolerance` pixels from it."""
    if tolerance <= 0 or not mask.any():
        return mask
    far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(far <= tolerance)
