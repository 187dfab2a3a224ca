"""The average precision of detections, by COCO's definition, in NumPy.

Detections of a class are taken in the order of their scores. Each takes the free object of its class that it overlaps
most, if by the threshold at least. The precision at each of 101 recalls is the best at that recall or beyond; its mean
over recalls, classes and thresholds is the figure. By size: other objects are left out, and so are detections that took
one of them, or that took none and have another size themselves.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fusioncam.kernels.arrays import BoolArray, FloatingArray, Int64Array
from fusioncam.kernels.boxes import overlaps
from fusioncam.runtime.demo.crowds import Crowd

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
SIZES = {"all": (0.0, np.inf), "small": (0.0, 32.0), "medium": (32.0, 64.0), "large": (64.0, np.inf)}
"""Roots of areas in pixels, from and to."""

MOST = 100


@dataclass(frozen=True)
class Found:
    """Detections of a picture: boxes (D, 4) x1, y1, x2, y2, scores (D,), the highest first, and classes (D,)."""

    boxes: FloatingArray
    scores: FloatingArray
    classes: Int64Array


def without_duplicates(answer: FloatingArray, conf: float = 0.001, iou: float = 0.7) -> Found:
    """Read an answer (4 + classes, A) of boxes x, y, w, h around centres, and suppress duplicates class by class."""
    boxes, scores = answer[:4].T.astype(np.float64), answer[4:].T
    place, class_index = np.nonzero(scores > conf)
    boxes, score = boxes[place], scores[place, class_index].astype(np.float64)
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, 2:]], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(corners.tolist(), score.tolist(), class_index.tolist(), conf, iou)
    kept = np.asarray(kept, np.int64)
    kept = kept[np.argsort(-score[kept], kind="stable")][:MOST]
    corners[:, 2:] += corners[:, :2]
    return Found(corners[kept], score[kept], class_index[kept])


def matched(iou: FloatingArray, left_out: BoolArray) -> Int64Array:
    """Return the object (thresholds, D) that each detection takes, in order, -1 for none; those left out come last.

    Args:
        iou: (D, G).
        left_out: (G,), objects that count neither as found nor as missed.
    """
    taken = np.full((len(THRESHOLDS), len(iou)), -1)
    free = np.ones((len(THRESHOLDS), iou.shape[1]), bool)
    rows = np.arange(len(THRESHOLDS))
    for detection, row in enumerate(iou if iou.size else ()):
        rank = np.where(free & (row >= THRESHOLDS[:, None]), row + 2 * ~left_out, -1)
        best = rank.argmax(axis=1)
        found = rank[rows, best] > 0
        taken[found, detection] = best[found]
        free[found, best[found]] = False
    return taken


def precision(scores: FloatingArray, right: BoolArray, objects: int) -> float:
    """Return the mean precision over 101 recalls of detections (D,) in any order."""
    right = right[np.argsort(-scores, kind="stable")]
    hits = np.cumsum(right)
    precisions = np.maximum.accumulate((hits / np.arange(1, len(hits) + 1))[::-1])[::-1]
    reached = np.searchsorted(hits / objects, RECALLS, side="left")
    return float(np.append(precisions, 0.0)[reached].mean())


def average_precisions(pictures: Sequence[Crowd], found: Sequence[Found], classes: int) -> dict[str, float]:
    """Return the mean average precisions of detections: at IoU 0.5, over 0.5 to 0.95, and that by size.

    Args:
        pictures: With their objects.
        found: The detections of each.
        classes: Number of classes; those without an object do not count, nor do sizes without one.
    """
    figures = {}
    for name, sizes in SIZES.items():
        of_classes = [_of_class(pictures, found, index, sizes) for index in range(classes)]
        known = [figure for figure in of_classes if figure is not None]
        if not known:
            continue
        mean = np.mean(known, axis=0)
        if name == "all":
            figures["mAP50"] = float(mean[0])
        figures[f"mAP50-95, {name}"] = float(mean.mean())
    return figures


def _of_class(
    pictures: Sequence[Crowd], found: Sequence[Found], class_index: int, sizes: tuple[float, float]
) -> list[float] | None:
    """Return the average precision of a class at each threshold; None where it has no object of the size."""
    objects = 0
    scores, right, counts = (
        [np.zeros(0)],
        [np.zeros((len(THRESHOLDS), 0), bool)],
        [np.zeros((len(THRESHOLDS), 0), bool)],
    )
    for drawn, detections in zip(pictures, found, strict=True):
        truth = np.array([seen.box for seen in drawn.objects if seen.class_index == class_index], float).reshape(-1, 4)
        mine = detections.classes == class_index
        boxes = detections.boxes[mine]
        left_out, other_size = (~_within(some, sizes) for some in (truth, boxes))
        objects += int((~left_out).sum())
        taken = matched(overlaps(boxes[:, None], truth), left_out)
        scores.append(detections.scores[mine])
        right.append(taken >= 0)
        counts.append(~np.where(taken >= 0, np.append(left_out, True)[taken], other_size))
    if not objects:
        return None
    score, hit, counted = (np.concatenate(parts, axis=-1) for parts in (scores, right, counts))
    return [precision(score[these], hits[these], objects) for hits, these in zip(hit, counted, strict=True)]


def _within(boxes: FloatingArray, sizes: tuple[float, float]) -> BoolArray:
    side = np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return np.asarray((side >= sizes[0]) & (side <= sizes[1]))
