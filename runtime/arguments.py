"""What may be asked of an Explainer, checked before anything is run."""

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest

Bundle = str | os.PathLike[str]
Bundles = Bundle | Sequence[Bundle]
Classes = int | Sequence[int] | None


def listed(argument: Any, name: str) -> list[Any]:
    """Return the entries of a list or tuple; a mere string would be taken apart into letters.

    Raises:
        UsageError: The argument is something else.
    """
    if isinstance(argument, str | bytes) or not isinstance(argument, Sequence):
        raise UsageError(f"{name} must be a list, not {argument!r}; pass a list, also of a single one")
    return list(argument)


def listed_bundles(given: Any) -> list[Bundle]:
    """One bundle or several as a list; raises UsageError where they are no paths."""
    bundles = list(given) if isinstance(given, list | tuple) else [given]
    if not all(isinstance(b, str | os.PathLike) for b in bundles):
        raise UsageError(f"a bundle is the path of a folder, or a list of such, not {given!r}")
    return bundles


def checked_class(asked: Any, classes: int) -> int:
    """The class asked for, of so many, as an index; -1 for the top one.

    Raises:
        UsageError: There is no such class.
    """
    try:
        index = -1 if asked is None else operator.index(asked)
    except TypeError:
        raise UsageError(f"class_index must be a whole number, not {asked!r}") from None
    if not -1 <= index < classes:
        raise UsageError(f"there is no class {index}: the model has {classes}, 0 to {classes - 1}")
    return index


def checked_choice(class_index: Any, top: Any, above: Any, manifest: Manifest) -> Callable[[Array], list[int]] | None:
    """How classes follow from their probabilities, if they do.

    Args:
        class_index: Classes that are named, or None.
        top: So many of the most probable, or None.
        above: Those of at least this probability, or None.
        manifest: The bundle's.

    Raises:
        UsageError: `top` or `above` makes no sense, or more than one of the three is given.
    """
    if sum(given is not None for given in (class_index, top, above)) > 1:
        raise UsageError("give one of class_index, top and above, not several")
    least = 0.0 if above is None else float(above) if isinstance(above, int | float | np.number) else -1.0
    if isinstance(above, bool) or not 0 <= least <= 1:
        raise UsageError("above must be a probability, 0 to 1")
    if above is not None and manifest.ending == "value":
        raise UsageError("a regression has values, not probabilities: name its classes, 0 for lower and 1 for higher")
    count = checked_count("top", top, manifest.classes)
    if top is None and above is None:
        return None

    def choose(chances: Array) -> list[int]:
        order: list[int] = np.argsort(-chances, kind="stable")[:count].tolist()
        return [c for c in order if chances[c] >= least]

    return choose


def checked_count(name: str, given: Any, most: int) -> int | None:
    """A whole number from 1 to `most`, or None; raises UsageError for anything else, True included."""
    if given is None:
        return None
    try:
        count = 0 if isinstance(given, bool) else operator.index(given)
    except TypeError:
        count = 0
    if not 1 <= count <= most:
        raise UsageError(f"{name} must be a whole number, 1 to {most}")
    return count


def many(given: Any, times: int) -> list[Any]:
    """The entries of a sequence, or something else `times` times."""
    several = isinstance(given, Sequence) or (isinstance(given, np.ndarray) and given.ndim > 0)
    return list(given) if several else [given] * times


def of_one_model(manifests: Sequence[Manifest]) -> Manifest:
    """The first of the manifests; raises UsageError where there is none, or they are not of one model."""
    if not manifests:
        raise UsageError("no bundle given; make one with `fusioncam export`")
    first = manifests[0]
    for m in manifests[1:]:
        for what in ("classes", "labels", "preprocessing", "ending"):
            if getattr(m, what) != getattr(first, what):
                raise UsageError(f"the bundles differ in {what}; export one model by several layers, in the same way")
        if m.source.sha256 != first.source.sha256:
            raise UsageError("the bundles are of different models; export one model by several layers")
    return first
