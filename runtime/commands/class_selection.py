"""Which classes of a picture to explain."""

import difflib
import re
from dataclasses import dataclass

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.difference import Difference, difference
from fusioncam.runtime.engine.progress import Progress
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.labels import names_of


@dataclass(frozen=True)
class Wanted:
    """Classes to explain; by default the top one of each picture.

    Attributes:
        classes: These, each once.
        versus: What speaks for the one class (or the top one) rather than for this one.
        top: In place of classes: the so many most probable ones.
        above: In place of classes: those of at least this probability.

    Raises:
        UsageError: They are put in a way that makes no sense.
    """

    classes: tuple[int, ...] = ()
    versus: int | None = None
    top: int | None = None
    above: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(dict.fromkeys(self.classes)))
        ways = {"-c": self.classes or None, "-k": self.top, "--above": self.above}
        given = [name for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} are different ways to choose classes: give one of them")
        if self.versus is not None and (len(self.classes) > 1 or given not in ([], ["-c"])):
            raise UsageError("--versus compares two classes: give one with -c, or none for the top one")
        if self.classes == (self.versus,):
            raise UsageError("--versus needs another class than -c: a class cannot be compared with itself")

    @property
    def several(self) -> bool:
        """Whether a picture may have several results: the class is then part of the names of files."""
        return len(self.classes) > 1 or self.top is not None or self.above is not None

    def check(self, manifest: Manifest) -> None:
        """Raises UsageError where the model has no such number of classes, or there is no such probability."""
        if self.top is not None and not 1 <= self.top <= manifest.classes:
            raise UsageError(f"-k must be a whole number, 1 to {manifest.classes}: the model has so many classes")
        if self.above is not None and not 0 <= self.above <= 1:
            raise UsageError("--above must be a probability, 0 to 1")

    def explain(
        self, explainer: Explainer, photo: UInt8Array, progress: Progress | None
    ) -> list[Explanation] | list[Difference]:
        """Explain one picture.

        Raises:
            FusionCamError: As of `Explainer.explain_batch` and `difference`.
        """
        if self.versus is not None:
            pair = [*(self.classes or (-1,)), self.versus]
            return [difference(*explainer.explain_batch([photo], [pair], progress=progress))]
        if self.top is not None or self.above is not None:
            return explainer.explain_batch([photo], top=self.top, above=self.above, progress=progress)
        found = explainer.explain_batch([photo], [list(self.classes) or None], progress=progress)
        # Only now it is known which class is the top one, which may be among those given by number.
        return list({e.class_index: e for e in found}.values())


def class_number(manifest: Manifest, wanted: str) -> int:
    """The class called `wanted`: its number, its whole label, or one of the names its label lists between commas.

    Raises:
        UsageError: There is no such class, or several share the name.
    """
    if re.fullmatch(r"[+-]?[0-9]{1,18}", wanted):
        return int(wanted)
    if manifest.labels is None:
        raise UsageError(f"the bundle has no labels to look {wanted!r} up in; give the class's number")
    name = wanted.strip().casefold()
    names = [names_of(label) for label in manifest.labels]
    found = [i for i, some in enumerate(names) if name in some]
    if len(found) > 1:
        raise UsageError(f"several classes are called {wanted!r}: {', '.join(map(str, found))}; give a number")
    if not found:
        every = [n for some in names for n in some]
        close = [n for n in every if name in n.split()][:3] or difflib.get_close_matches(name, every, n=1)
        hint = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise UsageError(f"no class is called {wanted!r}{hint}")
    return found[0]
