"""The codings of boxes: what the numbers of an anchor mean, as data, and the same decoded in NumPy for the check."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fusioncam.detector import KEYPOINT, Detector, ExtraKind
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Array, Float64Array, Size
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Ending

Sides = Literal["cxcywh", "xyxy", "yxyx", "xywh"]
STRIDES = (8, 16, 32)  # pixels between the cells of the levels of most detectors
SMALLEST = 1e-6  # distance from 0 and 1 of a probability whose logit is taken


@dataclass(frozen=True)
class Coding:
    """The meaning of a detector's tensors: one (N, A, columns), or boxes (N, A, 4) and numbers (N, A, classes).

    The columns of one tensor are the sides of the box, the objectness where there is one, the classes, then extras.

    Attributes:
        tensors: How many tensors there are, 1 or 2.
        anchors_last: Whether their axes are (N, columns, A).
        sides: What the four numbers of a box are: centre and size, two corners, or one corner and the size.
        relative: Whether they are shares of the input's width and height, in place of pixels.
        of_cells: Whether they are the centre's distance from the corner of a cell and the logarithm of the size, in
            strides, and anchors are the cells of the levels.
        objectness: Whether a score of its own says that there is an object; it is multiplied by those of classes.
        ending: What makes scores of the numbers; `value` where they are scores already.
        background: Where the numbers of classes hold one of no object.
        nms: Whether anchors give duplicates.
        multi_label: Whether every class above the threshold is a detection, not the best one of an anchor alone.
        extra: What follows the classes: coefficients of masks; x, y and the probability that a keypoint is visible;
            or the angle of the box.
        keypoint: How many numbers a keypoint has: two where it has no such probability.
    """

    tensors: int = 1
    anchors_last: bool = False
    sides: Sides = "cxcywh"
    relative: bool = False
    of_cells: bool = False
    objectness: bool = False
    ending: Literal["value", "softmax", "sigmoid"] = "value"
    background: Literal["none", "first", "last"] = "none"
    nms: bool = True
    multi_label: bool = False
    extra: ExtraKind = "none"
    keypoint: int = KEYPOINT

    @property
    def words(self) -> str:
        """Return how scores are made of the numbers of classes, in a few words."""
        made = {"value": "scores", "softmax": "a softmax", "sigmoid": "a sigmoid for each class"}[self.ending]
        return made if self.background == "none" else f"{made}, the {self.background} is no object"

    @property
    def before_classes(self) -> int:
        """Return the number of columns before those of classes, in one tensor."""
        return SIDES + self.objectness


def cells(size: Size) -> int:
    """Return the number of cells of the levels for a picture (H, W).

    A picture that is smaller than a cell has none.
    """
    return 0 if min(size) < max(STRIDES) else len(cell_corners(size)[0])


def cell_corners(size: Size) -> tuple[Float64Array, Float64Array]:
    """Return the corners x, y (A, 2) of the cells of all levels, in strides, and the strides (A, 1)."""
    corners, strides = [], []
    for stride in STRIDES:
        rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
        corners.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        strides.append(np.full((rows.size, 1), stride))
    return np.concatenate(corners).astype(np.float64), np.concatenate(strides).astype(np.float64)


def corners(sides: Float64Array, coding: Coding, size: Size) -> Float64Array:
    """Return boxes (..., 4) as x1, y1, x2, y2 in pixels of an input (H, W)."""
    if coding.of_cells:
        places, strides = cell_corners(size)
        sides = np.concatenate([(sides[..., :2] + places) * strides, np.exp(sides[..., 2:]) * strides], axis=-1)
    a, b, c, d = np.moveaxis(sides, -1, 0)
    if coding.sides == "cxcywh":
        found = [a - c / 2, b - d / 2, a + c / 2, b + d / 2]
    elif coding.sides == "xywh":
        found = [a, b, a + c, b + d]
    else:
        found = [a, b, c, d] if coding.sides == "xyxy" else [b, a, d, c]
    scale = (size[1], size[0]) * 2 if coding.relative else (1, 1, 1, 1)
    return np.stack(found, axis=-1) * scale


def read_raw(raw: Sequence[Array], coding: Coding, classes: int, size: Size) -> Float64Array:
    """Return boxes, scores of classes and extras (N, A, columns) of a detector's own tensors.

    Args:
        raw: The tensors.
        coding: What they mean.
        classes: The numbers of classes, background included.
        size: (H, W) of the input.
    """
    arrays = [np.asarray(a, np.float64) for a in raw]
    if coding.anchors_last:
        arrays = [a.swapaxes(1, 2) for a in arrays]
    whole = np.concatenate(arrays, axis=2)
    first = coding.before_classes
    numbers, extras = whole[..., first : first + classes], whole[..., first + classes :]
    scores = probabilities(numbers, coding.ending)
    if coding.objectness:
        scores = scores * whole[..., SIDES : SIDES + 1]
    boxes = corners(whole[..., :SIDES], coding, size)
    if coding.extra == "rotated":
        boxes, extras = hulls(whole[..., :SIDES], extras), np.concatenate([whole[..., :SIDES], extras], axis=2)
    elif coding.extra == "keypoints" and coding.keypoint == KEYPOINT:
        visible = extras[..., KEYPOINT - 1 :: KEYPOINT].clip(SMALLEST, 1 - SMALLEST)
        extras[..., KEYPOINT - 1 :: KEYPOINT] = np.log(visible) - np.log1p(-visible)
    return np.concatenate([boxes, scores, extras if coding.extra != "none" else extras[..., :0]], axis=2)


def hulls(sides: Float64Array, angles: Float64Array) -> Float64Array:
    """Return the smallest upright boxes (..., 4), x1, y1, x2, y2, around rotated ones.

    Args:
        sides: (..., 4) centre and size.
        angles: (..., 1) in radians.
    """
    centre, width, height = sides[..., :2], sides[..., 2:3], sides[..., 3:]
    cosine, sine = np.abs(np.cos(angles)), np.abs(np.sin(angles))
    half = np.concatenate([width * cosine + height * sine, width * sine + height * cosine], axis=-1) / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def decode(detections: Array, detector: Detector, classes: int, ending: Ending) -> Float64Array:
    """Return boxes, scores of classes and extras (N, A, columns) of the normal form."""
    end = SIDES + detector.numbers(classes)
    exact = np.asarray(detections, np.float64)
    scores = probabilities(exact[..., SIDES:end], ending)
    return np.concatenate([exact[..., :SIDES], scores, exact[..., end:]], axis=2)
