"""The codings of boxes: what the numbers of an anchor mean, as data, and the same decoded in NumPy for the check."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fusioncam.detector import Detector, ExtraKind
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Array, Float64Array, Size
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Ending

Sides = Literal["cxcywh", "xyxy", "yxyx", "xywh"]


@dataclass(frozen=True)
class Coding:
    """The meaning of a detector's tensors: one (N, A, columns), or boxes (N, A, 4) and numbers (N, A, classes).

    The columns of one tensor are the sides of the box, the objectness where there is one, the classes, then extras.

    Attributes:
        tensors: How many tensors there are, 1 or 2.
        anchors_last: Whether their axes are (N, columns, A).
        sides: What the four numbers of a box are: centre and size, two corners, or one corner and the size.
        relative: Whether they are shares of the input's width and height, in place of pixels.
        objectness: Whether a score of its own says that there is an object; it is multiplied by those of classes.
        ending: What makes scores of the numbers; `value` where they are scores already.
        background: Where the numbers of classes hold one of no object.
        nms: Whether anchors give duplicates.
        multi_label: Whether every class above the threshold is a detection, not the best one of an anchor alone.
        extra: What follows the classes.
    """

    tensors: int = 1
    anchors_last: bool = False
    sides: Sides = "cxcywh"
    relative: bool = False
    objectness: bool = False
    ending: Ending = "value"
    background: Literal["none", "first", "last"] = "none"
    nms: bool = True
    multi_label: bool = False
    extra: ExtraKind = "none"

    @property
    def before_classes(self) -> int:
        """Return the number of columns before those of classes, in one tensor."""
        return SIDES + self.objectness


def corners(sides: Float64Array, coding: Coding, size: Size) -> Float64Array:
    """Return boxes (..., 4) as x1, y1, x2, y2 in pixels of an input (H, W)."""
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
    return np.concatenate([corners(whole[..., :SIDES], coding, size), scores, extras], axis=2)


def decode(detections: Array, detector: Detector, classes: int, ending: Ending) -> Float64Array:
    """Return boxes, scores of classes and extras (N, A, columns) of the normal form."""
    end = SIDES + detector.numbers(classes)
    exact = np.asarray(detections, np.float64)
    scores = probabilities(exact[..., SIDES:end], ending)
    return np.concatenate([exact[..., :SIDES], scores, exact[..., end:]], axis=2)
