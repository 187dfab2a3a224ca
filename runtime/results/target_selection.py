"""Selection of the targets of a picture to explain."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import checked_class
from fusioncam.runtime.difference import Difference, difference
from fusioncam.runtime.engine import Progress
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.labels import class_number
from fusioncam.runtime.photos.model_input import ImageLike
from fusioncam.runtime.results.named_targets import NamedTargets
from fusioncam.runtime.targets.kinds import Box, Detections, Each, Like, Region, Rivals, Target, Value
from fusioncam.runtime.targets.tasks import checked_target

PLACES = ("box", "point", "mask")
OPTIONS_OF: Mapping[object, str] = {
    **{"box": "--box", "point": "--point", "mask": "--region"},
    **{Detections: "--detections", Region: "--peak", Like: "--like", Value: "--value", Rivals: "--versus"},
}
"""Options of the command line that name targets, by the place that a target has, or else its kind."""


@dataclass(frozen=True)
class TargetSelection:
    """Targets to explain; by default the top class of each picture.

    Attributes:
        classes: Class indices, each once.
        versus: Class to compare the one class (or the top one) with; the maps show the difference of their evidence.
        top: In place of classes: the number of most probable classes, or targets.
        above: In place of classes: the least probability of classes, or targets.
        targets: In place of classes: targets of any kind.

    Raises:
        UsageError: The attributes contradict each other.
    """

    classes: tuple[int, ...] = ()
    versus: int | None = None
    top: int | None = None
    above: float | None = None
    targets: tuple[Target, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(dict.fromkeys(self.classes)))
        named = " and ".join(dict.fromkeys(map(_option_of, self.targets)))
        values = {"-c": self.classes or None, named: self.targets or None, "--top": self.top, "--above": self.above}
        flags = [name for name, value in values.items() if value is not None]
        if len(flags) > 1:
            raise UsageError(f"{' and '.join(flags)} are different ways to choose classes: give one of them")
        pair = len(self.classes) <= 1 and flags in ([], ["-c"], [OPTIONS_OF[Rivals]])
        if self.versus is not None and not pair:
            raise UsageError("--versus compares two classes: give one with -c, or none for the top one")
        if self.classes == (self.versus,):
            raise UsageError("--versus needs another class than -c: a class cannot be compared with itself")

    @classmethod
    def of(
        cls, manifest: Manifest, named: NamedTargets, versus: str | None, top: int | None, above: float | None
    ) -> "TargetSelection":
        """Return the selection of targets that are named on the command line; by default all that maps have.

        Raises:
            UsageError: There is no such class or target, or the model has fewer, or `above` is no probability.
        """

        def number(name: str) -> int:
            return checked_class(class_number(manifest, name), manifest.classes)

        if manifest.detector is not None and above is not None:
            raise UsageError("--above is about classes of a whole picture: of a detector, say --conf")
        targets, numbers = named.targets_of(manifest, top), tuple(number(name) for name in named.classes)
        other = None if versus is None else number(versus)
        if manifest.detector is not None and other is not None:
            targets = (named.rivals(other),)
        for asked in targets or numbers:
            checked_target(manifest, asked)
        counted = any(isinstance(target, Each) for target in targets)
        selection = cls(() if targets else numbers, other, None if counted else top, above, targets)
        selection.check(manifest)
        finds_all = manifest.form.kind == "maps" and selection == cls()
        return cls(top=manifest.classes) if finds_all else selection

    @property
    def several(self) -> bool:
        """Return whether a picture may have several results, so that names of files carry the target."""
        found = self.top is not None or self.above is not None or any(isinstance(t, Each) for t in self.targets)
        return found or len(self.classes) + len(self.targets) > 1

    @property
    def on_one_panel(self) -> bool:
        """Return whether all results of a picture are drawn on one panel: those of several detections."""
        return self.several and all(isinstance(t, Box | Detections | Each) for t in self.targets or [None])

    def check(self, manifest: Manifest) -> None:
        """Raise UsageError where the model has fewer classes, or `above` is no probability."""
        if self.top is not None and not 1 <= self.top <= manifest.classes:
            raise UsageError(f"-k must be a whole number, 1 to {manifest.classes}, the number of classes")
        if self.above is not None and not 0 <= self.above <= 1:
            raise UsageError("--above must be a probability, 0 to 1")

    def explain(
        self,
        explainer: Explainer,
        photo: ImageLike,
        progress: Progress | None,
        verify: bool = False,
        options: Mapping[str, Any] | None = None,
    ) -> list[Explanation] | list[Difference]:
        """Explain the selected targets of one picture, with verdicts if `verify`; differences have none.

        Args:
            explainer: Explains.
            photo: The picture.
            progress: Called after every chunk.
            verify: Whether a verdict is wanted.
            options: Further arguments of `Explainer.explain_batch`.

        Raises:
            FusionCamError: See `Explainer.explain_batch` and `difference`.
        """
        shared: dict[str, Any] = {"progress": progress, **(options or {})}
        if self.versus is not None:
            pair = [*(self.classes or (-1,)), self.versus]
            shared |= {"target": [list(self.targets)]} if self.targets else {"class_index": [pair]}
            return [difference(*explainer.explain_batch([photo], **shared))]
        shared["verify"] = verify
        if self.targets:
            return explainer.explain_batch([photo], target=[list(self.targets)], **shared)
        if self.top is not None or self.above is not None:
            return explainer.explain_batch([photo], top=self.top, above=self.above, **shared)
        explanations = explainer.explain_batch([photo], [list(self.classes) or None], **shared)
        # The top class may be among those selected by number, which shows only now.
        return list({e.class_index: e for e in explanations}.values())


def _option_of(target: Target) -> str:
    """Return the option of the command line that names a target."""
    given = next((place for place in PLACES if getattr(target, place, None) is not None), type(target))
    return OPTIONS_OF.get(given, "a target")


TOP_CLASS = TargetSelection()


def file_names(explained: Sequence[Explanation] | Sequence[Difference]) -> list[str]:
    """Return a name for each explanation of a picture, none of them twice: the number of the class, or more words."""
    names = list[str]()
    for e in explained:
        target = e.target if isinstance(e, Explanation) else None
        name = str(e.class_index) if target is None else target.slug
        taken = sum(other == name or other.startswith(f"{name}__") for other in names)
        names.append(f"{name}__{taken + 1}" if taken else name)
    return names
