"""Smooth lines around the salient parts of a map, at any resolution."""

import cv2
import numpy as np

from fusioncam.kernels.arrays import BoolArray, Float32Array


def edge_distance(saliency: Float32Array, level: float, region: BoolArray) -> Float32Array:
    """Return the distance of each pixel from the edge of a region, exact to a fraction of a pixel near the edge.

    In the region the map is above a level, so the edge crosses a pixel at about |m - level| / |grad m| from its centre.
    Where the map is constant at the level, that distance is 0 far from the edge, so the distance to the nearest pixel
    on the other side, less one, bounds it from below.

    Args:
        saliency: m (H, W) float32.
        level: Value of the map at the edge.
        region: (H, W) bool, m >= level except for ties.

    Returns:
        (H, W) float32, in pixels; H + W where the region is empty or the whole map.
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
    """Return the share of each pixel, 0..1, that a line of some width along the edge covers."""
    return np.asarray(np.clip(width / 2 + 0.5 - distance, 0, 1), np.float32)


def _slope(saliency: Float32Array, axis: int) -> Float32Array:
    """Return central differences; zero along an axis of one pixel."""
    return np.asarray(np.gradient(saliency, axis=axis) if saliency.shape[axis] > 1 else 0 * saliency, np.float32)
