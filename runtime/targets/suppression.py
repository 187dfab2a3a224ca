"""The search for duplicates among boxes: non-maximum suppression."""

import cv2
import numpy as np

from fusioncam.kernels.arrays import Array, BoolArray, Float64Array, Int64Array
from fusioncam.kernels.boxes import LEAST, areas


def distinct(boxes: Array, groups: Array, iou: float) -> Int64Array:
    """Return the positions of the boxes that are no duplicate of one before them, by cv2.dnn.NMSBoxes.

    A box is a duplicate where a box before it that is none overlaps it by more than `iou`. An empty box overlaps
    nothing, as in torchvision; OpenCV takes two of them for the same.

    Args:
        boxes: (n, 4) x1, y1, x2, y2, those of highest score first.
        groups: (n,) whole numbers: only boxes of one group are duplicates.
        iou: The overlap.
    """
    exact = boxes.astype(np.float64)
    full = np.flatnonzero(areas(exact) > 0)
    if not len(full):
        return np.arange(len(boxes))
    corners = exact[full, :2] + (groups[full] * (np.ptp(exact) + 1))[:, None]  # groups lie beside each other
    sides = exact[full, 2:] - exact[full, :2]
    ranks = np.arange(len(full), 0, -1)  # in place of scores, whose ties it would put in an order of its own
    kept = cv2.dnn.NMSBoxes(np.concatenate([corners, sides], axis=1).tolist(), ranks.tolist(), 0.0, iou)
    empty = np.flatnonzero(areas(exact) == 0)
    return np.sort(np.concatenate([full[np.asarray(kept, np.int64)], empty]))


def distinct_rotated(boxes: Array, groups: Array, iou: float) -> Int64Array:
    """Return the positions of the rotated boxes that no box before them overlaps by more than `iou`.

    As Ultralytics has it, overlap is `likeness`, and a duplicate has duplicates of its own.

    Args:
        boxes: (n, 5) centre, width, height and angle in radians, those of highest score first.
        groups: (n,) whole numbers: only boxes of one group are duplicates.
        iou: The overlap.
    """

    def is_new(n: int) -> bool:
        before: BoolArray = groups[:n] == groups[n]
        return not (likeness(boxes[n], boxes[:n][before]) > iou).any()

    return np.array([n for n in range(len(boxes)) if is_new(n)], np.int64)


def likeness(box: Array, boxes: Array) -> Float64Array:
    """Return the ProbIoU (n,) of a rotated box (5,) with others (n, 5): arXiv 2106.06072.

    A box stands for a Gaussian of its mean and covariance; the likeness of two is one less their Hellinger distance.
    """
    (xx, yy, xy), of_others = _covariance(box), _covariance(boxes)
    dx, dy = (np.asarray(boxes[:, n] - box[n], np.float64) for n in (0, 1))
    sums = xx + of_others[0], yy + of_others[1], xy + of_others[2]
    determinant = np.maximum(_determinant(*sums), LEAST)
    apart = (sums[1] * dx**2 + sums[0] * dy**2 - 2 * sums[2] * dx * dy) / (4 * determinant)
    own = np.maximum(_determinant(xx, yy, xy) * _determinant(*of_others), LEAST**2)
    shapes = np.log(np.maximum(determinant / (4 * np.sqrt(own)), 1)) / 2
    return np.asarray(1 - np.sqrt(-np.expm1(-(apart + shapes))))


def _covariance(boxes: Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    """Return the variances along x and y and the covariance of uniform densities over rotated boxes (..., 5)."""
    width, height, angle = (boxes[..., n].astype(np.float64) for n in (2, 3, 4))
    along, across = width**2 / 12, height**2 / 12
    cosine, sine = np.cos(angle), np.sin(angle)
    return (
        np.asarray(along * cosine**2 + across * sine**2),
        np.asarray(along * sine**2 + across * cosine**2),
        np.asarray((along - across) * cosine * sine),
    )


def _determinant(xx: Float64Array, yy: Float64Array, xy: Float64Array) -> Float64Array:
    return np.asarray(xx * yy - xy**2)
