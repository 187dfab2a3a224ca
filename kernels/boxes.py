"""Boxes x1, y1, x2, y2: their areas, and how far they overlap."""

import numpy as np

from fusioncam.kernels.arrays import Array, Float64Array

LEAST = 1e-12  # area that an overlap is divided by


def overlaps(box: Array, boxes: Array) -> Float64Array:
    """Return the intersection over union of boxes (..., 4) with others of a shape that fits; 0 where both are empty."""
    box, boxes = (np.asarray(b, np.float64) for b in (box, boxes))
    low, high = np.maximum(box[..., :2], boxes[..., :2]), np.minimum(box[..., 2:], boxes[..., 2:])
    shared = (high - low).clip(0).prod(axis=-1)
    return np.asarray(shared / np.maximum(areas(box) + areas(boxes) - shared, LEAST))


def areas(boxes: Array) -> Float64Array:
    """Return the areas of boxes (..., 4); 0 where a side has no length."""
    return np.asarray((boxes[..., 2:] - boxes[..., :2]).clip(0).prod(axis=-1), np.float64)
