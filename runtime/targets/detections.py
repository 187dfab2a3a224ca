"""Detections: the boxes of one picture that count, out of all that a detector gives."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fusioncam.detector import KEYPOINT, Detector, ExtraKind
from fusioncam.errors import UsageError
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Array, BoolArray, Float32Array, Float64Array, Int64Array, Size
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Manifest, Preprocessing
from fusioncam.runtime.arguments import checked_count, quote
from fusioncam.runtime.photos.axes import Axis, axes
from fusioncam.runtime.targets.masks import mask_logits, mask_on_input, mask_on_photo, mask_summary
from fusioncam.runtime.targets.suppression import distinct, distinct_rotated

Corners = tuple[float, float, float, float]
LEAST_SHOWN = 0.005  # a score below would be 0.00 to two decimals


@dataclass(frozen=True)
class Coordinates:
    """Coordinates of a photo and of the model's input; a preprocessed picture has those of the input.

    Attributes:
        rows: The rows of the photo.
        columns: The columns of the photo.
    """

    rows: Axis
    columns: Axis

    @classmethod
    def of(cls, photo_size: Size | None, preprocessing: Preprocessing) -> "Coordinates":
        """Return the way of a photo of a size (H0, W0), or of a preprocessed picture."""
        height, width = photo_size or preprocessing.size
        if photo_size is None:
            return cls(Axis(height, height, 0, height), Axis(width, width, 0, width))
        return cls(*axes((height, width), preprocessing))

    @property
    def size(self) -> tuple[int, int]:
        """Return (H0, W0) of the photo."""
        return self.rows.whole, self.columns.whole

    def to_photo(self, points: Array) -> Float64Array:
        """Return points (n, 2 m) x, y, x, y, ... of the input on the photo; they may lie beside it."""
        both = [self.columns, self.rows] * (points.shape[-1] // 2)
        start = np.array([axis.start for axis in both], np.float64)
        return np.asarray((points + start) / [axis.resized / axis.whole for axis in both], np.float64)

    def boxes(self, boxes: Array) -> Float64Array:
        """Return boxes (n, 4) of the input on the photo, clipped to it."""
        height, width = self.size
        return self.to_photo(boxes.astype(np.float64)).clip(0, [width, height, width, height])


@dataclass(frozen=True, eq=False)
class Detection:
    """An object that a detector found in a picture.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the photo, clipped to it; of a preprocessed picture, of the input. Of a rotated
            box it is the upright one around it.
        class_index: Its class.
        label: The name of the class, where the bundle has labels.
        score: Its probability, 0..1.
        anchor: The place or query of the detector that made it.
        box_on_input: x1, y1, x2, y2 in pixels of the model's input, as the detector gives them.
        extra: What else the detector gives: `masks`, `keypoints` or `rotated` boxes, see below; or `none`.
    """

    box: Corners
    class_index: int
    label: str | None
    score: float
    anchor: int
    box_on_input: Corners
    _extras: Float32Array = field(repr=False)
    _places: Coordinates = field(repr=False)
    extra: ExtraKind = "none"
    _mask: Float32Array | None = field(default=None, repr=False)  # its logits (h, w)
    _keypoint: int = field(default=KEYPOINT, repr=False)

    @property
    def name(self) -> str:
        """Return the label of its class, or the number where there are no labels, see `name_of`."""
        return name_of(self.label, self.class_index)

    @property
    def title(self) -> str:
        """Return its class, score and place, in a few words."""
        score = f"{self.score:.2f}" if self.score >= LEAST_SHOWN else f"{self.score:.2g}"
        return f"{self.name} {score} at {place_of(self.box)}"

    def summary(self) -> dict[str, Any]:
        """Return the detection, ready for JSON."""
        more: dict[str, Any] = {"keypoints": self.keypoints.round(4).tolist()} if self.extra == "keypoints" else {}
        more |= {"corners": self.rotated.round(2).tolist()} if self.extra == "rotated" else {}
        more |= {} if (mask := self.mask) is None else mask_summary(mask)
        return {
            "box": [round(edge, 2) for edge in self.box],
            "class_index": self.class_index,
            "label": self.label,
            "score": self.score,
            "anchor": self.anchor,
            **more,
        }

    @property
    def mask_coefficients(self) -> Float32Array:
        """Return the coefficients of its instance mask; of a detector that segments instances."""
        return self._extras

    @property
    def mask(self) -> BoolArray | None:
        """Return its instance mask (H0, W0), of a preprocessed picture (H, W); None where it has none."""
        if self._mask is None:
            return None
        box = self._places.to_photo(np.array([self.box_on_input]))[0]
        return mask_on_photo(self._mask, self._places.rows, self._places.columns, box)

    @property
    def mask_on_input(self) -> BoolArray | None:
        """Return its instance mask (H, W) on the model's input, that of Ultralytics; None where it has none."""
        if self._mask is None:
            return None
        return mask_on_input(self._mask, self._places.rows, self._places.columns, self.box_on_input)

    @property
    def keypoints(self) -> Float64Array:
        """Return its keypoints (K, 3): x and y in pixels of the photo, and how likely each is visible.

        Of a detector that does not say that, they are (K, 2).
        """
        numbers = self._extras.astype(np.float64).reshape(-1, self._keypoint)
        places, visible = self._places.to_photo(numbers[:, :2]), probabilities(numbers[:, 2:], "sigmoid")
        return np.concatenate([places, visible], axis=1)

    @property
    def rotated(self) -> Float64Array:
        """Return its corners (4, 2) in pixels of the photo, one after the other; of a detector of rotated boxes."""
        x, y, width, height, angle = self._extras.astype(np.float64).tolist()
        along, across = (np.array([np.cos(a), np.sin(a)]) / 2 for a in (angle, angle + np.pi / 2))
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
        return self._places.to_photo((x, y) + signs[:, :1] * width * along + signs[:, 1:] * height * across)


@dataclass(frozen=True, eq=False)
class Anchors:
    """All that a detector gives of one picture: a box and a score of every class at every anchor.

    Attributes:
        form: The normal form (A, 4 + numbers of classes + extras).
        manifest: The bundle's.
        places: The way between photo and input.
        prototypes: Those of instance masks (P, h, w); None where there are none.
    """

    form: Float32Array
    manifest: Manifest
    places: Coordinates
    prototypes: Float32Array | None = None

    @property
    def detector(self) -> Detector:
        """Return the detector of the bundle."""
        assert self.manifest.detector is not None
        return self.manifest.detector

    @cached_property
    def _scores(self) -> Float64Array:
        """Return the scores (A, classes) of all classes at all anchors; that of the background is below zero."""
        scores = np.asarray(probabilities(self._numbers, self.manifest.ending))
        if self.detector.background is not None:
            scores[:, self.detector.background] = -1
        return scores

    @property
    def _numbers(self) -> Float32Array:
        return self.form[:, SIDES : SIDES + self.detector.numbers(self.manifest.classes)]

    def found(self, conf: float | None = None, iou: float | None = None, most: int | None = None) -> list[Detection]:
        """Return the detections, that of the highest score first.

        Args:
            conf: Their least score; by default the detector's own, as for the others.
            iou: The overlap by which the lower of two is a duplicate.
            most: Their number, at most.

        Raises:
            UsageError: A threshold is not in [0, 1], or the number below 1.
        """
        conf, iou = checked_share("conf", conf, self.detector.conf), checked_share("iou", iou, self.detector.iou)
        most = checked_count("most", most, self._numbers.size) or self.detector.most
        places, classes = self._likely(conf)
        scores = self._scores[places, classes]
        order = np.argsort(-scores, kind="stable")
        places, classes = places[order], classes[order]
        kept = self._distinct(places, classes, iou)[:most]
        return [self._detection(*pair) for pair in zip(places[kept].tolist(), classes[kept].tolist(), strict=True)]

    def _likely(self, conf: float) -> tuple[Int64Array, Int64Array]:
        """Return anchors and classes (n,) of at least a score: the best class of each anchor, or all."""
        if self.detector.multi_label:
            anchors, classes = np.nonzero(self._scores >= conf)
            return anchors, classes
        classes = self._scores.argmax(axis=1)
        anchors = np.flatnonzero(np.take_along_axis(self._scores, classes[:, None], axis=1)[:, 0] >= conf)
        return anchors, classes[anchors]

    def _distinct(self, anchors: Int64Array, classes: Int64Array, iou: float) -> Int64Array:
        """Return the positions of anchors that give no duplicate, see `distinct`."""
        detector, form = self.detector, self.form[anchors]
        if not detector.nms:
            return np.arange(len(anchors))
        groups = classes * detector.class_wise
        if detector.extra == "rotated":
            return distinct_rotated(form[:, -detector.extras :], groups, iou)
        return distinct(form[:, :SIDES], groups, iou)

    def best(self, class_: int | None = None) -> Detection | None:
        """Return the detection of the highest score, however low it is; None where no anchor has the class."""
        anchors, classes = self._likely(0)
        of_class = np.flatnonzero((classes == class_) | (class_ is None))
        if not len(of_class):
            return None
        best = of_class[self._scores[anchors[of_class], classes[of_class]].argmax()]
        return self._detection(int(anchors[best]), int(classes[best]))

    def _detection(self, anchor: int, c: int) -> Detection:
        row, score = self.form[anchor], float(self._scores[anchor, c])
        label = self.manifest.labels[c] if self.manifest.labels else None
        box = self.places.boxes(row[None, :SIDES])[0]
        extras = row[len(row) - self.detector.extras :]
        mask = None if self.prototypes is None else mask_logits(extras, self.prototypes)
        on_input, (extra, keypoint) = corners(row[:SIDES]), (self.detector.extra, self.detector.keypoint)
        return Detection(corners(box), c, label, score, anchor, on_input, extras, self.places, extra, mask, keypoint)


def checked_share(name: str, value: Any, usual: float) -> float:
    """Return a threshold, or the usual one for None; raise UsageError where it is not in [0, 1]."""
    if value is None:
        return usual
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        raise UsageError(f"{name} must be a number from 0 to 1, not {quote(value)}")
    return float(value)


def name_of(label: str | None, class_index: int) -> str:
    """Return the label of a class, or `class 3` where it has none, or one of digits only."""
    return label if label and not label.isdecimal() else f"class {label or class_index}"


def place_of(box: Corners) -> str:
    """Return a box in whole pixels, as titles and errors name it: `10, 20, 200, 300`."""
    return ", ".join(f"{round(edge)}" for edge in box)


def corners(box: Array) -> Corners:
    """Return a box (4,) as plain numbers."""
    x1, y1, x2, y2 = box.astype(np.float64).tolist()
    return x1, y1, x2, y2
