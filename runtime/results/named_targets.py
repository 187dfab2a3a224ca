"""Targets as they are named on the command line."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.targets.detections import Corners
from fusioncam.runtime.targets.kinds import Box, Detections, Each, Like, Region, Rivals, Target, Value
from fusioncam.runtime.targets.tasks import task_of

OF_DETECTORS = ("boxes", "together", "by", "keypoint", "conf", "iou", "levels")
"""The attributes of `NamedTargets` that only a detector has targets for."""

OF_OTHERS = ("masks", "peak", "references", "values", "down")
"""The attributes of which a detector has no targets."""

OPTIONS = {
    **{"boxes": "--box", "points": "--point", "together": "--detections"},
    **{"masks": "--region", "references": "--like", "values": "--value"},
}
"""Options of the command line that have another name than the attribute."""


@dataclass(frozen=True)
class NamedTargets:
    """The targets that a user names; nothing stands for the default targets.

    Attributes:
        classes: Classes by number or name.
        masks: Files of masks: regions of a class.
        points: Points (x, y) of the photo: the connected part of a class there, or the detection.
        peak: Whether a region counts by its largest value, in place of the mean.
        references: Pictures or `.npy` files of vectors that an embedding is compared with.
        values: Columns of a regression, or heat maps.
        down: Whether what lowers the values is shown.
        boxes: Boxes of detections, in pixels of the photo.
        together: Whether all detections are one target.
        by: The evidence that counts for a detection: `score`, `box` or `both`; None for the score.
        keypoint: A keypoint of the detections, by number or name.
        conf: The least score of a detection; None for the detector's own.
        iou: The overlap by which a detection is a duplicate; None for the detector's own.
        levels: Which levels of the neck explain a detection, see `Explainer.explain`; None for its own.

    Raises:
        UsageError: The attributes contradict each other.
    """

    classes: Sequence[str] = ()
    masks: Sequence[str] = ()
    points: Sequence[tuple[float, float]] = ()
    peak: bool = False
    references: Sequence[str] = ()
    values: Sequence[int] = ()
    down: bool = False
    boxes: Sequence[Corners] = ()
    together: bool = False
    by: str | None = None
    keypoint: str | None = None
    conf: float | None = None
    iou: float | None = None
    levels: str | None = None

    def __post_init__(self) -> None:
        of_classes = self.classes or self.masks or self.points or self.peak
        kinds = {"a class or region": of_classes, "--like": self.references, "--value": self.values}
        if len(given := [name for name, named in kinds.items() if named]) > 1:
            raise UsageError(f"{' and '.join(given)} are targets of different models: give one kind")
        if self.down and not self.values:
            raise UsageError("--down is about a value: name it, as in --value 0 --down")
        places = {"--box": self.boxes, "--point": self.points, "--detections": self.together}
        if len(given := [name for name, named in places.items() if named]) > 1:
            raise UsageError(f"{' and '.join(given)} are different ways to name detections: give one of them")
        if self.keypoint is not None and self.together:
            raise UsageError("--keypoint is about one detection at a time: leave out --detections")

    def targets_of(self, manifest: Manifest, top: int | None = None) -> tuple[Target, ...]:
        """Return the targets of a model; none where classes alone are named, or nothing.

        Args:
            manifest: The bundle's.
            top: The number of detections, at most, where none is named by its place.

        Raises:
            UsageError: Detections are named, and the model is no detector; or what only other models have.
        """
        is_detector = manifest.detector is not None
        if given := self.options(OF_OTHERS if is_detector else OF_DETECTORS):
            verb, owners = "is" if len(given) == 1 else "are", "other models" if is_detector else "detectors"
            use = ": use --class, --box, --point or --detections" if is_detector else ""
            does = task_of(manifest).does
            raise UsageError(f"{' and '.join(given)} {verb} for {owners}, and this is a model that {does}{use}")
        return self._detections(top) if is_detector else self._others()

    def rivals(self, other: int) -> Rivals:
        """Return the class that is named, at the detection that is named, and another class there.

        Raises:
            UsageError: More is named than one detection, or another evidence than that for classes.
        """
        given = self.options(("together", "keypoint", *(("by",) if self.by != "score" else ())))
        if given:
            raise UsageError(f"--versus compares two classes at one detection: leave out {' and '.join(given)}")
        if len(self.classes) > 1:
            raise UsageError("--versus compares two classes: give one with --class, or none for that of the detection")
        box, point = next(iter(self.boxes), None), next(iter(self.points), None)
        return Rivals(Box(next(iter(self.classes), None), box, point=point, conf=self.conf, iou=self.iou), other)

    def options(self, names: Sequence[str]) -> list[str]:
        """Return the options of the command line by which attributes were given, of some attributes."""
        return [OPTIONS.get(name, f"--{name}") for name in names if getattr(self, name) not in (None, (), [], False)]

    def _detections(self, top: int | None) -> tuple[Target, ...]:
        """Return the targets of a detector: those at a place, all as one, or each."""
        shared: dict[str, Any] = {"by": self.by or "score", "conf": self.conf, "iou": self.iou}
        classes: Sequence[str | None] = self.classes or [None]
        places: list[dict[str, Any]] = [{"box": box} for box in self.boxes] + [{"point": p} for p in self.points]
        if places:
            named = product(classes, places)
            return tuple(Box(class_, keypoint=self.keypoint, **place, **shared) for class_, place in named)
        if self.together:
            return tuple(Detections(class_, **shared) for class_ in classes)
        return (Each(tuple(self.classes), keypoint=self.keypoint, most=top, **shared),)

    def _others(self) -> tuple[Target, ...]:
        """Return regions, likenesses and values.

        Paths are made whole, as another process may explain from another folder.
        """
        values = [Value(value, self.down) for value in self.values]
        likenesses = [Like(os.path.abspath(path)) for path in self.references]  # noqa: PTH100  (links stay)
        places: list[dict[str, Any]] = [{"mask": os.path.abspath(path)} for path in self.masks]  # noqa: PTH100
        places += [{"point": point} for point in self.points]
        if self.peak and not places:
            places = [{}]
        classes: Sequence[str | None] = self.classes or [None]
        regions = [Region(class_, peak=self.peak, **place) for class_, place in product(classes, places)]
        return (*regions, *likenesses, *values)
