"""Smooth lines around the salient parts of a map, at any resolution."""

import cv2
import numpy as np

from fusioncam.kernels.arrays import BoolArray, Float32Array


def edge_distance(saliency: Float32Array, level: float, region: BoolArray) -> Float32Array:
    """How far each pixel is from the edge of a region, good to a fraction of a pixel near the edge.

    The region is where the map is above a level, so the edge crosses a pixel at about |m - level| / |grad m| from its
    centre. Where the map is level as well, that would call a whole plain an edge, so the distance to the nearest pixel
    on the other side, less one, bounds it from below.

    Args:
        saliency: m (H, W) float32.
        level: Of the edge.
        region: (H, W) bool, m >= level but for ties.

    Returns:
        (H, W) float32, in pixels; far from everything where the region is empty or everything.
    """
    height, width = saliency.shape
    if not region.any() or region.all():
        return np.full(saliency.shape, height + width, np.float32)
    inside = region.astype(np.uint8)
    coarse = sum(cv2.distanceTransform(part, cv2.DIST_L2, cv2.DIST_MASK_5) for part in (inside, 1 - inside))
    across, down = (_slope(saliency, axis) for axis in (1, 0))
    fine = np.abs(saliency - np.float32(level)) / np.maximum(np.hypot(across, down), np.float32(1e-9))
    return np.asarray(np.maximum(fine, coarse - 1), np.float32)


def stroke(distance: Float32Array, width: float) -> Float32Array:
    """How much of each pixel a line of some width along the edge covers, 0..1."""
    return np.asarray(np.clip(width / 2 + 0.5 - distance, 0, 1), np.float32)


def _slope(saliency: Float32Array, axis: int) -> Float32Array:
    """Central differences; zero along an axis of one pixel."""
    return np.asarray(np.gradient(saliency, axis=axis) if saliency.shape[axis] > 1 else 0 * saliency, np.float32)
