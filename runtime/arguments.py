"""Checks of the arguments of an Explainer, before anything is run."""

import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.free_size import PHOTO, sides
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import FROZEN_INPUTS, Manifest

Bundle = str | os.PathLike[str]
Bundles = Bundle | Sequence[Bundle]
ClassName = int | str | None
Classes = ClassName | Sequence[int | str]
SizeLike = Sequence[int] | Literal["photo"] | None

SHOWN = 80  # characters of what a user gave that an error repeats


def quote(given: Any) -> str:
    """Return what a user gave as an error repeats it: on one line, and not all of it."""
    text = repr(given[: SHOWN + 1] if isinstance(given, str | bytes) else given)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def listed(argument: Any, name: str) -> list[Any]:
    """Return the entries of a list or tuple; a mere string would be taken apart into letters.

    Raises:
        UsageError: The argument is something else.
    """
    if isinstance(argument, str | bytes) or not isinstance(argument, Sequence):
        raise UsageError(f"{name} must be a list, not {argument!r}; pass a list, even for a single value")
    return list(argument)


def listed_bundles(argument: Any) -> list[Bundle]:
    """Return one bundle or several as a list; raise UsageError where they are no paths."""
    bundles = list(argument) if isinstance(argument, list | tuple) else [argument]
    if not all(isinstance(b, str | os.PathLike) for b in bundles):
        raise UsageError(f"a bundle is the path of a folder, or a list of such, not {argument!r}")
    return bundles


def checked_class(class_index: Any, classes: int) -> int:
    """Return a class, of so many, as an index; -1 for the top one.

    Raises:
        UsageError: There is no such class.
    """
    try:
        index = -1 if class_index is None else operator.index(class_index)
    except TypeError:
        index = None
    if index is None or isinstance(class_index, bool):
        raise UsageError(f"class_index must be a whole number or a name, not {class_index!r}")
    if not -1 <= index < classes:
        raise UsageError(f"there is no class {index}: the model has {classes}, 0 to {classes - 1}")
    return index


def one_of(**arguments: Any) -> Any:
    """Return the only argument that is not None, or None; raise UsageError where there are several."""
    given = [name for name, value in arguments.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"give one of {' and '.join(arguments)}, not several")
    return arguments[given[0]] if given else None


def checked_choice(
    class_index: Any, target: Any, top: Any, above: Any, manifest: Manifest
) -> Callable[[Array], list[int]] | None:
    """Return the function that chooses classes by their probabilities; None where targets are named.

    Args:
        class_index: Classes that are named, or None.
        target: Targets that are named, or None.
        top: So many of the most probable, or None.
        above: Those of at least this probability, or None.
        manifest: The bundle's.

    Raises:
        UsageError: `top` or `above` makes no sense, or more than one of the four is given.
    """
    if sum(given is not None for given in (class_index, target, top, above)) > 1:
        named = "class_index" if target is None else "class_index, target"
        raise UsageError(f"give one of {named}, top and above, not several")
    least = 0.0 if above is None else float(above) if isinstance(above, int | float | np.number) else -1.0
    if isinstance(above, bool) or not 0 <= least <= 1:
        raise UsageError("above must be a probability, 0 to 1")
    detector = manifest.detector
    if above is not None and manifest.ending == "value" and detector is None:
        named = "its classes, 0 for lower and 1 for higher" if manifest.source.outputs == 1 else "the targets"
        raise UsageError(f"a regression has values, not probabilities: name {named}")
    count = checked_count("top", top, manifest.classes if detector is None else detector.most)
    if top is None and above is None:
        return None

    def choose(probabilities: Array) -> list[int]:
        order: list[int] = np.argsort(-probabilities, kind="stable")[:count].tolist()
        return [c for c in order if probabilities[c] >= least]

    return choose


def checked_count(name: str, value: Any, most: int) -> int | None:
    """Return a whole number from 1 to `most`, or None; raise UsageError for anything else, True included."""
    if value is None:
        return None
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if not 1 <= count <= most:
        raise UsageError(f"{name} must be a whole number, 1 to {most}")
    return count


def checked_seed(seed: Any) -> int:
    """Return the seed of random masks, a whole number of at most 64 bits; raise UsageError for anything else."""
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < 1 << 64:
        raise UsageError(f"seed must be a whole number from 0 to 2^64 - 1, not {quote(seed)}")
    return number


def checked_size(size: Any, manifests: Sequence[Manifest]) -> tuple[int, ...] | str | None:
    """Return a size of the input as whole numbers, or `photo`; None stands for the bundle's own size.

    Args:
        size: (H, W), `photo`, or None.
        manifests: Of the bundles.

    Raises:
        UsageError: It is no size, or none that the model takes.
    """
    own = manifests[0].preprocessing.size
    if size is None:
        return None
    numbers: tuple[int, ...] | str = PHOTO
    if not (isinstance(size, str) and size == PHOTO):
        try:
            numbers = tuple(operator.index(n) for n in size)
        except TypeError:
            raise UsageError(f"size is whole numbers, such as (H, W), or {PHOTO!r}, not {quote(size)}") from None
    if numbers == own:
        return None
    for manifest in manifests:
        if manifest.free_size is None:
            wanted = "that of each photo" if isinstance(numbers, str) else sides(numbers)
            raise UsageError(
                f"the bundle is for pictures of {sides(own)} only, not {wanted}; export the model with --size any"
            )
        if not isinstance(numbers, str) and (why := manifest.free_size.refusal(numbers, own)) is not None:
            raise UsageError(why)
    return numbers


def checked_bands(bands: Any, manifest: Manifest) -> tuple[int, ...]:
    """Return the bands that pictures show, see `Preprocessing.shown_bands`; raise UsageError where they cannot."""
    try:
        numbers = tuple(operator.index(band) for band in listed(bands, "bands"))
    except TypeError:
        raise UsageError(f"bands must be whole numbers, counted from 1, not {quote(bands)}") from None
    if (reason := manifest.preprocessing.why_not_shown(numbers)) is not None:
        raise UsageError(reason)
    return numbers


def entries(value: Any) -> list[Any] | None:
    """Return the entries of a list, tuple or array; None for a single value, which the name of a class is, too."""
    several = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    return list(value) if several or (isinstance(value, np.ndarray) and value.ndim > 0) else None


def _inputs_of(manifest: Manifest) -> tuple[str, str | None]:
    """Return the source's input that is explained, and a digest of those that are frozen."""
    return manifest.source.input, manifest.files.get(FROZEN_INPUTS)


def of_one_model(manifests: Sequence[Manifest]) -> Manifest:
    """Return the first manifest; raise UsageError where there is none, or they are not of one model."""
    if not manifests:
        raise UsageError("no bundle given; make one with `fusioncam export`")
    first = manifests[0]
    for m in manifests[1:]:
        for field in ("task", "classes", "map_size", "labels", "preprocessing", "ending", "inputs"):
            if getattr(m, field) != getattr(first, field):
                raise UsageError(f"the bundles differ in {field}; export one model by several layers, in the same way")
        if _inputs_of(m) != _inputs_of(first):
            raise UsageError("the bundles differ in --image or in frozen inputs; export one model in the same way")
        if m.source.sha256 != first.source.sha256:
            raise UsageError("the bundles are of different models; export one model by several layers")
    return first
