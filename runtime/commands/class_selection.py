"""Selection of the classes of a picture to explain."""

import difflib
import re
from dataclasses import dataclass

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.difference import Difference, difference
from fusioncam.runtime.engine import Progress
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.labels import classes_by_name


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
        self, explainer: Explainer, photo: UInt8Array, progress: Progress | None, verify: bool = False
    ) -> list[Explanation] | list[Difference]:
        """Explain the selected classes of one picture, with verdicts if `verify`; differences have none.

        Raises:
            FusionCamError: See `Explainer.explain_batch` and `difference`.
        """
        if self.versus is not None:
            pair = [*(self.classes or (-1,)), self.versus]
            return [difference(*explainer.explain_batch([photo], [pair], progress=progress))]
        if self.top is not None or self.above is not None:
            return explainer.explain_batch([photo], top=self.top, above=self.above, verify=verify, progress=progress)
        classes = list(self.classes) or None
        explanations = explainer.explain_batch([photo], [classes], verify=verify, progress=progress)
        # The top class may be among those selected by number, which shows only now.
        return list({e.class_index: e for e in explanations}.values())


TOP_CLASS = ClassSelection()


def class_number(manifest: Manifest, text: str) -> int:
    """Return the index of a class by its number, its whole label, or one of the names between commas in its label.

    Raises:
        UsageError: There is no such class, or several classes share the name.
    """
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        return int(text)
    if manifest.labels is None:
        raise UsageError(f"the bundle has no labels to find {text!r} in; give the class's number")
    name, classes = text.strip().casefold(), classes_by_name(manifest.labels)
    indices = classes.get(name, ())
    if len(indices) > 1:
        raise UsageError(f"several classes are called {text!r}: {', '.join(map(str, indices))}; give a number")
    if not indices:
        close = [n for n in classes if name in n.split()][:3] or difflib.get_close_matches(name, classes, n=1)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise UsageError(f"no class is called {text!r}{hint}")
    return indices[0]
