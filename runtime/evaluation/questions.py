"""The questions of an evaluation: the targets of each photo, by what the model does."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.engine import TOP_CLASS, Asked, TargetChoice
from fusioncam.runtime.evaluation.annotations import Annotations
from fusioncam.runtime.evaluation.references import References
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.photos.geometry import visible_slices
from fusioncam.runtime.targets.classes import count_of_values
from fusioncam.runtime.targets.kinds import KnownObject, Like, Matched, Region, Value
from fusioncam.runtime.targets.matching import matched
from fusioncam.runtime.targets.tasks import task_of

PhotoSize: TypeAlias = tuple[int, int]
Targets: TypeAlias = Sequence[Asked] | TargetChoice

TOP, ANNOTATED = "top", "annotated"
CHOICES = (TOP, ANNOTATED)


@dataclass(frozen=True)
class Questions:
    """Chooses the targets of photos.

    Attributes:
        manifest: The bundle's.
        annotations: Matched to the photos.
        annotated: Whether annotations name the targets of a photo, where they can.
        references: Of an embedding.
    """

    manifest: Manifest
    annotations: Annotations
    annotated: bool
    references: References

    def of(self, photo: str, size: PhotoSize) -> Targets:
        """Return the targets of a photo (H0, W0), or how they are chosen once the model has seen it.

        Raises:
            UsageError: An embedding has no reference for this photo.
        """
        return _of_model(self.manifest).targets(self, photo, size)

    def problems(self, photo: str, size: PhotoSize, explanations: Sequence[Explanation]) -> list[str]:
        """Return what does not fit in the annotation of a photo (H0, W0), a line each, and objects that are missed."""
        lines = self.annotations.problems_of(photo, size, self.manifest.preprocessing)
        if self.manifest.detector is not None:
            found = sum(known is not None for known in self.objects(photo, size, explanations))
            if missed := len(self.annotations.objects(photo, size)) - found:
                lines.append(f"{missed} annotated object{'s' * (missed > 1)} without a detection: left out")
        lost = self.annotated and photo in self.annotations.entries and self.of(photo, size) is every_target
        return [*lines, "no annotated object is left: its default targets were measured"] if lost else lines

    def objects(self, photo: str, size: PhotoSize, explanations: Sequence[Explanation]) -> list[KnownObject | None]:
        """Return the annotated object that each explained detection matches; None for others, and for other targets."""
        known = self.annotations.objects(photo, size)
        shown = [(n, e.detection) for n, e in enumerate(explanations) if e.detection is not None]
        found: list[KnownObject | None] = [None] * len(explanations)
        for n, k in matched([detection for _, detection in shown], known).items():
            found[shown[n][0]] = known[k]
        return found

    @property
    def about(self) -> dict[str, str]:
        """Return what is explained, and what its confidence is, for the report."""
        of_model = _of_model(self.manifest)
        chosen = ANNOTATED if self.annotated else TOP
        if of_model.confidence is None:
            return {"class_explained": chosen}
        share = ", as a share of what the picture changes it" if self.manifest.task == "value" else ""
        return {"targets_explained": of_model.chosen[chosen], "confidence": of_model.confidence + share}


def every_target(confidences: Array) -> list[int]:
    """Choose all default targets of a picture."""
    return list(range(len(confidences)))


def _class_of(questions: Questions, photo: str, size: PhotoSize) -> Targets:
    """Return the top class, or the most probable of those that the annotation accepts."""
    accepted = questions.annotations.accepted(photo) if questions.annotated else ()
    return (lambda p: [max(accepted, key=lambda c: float(p[c]))]) if accepted else [TOP_CLASS]


def _values_of(questions: Questions, photo: str, size: PhotoSize) -> Targets:
    return [Value(n) for n in range(count_of_values(questions.manifest))]


def _regions_of(questions: Questions, photo: str, size: PhotoSize) -> Targets:
    """Return each annotated class over its objects; objects without a class are of the one that has most of them."""
    notes = questions.annotations
    classes = (notes.accepted(photo) or (None,)) if questions.annotated else ()
    regions = ((c, notes.region(photo, size, TOP_CLASS if c is None else c)) for c in classes)
    seen = visible_slices(size, questions.manifest.preprocessing)
    return [Region(c, mask=region) for c, region in regions if region[seen].any()] or every_target


def _likenesses_of(questions: Questions, photo: str, size: PhotoSize) -> Targets:
    references = questions.references.of_photo.get(photo, ())
    if not references:
        raise UsageError(f"{photo} has no reference: an embedding needs one")
    return [Like(reference) for reference in references]


def _detections_of(questions: Questions, photo: str, size: PhotoSize) -> Targets:
    """Return the detections that match an annotated object, or all."""
    objects = questions.annotations.objects(photo, size) if questions.annotated else []
    return [Matched(tuple(objects))] if objects else every_target


class OfModel(NamedTuple):
    """The questions to a kind of model.

    Attributes:
        targets: Chooses the targets of a photo.
        choices: Those of `CHOICES` that there are.
        chosen: What they are, in the report.
        confidence: What confidences are, in the report; None where that is plain.
    """

    targets: Callable[[Questions, str, PhotoSize], Targets]
    choices: tuple[str, ...] = CHOICES
    chosen: Mapping[str, str] = {}
    confidence: str | None = None


MODELS: Mapping[str, OfModel] = {
    "classify": OfModel(_class_of),
    "value": OfModel(_values_of, (TOP,), {TOP: "every value"}, "the value"),
    "maps": OfModel(
        _regions_of,
        chosen={TOP: "default targets of each photo", ANNOTATED: "classes over their annotated objects"},
        confidence="the mean over the region",
    ),
    "detect": OfModel(
        _detections_of,
        chosen={TOP: "the detections of each photo", ANNOTATED: "detections that match an annotated object"},
        confidence="the score of the class, times the overlap with the box, where that is highest",
    ),
    "embed": OfModel(_likenesses_of, (TOP,), {TOP: "likeness to references"}, "the cosine"),
}
"""Questions to models by their task; tasks whose outputs are maps have the same ones."""


def _of_model(manifest: Manifest) -> OfModel:
    return MODELS["maps" if manifest.form.kind == "maps" else manifest.task]


def checked_choice(manifest: Manifest, target: str | None, with_annotations: bool, with_references: bool) -> bool:
    """Return whether annotations name the targets: so they do by default for maps and boxes, where there are some.

    Args:
        manifest: The bundle's.
        target: One of `CHOICES`, or None.
        with_annotations: Whether there are annotations.
        with_references: Whether there are references.

    Raises:
        UsageError: There is no such choice, it does not fit the model, or something is missing for it.
    """
    does, choices = task_of(manifest).does, _of_model(manifest).choices
    if target is not None and target not in CHOICES:
        raise UsageError(f"no target {target!r}; use {' or '.join(CHOICES)}")
    if target == ANNOTATED and not with_annotations:
        raise UsageError("--target annotated takes the class from annotations; name their file with --annotations")
    if target == ANNOTATED and target not in choices:
        raise UsageError(f"--target annotated is about classes, and the model {does}: leave it out")
    if manifest.form.kind == "embedding" and not with_references:
        raise UsageError("an embedding is measured beside references: give --like FILE, or --pairs FILE.csv")
    if manifest.form.kind != "embedding" and with_references:
        raise UsageError(f"--like and --pairs are for embeddings, and the model {does}: leave them out")
    return target == ANNOTATED or (target is None and with_annotations and manifest.form.kind in ("maps", "boxes"))
