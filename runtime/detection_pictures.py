"""The panel of several detections of one picture, and the marks that pictures have around detections."""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Size, UInt8Array
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.geometry import on_shown, shown_part, visible_slices
from fusioncam.runtime.picture import DrawOptions
from fusioncam.runtime.picture.detections_panel import DetectionRow
from fusioncam.runtime.picture.detections_panel import detections_panel as draw_panel
from fusioncam.runtime.picture.facts import Facts, Headline
from fusioncam.runtime.picture.marks import Mark, color_of
from fusioncam.runtime.picture.titles import probability_title
from fusioncam.runtime.targets.detections import Detection
from fusioncam.runtime.targets.keypoints import keypoint_name
from fusioncam.runtime.targets.masks import contours_of

if TYPE_CHECKING:
    from typing import Unpack

    from fusioncam.runtime.explanation import Explanation
    from fusioncam.runtime.prepared import ResultPhoto
    from fusioncam.runtime.result_pictures import Drawing, DrawnResult

VISIBLE = 0.5  # how likely a keypoint is visible, from which on it is drawn
MOST = 20  # marks of a target that are drawn: more hide the photo
SUBJECTS = {
    "score": "the class",
    "box": "the edges of the box",
    "both": "the class and the edges",
    "keypoint": "the keypoint",
}
"""Subject of the maps of a detection, in the words of a legend, by what counts."""


def mark_of(detection: Detection, keypoint: int | None = None) -> Mark:
    """Return a detection as pictures show it, in pixels of the photo, with its class or keypoint and score as the tag.

    Args:
        detection: The detection.
        keypoint: The only keypoint to draw; by default all that are visible.
    """
    corners = detection.rotated if detection.extra == "rotated" else None
    points, name, score = None, detection.name, detection.score
    if detection.extra == "keypoints":
        found = detection.keypoints
        visible = (found[:, 2:] >= VISIBLE).all(axis=1)
        points = found[visible, :2] if keypoint is None else found[[keypoint], :2]
        if keypoint is not None:
            name, score = keypoint_name(keypoint, len(found)), float(found[keypoint, 2])
    tag = f"{name} {probability_title(score)}"
    contours = () if (mask := detection.mask) is None else contours_of(mask)
    return Mark(detection.box, tag, color_of(detection.class_index), corners, points, contours)


def detections_panel(explanations: "Sequence[Explanation]", **drawing: "Unpack[Drawing]") -> UInt8Array:
    """Draw several detections of one photo on one panel: the photo with their boxes, and a row of maps for each.

    Args:
        explanations: Of detections, as `Explainer.explain_batch` returns them for one photo.
        drawing: `colormap`, `opacity`, `style` and `top`, see `fusioncam.overlay`.

    Returns:
        (height, width, 3) uint8 RGB, the panel that `fusioncam explain` writes.

    Raises:
        UsageError: There is no explanation, one is of no detection, or they are of different photos; or there is no
            such colour map, opacity, style or share.
    """
    explained = list(explanations)
    if not explained or not all(e.marks for e in explained):
        raise UsageError("a panel of detections takes explanations of detections, at least one")
    origins = [e.origin for e in explained]
    (photo, preprocessing), *_ = origins
    if photo is None or preprocessing is None:
        raise UsageError("no Explainer made these results, so there is no photo to draw on")
    if any(other is None or not _same(photo, other) for other, _ in origins):
        raise UsageError("the explanations are of different photos: draw a panel for each photo")
    return panel_on_shown(explained, photo.sharpest(preprocessing), DrawOptions(**drawing), photo.size, preprocessing)


def _same(photo: "ResultPhoto", other: "ResultPhoto") -> bool:
    return photo.size == other.size and np.array_equal(photo.shown, other.shown)


def panel_of_all(
    explained: "Sequence[DrawnResult]", photo: Array, preprocessing: Preprocessing, options: DrawOptions
) -> UInt8Array:
    """Draw the panel of detections of a photo, see `panel_on_shown`."""
    size = photo.shape[0], photo.shape[1]
    return panel_on_shown(explained, shown_part(photo, preprocessing), options, size, preprocessing)


def panel_on_shown(
    explained: "Sequence[DrawnResult]",
    shown: Array,
    options: DrawOptions,
    photo_size: Size | None,
    preprocessing: Preprocessing,
) -> UInt8Array:
    """Draw the panel of detections of a photo: a row for each.

    What all have in common stands beside the photo, the rest in the rows.

    Args:
        explained: The results, each with `marks`; at least one.
        shown: (H, W, 3) uint8 RGB, what `shown_part` returned of the photo; or the model's input.
        options: The way maps are drawn.
        photo_size: (H0, W0) of the photo; None for a preprocessed picture.
        preprocessing: The model's own.
    """
    first, several = explained[0], len(explained) > 1
    facts = {label: fact for label, fact in first.facts.items() if all(e.facts.get(label) == fact for e in explained)}
    notes = [note for note in first.notes if all(note in e.notes for e in explained)]
    badge = first.badge if all(e.badge == first.badge for e in explained) else None
    place = partial(on_shown, photo_size=photo_size, preprocessing=preprocessing)
    window, size = _seen(shown, photo_size, preprocessing), (shown.shape[0], shown.shape[1])

    def row(n: int, e: "DrawnResult") -> DetectionRow:
        _, where = e.heading
        own = [f"{label.lower()} {fact}" for label, fact in e.facts.items() if label not in facts]
        more = f"{MOST} boxes drawn, and {len(e.marks) - MOST} more" if len(e.marks) > MOST else ""
        return DetectionRow(
            f"{n}: {_titled(e)}" if several else _titled(e),
            "; ".join(filter(None, [where, more, *own])),
            e.marks[0].color,
            [mark.moved(window, size)._replace(tag=mark.tag if len(e.marks) > 1 else "") for mark in e.marks[:MOST]],
            {method: place(saliency) for method, saliency in e.maps.items()},
            None if e.region_share is None else place(e.region_share),
            None if badge else e.badge,
            [note for note in e.notes if note not in notes],
        )

    subjects = {SUBJECTS[e.subject] for e in explained}
    title = f"{len(explained)} {_kind(explained)}" if several else first.heading[0]
    headline = Headline(title, "" if several else _chance(first), badge)
    rows = [row(n, e) for n, e in enumerate(explained, 1)]
    subject = subjects.pop() if len(subjects) == 1 else "the target"
    return draw_panel(shown, rows, headline, Facts(facts, notes), options, subject)


def _kind(explained: "Sequence[DrawnResult]") -> str:
    return "keypoints" if all(e.subject == "keypoint" for e in explained) else "detections"


def _titled(e: "DrawnResult") -> str:
    return f"{e.heading[0]} {_chance(e)}"


def _chance(e: "DrawnResult") -> str:
    return "" if e.shown_probability is None else probability_title(e.shown_probability)


def _seen(shown: Array, photo_size: Size | None, preprocessing: Preprocessing) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 of what is shown, in pixels of the photo, or of a preprocessed picture."""
    if photo_size is None:
        return 0, 0, shown.shape[1], shown.shape[0]
    height, width = photo_size
    rows, columns = visible_slices((height, width), preprocessing)
    return columns.start, rows.start, columns.stop, rows.stop
