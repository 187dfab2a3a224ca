"""Targets of a detector: one detection, by its class or its box, or all of them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from fusioncam.detector import KEYPOINT, Detector
from fusioncam.errors import NothingDetectedError, UsageError
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Array, Float64Array
from fusioncam.kernels.boxes import overlaps
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import checked_count, quote
from fusioncam.runtime.targets.classes import checked_number, name_of_class
from fusioncam.runtime.targets.detections import Corners, Detection, checked_share, place_of
from fusioncam.runtime.targets.keypoints import keypoint_name, keypoint_number
from fusioncam.runtime.targets.kinds import Box, By, Detections, Each, Matched, Rivals, Target
from fusioncam.runtime.targets.matching import matched
from fusioncam.runtime.targets.resolved import Kind, ResolvedTarget
from fusioncam.runtime.targets.sight import Sight

HALF = 0.5  # least overlap of a user's box with the detection that it names
MOST = 10  # detections that are explained by default
FAR = 1e9  # the greatest number of a box, beyond any photo
BY: dict[By, tuple[bool, bool]] = {"score": (False, True), "box": (True, False), "both": (True, True)}
WORDS: dict[By, str] = {"score": "", "box": "edges ", "both": "class and edges "}
OUTWARD = np.array([-1, -1, 1, 1]) / 2  # the direction in which the edges of a growing box move, of length 1


def of_class(c: int) -> Target:
    """Return the target that a class stands for: its best detection."""
    return Box(c)


def check_box(target: Box, manifest: Manifest) -> Target:
    """Return the target with its class by its number; raise UsageError where it makes no sense for this detector."""
    detector = _detector(manifest)
    if target.box is not None and target.point is not None:
        raise UsageError("a detection has a box or a point, not both")
    keypoint = _checked_keypoint(target, manifest)
    box = None if target.box is None else _checked_box(target.box)
    conf, iou = _checked_shares(target, detector)
    class_ = _checked_class(target.class_, manifest)
    return replace(target, class_=class_, box=box, conf=conf, iou=iou, by=_checked_by(target.by), keypoint=keypoint)


def check_detections(target: Detections, manifest: Manifest) -> Target:
    """Return the target with its class by its number; raise UsageError where it makes no sense for this detector."""
    conf, iou = _checked_shares(target, _detector(manifest))
    return Detections(_checked_class(target.class_, manifest), conf, _checked_by(target.by), iou)


def check_each(target: Each, manifest: Manifest) -> Target:
    """Return the target with its classes by numbers; raise UsageError where it makes no sense for this detector."""
    detector = _detector(manifest)
    conf, iou = _checked_shares(target, detector)
    checked = [_checked_class(class_, manifest) for class_ in target.classes]
    classes = tuple(dict.fromkeys(c for c in checked if c is not None))
    keypoint, most = _checked_keypoint(target, manifest), checked_count("top", target.most, detector.most)
    return Each(classes, _checked_by(target.by), keypoint, conf, iou, most or MOST, target.numbers)


def check_rivals(target: Rivals, manifest: Manifest) -> Target:
    """Return the target with its classes by numbers; raise UsageError where it makes no sense for this detector."""
    box, other = check_box(target.target, manifest), _checked_class(target.other, manifest)
    assert isinstance(box, Box)
    assert other is not None
    return Rivals(box, other)


def resolve_box(target: Box, sight: Sight) -> ResolvedTarget:
    """Return the detection that a box, a point or a class names."""
    class_ = None if target.class_ is None else int(target.class_)
    detection = _named(target, class_, sight)
    return _of_detection(detection, sight, detection.class_index if class_ is None else class_, target)


def resolve_detections(target: Detections, sight: Sight) -> ResolvedTarget:
    """Return all detections, of a class or of any, as the sum of their scores."""
    class_ = None if target.class_ is None else int(target.class_)
    found = _found(target, [] if class_ is None else [class_], sight)
    parts = tuple(_of_detection(d, sight, d.class_index, Box(by=target.by)) for d in found)
    c = -1 if class_ is None else class_
    name = "" if class_ is None else f" of {name_of_class(sight.manifest, c)}"
    label = f"{len(parts)} detection{'s' * (len(parts) > 1)}{name}"
    return ResolvedTarget("detections", c, label, parts=parts)


def resolve_each(target: Each, sight: Sight) -> list[ResolvedTarget]:
    """Return the detections, of some classes or of any, a target each."""
    one = Box(by=target.by, keypoint=target.keypoint)
    found = _shown(_found(target, [int(c) for c in target.classes], sight))
    wrong = next((n for n in target.numbers if not 0 <= n < len(found)), None)
    if wrong is not None:
        raise NothingDetectedError(f"there is no detection {wrong}: the picture has {len(found)}, from 0 on")
    chosen = [found[n] for n in target.numbers] or found[: target.most]
    return [_of_detection(d, sight, d.class_index, one) for d in chosen]


def resolve_rivals(target: Rivals, sight: Sight) -> list[ResolvedTarget]:
    """Return the targets of two classes at one detection."""
    first = resolve_box(target.target, sight)
    assert first.detection is not None
    return [first, _of_detection(first.detection, sight, target.other, target.target)]


def resolve_matched(target: Matched, sight: Sight) -> list[ResolvedTarget]:
    """Return the detections that match objects, a target each."""
    found = sight.anchors.found()
    return [_of_detection(found[n], sight, found[n].class_index, Box()) for n in matched(found, target.objects)]


def best_detections(sight: Sight) -> list[Target]:
    """Return the detections, that of the highest score first; raise NothingDetectedError where there is none."""
    return [Box(d.class_index, d.box) for d in _shown(_found(Box(), [], sight))[:MOST]]


def _shown(found: Sequence[Detection]) -> Sequence[Detection]:
    """Return the detections that do not lie beside the photo, unless all do."""
    return [d for d in found if d.box[0] < d.box[2] and d.box[1] < d.box[3]] or found


def _named(target: Box, class_: int | None, sight: Sight) -> Detection:
    """Return the detection that a target names."""
    if target.box is None and target.point is None:
        return _found(target, [] if class_ is None else [class_], sight)[0]
    if target.box is not None:
        _check_inside(target.box, sight)
    if target.point is not None:
        _checked_point(target.point, sight)
    found = _found(target, [], sight)
    own = [d for d in found if class_ in (None, d.class_index)]
    chosen = [_at(candidates, target, sight) for candidates in (own, found)]
    return next((d for d in chosen if d is not None), None) or _nowhere(target, own or found, sight)


def _at(found: Sequence[Detection], target: Box, sight: Sight) -> Detection | None:
    """Return the detection that overlaps the box most, or the smallest one that holds the point; None for none."""
    boxes = _boxes_of(found)
    if target.point is not None:
        x, y = _checked_point(target.point, sight)
        x1, y1, x2, y2 = boxes.T
        sizes = np.where((x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2), (x2 - x1) * (y2 - y1), np.inf)
        return found[int(sizes.argmin())] if np.isfinite(sizes).any() else None
    assert target.box is not None
    shares = overlaps(np.array(target.box), boxes)
    return found[int(shares.argmax())] if (shares >= HALF).any() else None


def _of_detection(detection: Detection, sight: Sight, c: int, target: Box) -> ResolvedTarget:
    """Return the target of a class at a detection."""
    manifest = sight.manifest
    column, detail = c, f"{WORDS[target.by]}at {place_of(detection.box)}"
    if target.keypoint is not None:
        detector, k = _detector(manifest), int(target.keypoint)
        column = detector.numbers(manifest.classes) + KEYPOINT * k + KEYPOINT - 1
        detail = f"{keypoint_name(k, detector.keypoints)}, {detail}"
    tensors: dict[str, Array] = {
        "class_index": np.array(column, np.int64),
        "box": np.array(detection.box_on_input, np.float32),
        "anchor": np.array(detection.anchor, np.int64),
        "weights": _weights(detection.anchor, column, target.by, sight).astype(np.float32),
    }
    label = manifest.labels[c] if manifest.labels else None
    kind: Kind = "box" if target.keypoint is None else "keypoint"
    keypoint = None if target.keypoint is None else int(target.keypoint)
    return ResolvedTarget(kind, c, label, tensors, detail=detail, detection=detection, keypoint=keypoint)


def _weights(anchor: int, column: int, by: By, sight: Sight) -> Float64Array:
    """Return the weights (5,) of the anchor's edges and of its number of the class in the score.

    Those of edges are the direction in which the picture moves them from where they are on the blank input: what pushes
    them on is what made the box. Edges and number have no unit in common, so each counts by its own move where both do.
    """
    edges, score = BY[by]
    if not edges:
        return np.array([0, 0, 0, 0, 1], np.float64)
    moved = (sight.form[anchor] - sight.blank[anchor]).astype(np.float64)
    length, rise = float(np.linalg.norm(moved[:SIDES])), abs(float(moved[SIDES + column]))
    direction = moved[:SIDES] / length if length > 0 else OUTWARD
    if not score:
        return np.append(direction, 0.0)
    return np.append(direction / (length or 1.0), 1 / (rise or 1.0))


def _found(target: Box | Detections | Each, classes: Sequence[int], sight: Sight) -> list[Detection]:
    """Return the detections of some classes, or of any; raise NothingDetectedError where there is none."""
    found = sight.anchors.found(target.conf, target.iou)
    if classes:
        found = [d for d in found if d.class_index in classes]
    if found:
        return found
    conf = checked_share("conf", target.conf, _detector(sight.manifest).conf)
    name = " or ".join(name_of_class(sight.manifest, c) for c in classes)
    name = f"detection of {name}" if name else "detection"
    tried = [sight.anchors.best(c) for c in classes] if classes else [sight.anchors.best()]
    best = max((d for d in tried if d is not None), key=lambda d: d.score, default=None)
    if best is None:
        why = "is in this picture: another class is more likely everywhere; give its box"
    elif best.score >= conf:
        why = f"is in this picture: the best, {best.title}, is a duplicate of another class's"
    else:
        why = f"has a score of {conf:g} or more: the best is {best.title}; lower conf to explain it"
    raise NothingDetectedError(f"no {name} {why}")


def _nowhere(target: Box, found: Sequence[Detection], sight: Sight) -> NoReturn:
    """Raise NothingDetectedError for a box or a point without a detection, and name the nearest one."""
    boxes = _boxes_of(found)
    if target.point is not None:
        x, y = target.point
        away = np.maximum(np.maximum(boxes[:, :2] - (x, y), (x, y) - boxes[:, 2:]), 0)
        nearest = found[int(np.linalg.norm(away, axis=1).argmin())]
        raise NothingDetectedError(f"no detection holds the point ({x:g}, {y:g}): the nearest is {nearest.title}")
    assert target.box is not None
    shares = overlaps(np.array(target.box), boxes)
    centre = np.array(target.box).reshape(2, 2).mean(axis=0)
    away = np.linalg.norm(boxes.reshape(-1, 2, 2).mean(axis=1) - centre, axis=1)
    n = int(shares.argmax() if shares.any() else away.argmin())
    raise NothingDetectedError(
        f"no detection overlaps the box ({place_of(target.box)}) by at least a half: the nearest is "
        f"{found[n].title}, which overlaps it by {shares[n]:.2f}; give that box, or lower conf"
    )


def _boxes_of(found: Sequence[Detection]) -> Float64Array:
    return np.array([d.box for d in found], np.float64).reshape(-1, SIDES)


def _detector(manifest: Manifest) -> Detector:
    assert manifest.detector is not None, "targets of boxes are a detector's only"
    return manifest.detector


def _checked_class(class_: Any, manifest: Manifest) -> int | None:
    c = checked_number(manifest, class_)
    if c >= 0 and c == _detector(manifest).background:
        raise UsageError(f"{name_of_class(manifest, c)} is the background, which is never detected")
    return None if c < 0 else c


def _checked_by(by: Any) -> By:
    if not isinstance(by, str) or by not in BY:
        raise UsageError(f"by is {' or '.join(map(repr, BY))}, not {quote(by)}")
    return by


def _checked_box(box: Any) -> Corners:
    numbers = _numbers(box, SIDES)
    given = quote(tuple(box.tolist()) if isinstance(box, np.ndarray) and box.ndim == 1 else box)
    if numbers is None or numbers[0] >= numbers[2] or numbers[1] >= numbers[3]:
        raise UsageError(f"a box is (x1, y1, x2, y2) in pixels of the photo, x1 < x2 and y1 < y2, not {given}")
    if max(map(abs, numbers)) > FAR:
        raise UsageError(f"a box is in pixels of the photo, up to {FAR:g} of them, not {given}")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _check_inside(box: Corners, sight: Sight) -> None:
    """Raise UsageError for a box that has nothing of the photo."""
    height, width = sight.size
    if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
        raise UsageError(f"the box ({place_of(box)}) lies outside of the photo: it has {width} x {height} pixels")


def _checked_point(point: Any, sight: Sight) -> tuple[float, float]:
    numbers = _numbers(point, 2)
    if numbers is None:
        raise UsageError(f"a point is (x, y) in pixels of the photo, not {quote(point)}")
    height, width = sight.size
    if not (0 <= numbers[0] < width and 0 <= numbers[1] < height):
        at = "({:g}, {:g})".format(*numbers)
        raise UsageError(f"the point {at} lies outside of the photo: it has {width} x {height} pixels")
    return numbers[0], numbers[1]


def _numbers(values: Any, count: int) -> list[float] | None:
    """Return so many finite numbers, or None where the values are others."""
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return None
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        return None
    listed: list[float] = numbers.tolist()
    return listed


def _checked_keypoint(target: Box | Each, manifest: Manifest) -> int | None:
    if target.keypoint is None:
        return None
    detector = _detector(manifest)
    count = detector.keypoints
    if not count:
        raise UsageError("this detector gives no keypoints: leave keypoint out")
    if detector.keypoint < KEYPOINT:
        raise UsageError("this detector says where keypoints are, not whether they are visible: leave keypoint out")
    if manifest.ending != "sigmoid":
        raise UsageError("keypoints of this detector have no logits, so nothing can be said of them")
    number = keypoint_number(target.keypoint, count)
    if target.by != "score":
        raise UsageError("a keypoint is explained by its score: leave by out")
    return number


def _checked_shares(target: Box | Detections | Each, detector: Detector) -> tuple[float | None, float | None]:
    """Return the thresholds of score and overlap, None where the detector's own hold."""
    for name, usual in (("conf", detector.conf), ("iou", detector.iou)):
        checked_share(name, getattr(target, name), usual)
    return target.conf, target.iou
