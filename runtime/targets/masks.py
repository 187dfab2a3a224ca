"""Instance masks of detections: prototypes weighted by a detection's coefficients, enlarged, and cut to its box."""

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from fusioncam.kernels.arrays import Array, BoolArray, Float32Array, Float64Array
from fusioncam.runtime.photos.axes import Axis
from fusioncam.runtime.photos.geometry import sampled


def mask_logits(coefficients: Array, prototypes: Float32Array) -> Float32Array:
    """Return the logits (h, w) of the mask of coefficients (P,), by prototypes (P, h, w)."""
    return np.asarray(np.tensordot(coefficients, prototypes, axes=1), np.float32)


def mask_on_input(logits: Float32Array, rows: Axis, columns: Axis, box: Sequence[float]) -> BoolArray:
    """Return a mask (H, W) of the model's input, as Ultralytics' `process_mask` has it.

    Logits are enlarged, not probabilities, and what is above zero is inside: its probability is above a half.

    Args:
        logits: (h, w).
        rows: The rows of the photo and the input.
        columns: Its columns.
        box: x1, y1, x2, y2 in pixels of the input; a pixel lies within by its upper left corner.
    """
    mask = np.zeros((rows.size, columns.size), np.bool_)
    part = _within(box, (slice(0, rows.size), slice(0, columns.size)))
    mask[part] = _enlarged(logits, rows, columns)[part] > 0
    return mask


def mask_on_photo(logits: Float32Array, rows: Axis, columns: Axis, box: Sequence[float]) -> BoolArray:
    """Return a mask (H0, W0) of the photo: the enlarged logits at its pixels' centres, see `mask_on_input`.

    Args:
        logits: (h, w).
        rows: The rows of the photo and the input.
        columns: Its columns.
        box: x1, y1, x2, y2 in pixels of the photo.
    """
    mask = np.zeros((rows.whole, columns.whole), np.bool_)
    part = _within(box, (rows.seen, columns.seen))
    for down, across, values in sampled(_enlarged(logits, rows, columns), rows, columns, part):
        mask[down, across] = values > 0
    return mask


def contours_of(mask: BoolArray) -> list[Float64Array]:
    """Return the outlines (n, 2) of the parts of a mask, x and y: through the centres of their outermost pixels."""
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    return [contour.reshape(-1, 2).astype(np.float64) + 0.5 for contour in found]


def mask_summary(mask: BoolArray) -> dict[str, Any]:
    """Return a mask, ready for JSON: its pixels, and its outlines as COCO has them, [[x, y, x, y, ...], ...]."""
    return {"area": int(mask.sum()), "segmentation": [contour.ravel().tolist() for contour in contours_of(mask)]}


def _enlarged(logits: Float32Array, rows: Axis, columns: Axis) -> Float32Array:
    return np.asarray(cv2.resize(logits, (columns.size, rows.size), interpolation=cv2.INTER_LINEAR), np.float32)


def _within(box: Sequence[float], part: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return the pixels of a part whose upper left corners lie in a box."""
    x1, y1, x2, y2 = (math.ceil(edge) for edge in np.clip(box, -1, 2**31).tolist())
    rows, columns = (
        slice(max(first, limits.start), max(min(last, limits.stop), first, limits.start))
        for first, last, limits in ((y1, y2, part[0]), (x1, x2, part[1]))
    )
    return rows, columns
