"""Selection of the classes of a picture to explain."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.arguments import SizeLike, checked_class
from fusioncam.runtime.difference import Difference, difference
from fusioncam.runtime.engine import Progress
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.labels import class_number
from fusioncam.runtime.photos.model_input import ImageLike


@dataclass(frozen=True)
class ClassSelection:
    """Classes to explain; by default the top class of each picture.

    Attributes:
        classes: Class indices, each once.
        versus: Class to compare the one class (or the top one) with; the maps show the difference of their evidence.
        top: In place of classes: the number of most probable classes.
        above: In place of classes: the least probability of classes.

    Raises:
        UsageError: The attributes contradict each other.
    """

    classes: tuple[int, ...] = ()
    versus: int | None = None
    top: int | None = None
    above: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(dict.fromkeys(self.classes)))
        values = {"-c": self.classes or None, "-k": self.top, "--above": self.above}
        flags = [name for name, value in values.items() if value is not None]
        if len(flags) > 1:
            raise UsageError(f"{' and '.join(flags)} are different ways to choose classes: give one of them")
        if self.versus is not None and (len(self.classes) > 1 or flags not in ([], ["-c"])):
            raise UsageError("--versus compares two classes: give one with -c, or none for the top one")
        if self.classes == (self.versus,):
            raise UsageError("--versus needs another class than -c: a class cannot be compared with itself")

    @classmethod
    def of(
        cls, manifest: Manifest, classes: Sequence[str], versus: str | None, top: int | None, above: float | None
    ) -> "ClassSelection":
        """Return the selection of classes that are given by number or by name.

        Raises:
            UsageError: There is no such class, or the model has fewer, or `above` is no probability.
        """

        def number(name: str) -> int:
            return checked_class(class_number(manifest, name), manifest.classes)

        numbers = tuple(number(name) for name in classes)
        selection = cls(numbers, None if versus is None else number(versus), top, above)
        selection.check(manifest)
        return selection

    @property
    def several(self) -> bool:
        """Return whether a picture may have several results, so that names of files carry the class."""
        return len(self.classes) > 1 or self.top is not None or self.above is not None

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
        size: SizeLike = None,
    ) -> list[Explanation] | list[Difference]:
        """Explain the selected classes of one picture, with verdicts if `verify`; differences have none.

        Raises:
            FusionCamError: See `Explainer.explain_batch` and `difference`.
        """
        shared: dict[str, Any] = {"progress": progress} if size is None else {"progress": progress, "size": size}
        if self.versus is not None:
            pair = [*(self.classes or (-1,)), self.versus]
            return [difference(*explainer.explain_batch([photo], [pair], **shared))]
        if self.top is not None or self.above is not None:
            return explainer.explain_batch([photo], top=self.top, above=self.above, verify=verify, **shared)
        explanations = explainer.explain_batch([photo], [list(self.classes) or None], verify=verify, **shared)
        # The top class may be among those selected by number, which shows only now.
        return list({e.class_index: e for e in explanations}.values())


TOP_CLASS = ClassSelection()
