"""What annotations know of the photos, whatever file it came from, and how it is brought to the model's input."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from fusioncam.errors import ImageError, first_line
from fusioncam.kernels.arrays import BoolArray
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.evaluation.annotations.outlines import Outline
from fusioncam.runtime.photos.geometry import axes, display_image, visible_slices

_SLACK = 0.5  # pixels a box may reach beyond the photo without a word: rounding
_SAME_SHAPE = 0.02  # by how much two proportions may differ and still be those of one photo, resized


class Problem(NamedTuple):
    """Something in the annotations that could not be used as it is: of one photo, or of all (None)."""

    image: str | None
    text: str


@dataclass(frozen=True)
class AnnotatedObject:
    """One object. `classes` are the model's for it, none where the labels do not know it, None where nobody says."""

    outline: Outline
    classes: frozenset[int] | None


@dataclass(frozen=True)
class Entry:
    """What is known of one photo.

    Attributes:
        names: What the photo may be called, the surest first.
        size: (H, W) that the outlines refer to, where it is said.
        accepted: Classes that count as right.
        objects: Its objects.
    """

    names: tuple[str, ...]
    size: tuple[int, int] | None = None
    accepted: frozenset[int] = frozenset()
    objects: tuple[AnnotatedObject, ...] = ()


@dataclass(frozen=True)
class Annotations:
    """What is known of some photos.

    Attributes:
        entries: By photo; until `matched_to` has seen the photos, by the name the annotations use.
        problems: What could not be used; what only a look at the photo shows is in `problems_of`.
        mask_files: Pictures that are masks, and so no photos to evaluate.
        sha256: Of all files that were read.
    """

    entries: Mapping[str, Entry]
    problems: tuple[Problem, ...]
    mask_files: frozenset[Path]
    sha256: str

    def matched_to(self, photos: Iterable[str]) -> "Annotations":
        """The same, by the photos' paths in their folder; what has no counterpart becomes a problem.

        A name fits a photo when one is the other's end, whole parts compared (`val/1.jpg` and `1.jpg`); where none
        fits, the suffix is left out of the comparison. A name that fits several photos is used for none.

        Args:
            photos: Paths within the folder, `/` between the parts.
        """
        keys = list(photos)
        found, problems = _match(self.entries.values(), keys)
        missing = [Problem(key, "no annotation for this photo") for key in keys if key not in found]
        return replace(self, entries=found, problems=(*self.problems, *problems, *missing))

    def accepted(self, photo: str) -> tuple[int, ...]:
        """The classes that count as right for a photo, sorted; none where nothing is known."""
        return tuple(sorted(self.entries[photo].accepted)) if photo in self.entries else ()

    def region(self, photo: str, size: tuple[int, int], class_index: int) -> BoolArray:
        """Where the objects of a class lie: the union of them, and of those whose class is not said.

        Args:
            photo: Its path in the folder.
            size: (H0, W0) of the photo.
            class_index: The model's class.

        Returns:
            (H0, W0) bool, nowhere true where no object of that class is known.
        """
        region = np.zeros(size, np.bool_)
        entry = self.entries.get(photo)
        for item in entry.objects if entry is not None and _fits(entry, size) else ():
            if item.classes is None or class_index in item.classes:
                region |= _drawn(item.outline, entry.size or size, size) if entry else False
        return region

    def problems_of(self, photo: str, size: tuple[int, int], preprocessing: Preprocessing | None = None) -> list[str]:
        """What in a photo's annotation does not go with the photo, a line each.

        Args:
            photo: Its path in the folder.
            size: (H0, W0) of the photo.
            preprocessing: The model's, to say as well what its crop cuts away.
        """
        entry = self.entries.get(photo)
        if entry is None:
            return []
        if not _fits(entry, size):
            said, is_ = (f"{w} x {h}" for h, w in (entry.size or size, size))
            turned = "; a camera's rotation?" if entry.size == size[::-1] else ""
            return [f"annotated as {said} but it is {is_}{turned}: its objects were left out"]
        scaled = entry.size not in (None, size)
        lines = ["annotated at another size: its objects were scaled to the photo"] if scaled else []
        return lines + list(_complaints(entry, size, preprocessing))


def _fits(entry: Entry, size: tuple[int, int]) -> bool:
    """Whether outlines of the annotated size can be scaled to the photo's."""
    if entry.size is None or entry.size == size:
        return True
    (h, w), (height, width) = entry.size, size
    # A pixel's worth of rounding is fine, too.
    return abs(h / w * width - height) <= max(1.0, _SAME_SHAPE * height)


def _drawn(outline: Outline, annotated: tuple[int, int], size: tuple[int, int]) -> BoolArray:
    try:
        return outline.draw(size, annotated)
    except (ImageError, ValueError):
        return np.zeros(size, np.bool_)


def _complaints(entry: Entry, size: tuple[int, int], preprocessing: Preprocessing | None) -> Iterator[str]:
    annotated = entry.size or size
    for n, item in enumerate(entry.objects, 1):
        line = _off_the_photo(item.outline, annotated)
        if line is None:
            try:
                mask = item.outline.draw(size, annotated)
            except (ImageError, ValueError) as error:
                line = f"could not be used: {first_line(error)}"
            else:
                line = _nothing_left(mask, preprocessing)
        if line is not None:
            yield f"object {n} of {len(entry.objects)} {line}"


def _off_the_photo(outline: Outline, size: tuple[int, int]) -> str | None:
    if outline.bounds is None:
        return None
    (x0, y0, x1, y1), (height, width) = outline.bounds, size
    if x1 <= x0 or y1 <= y0:
        return "is empty: it was left out"
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        return "lies outside the photo: it was left out"
    if min(x0, y0, width - x1, height - y1) < -_SLACK:
        return "reaches beyond the photo: it was clipped"
    return None


def _nothing_left(mask: BoolArray, preprocessing: Preprocessing | None) -> str | None:
    if not mask.any():
        return "is empty: it was left out"
    if preprocessing is not None and not mask[visible_slices((mask.shape[0], mask.shape[1]), preprocessing)].any():
        return "is cut away by the model's centre crop"
    return None


def in_model_input(region: BoolArray, preprocessing: Preprocessing) -> BoolArray:
    """A region of a photo, in the pixels of the model's input: resized and cut just as the photo is.

    Args:
        region: (H0, W0) bool.
        preprocessing: The model's own.

    Returns:
        (H, W) bool: the pixels of which at least half are in the region; where it is so small or thin that there is
        none, those that it touches. Nowhere true where the crop leaves nothing of it.
    """
    inside = np.zeros(region.shape, np.bool_)
    seen = visible_slices((region.shape[0], region.shape[1]), preprocessing)
    inside[seen] = region[seen]
    if not inside.any():
        return np.zeros(preprocessing.size, np.bool_)
    shares = display_image(np.repeat(region[..., None].astype(np.uint8) * 255, 3, axis=2), preprocessing)[..., 0]
    found = shares >= 128
    if not found.any():
        landed = (
            ((at + 0.5) * axis.resized / axis.whole - axis.start).astype(int).clip(0, axis.size - 1)
            for at, axis in zip(inside.nonzero(), axes((region.shape[0], region.shape[1]), preprocessing), strict=True)
        )
        found[tuple(landed)] = True
    return found


def _match(entries: Iterable[Entry], keys: list[str]) -> tuple[dict[str, Entry], list[Problem]]:
    """Entries by photo, and what did not work out."""
    whole, bare = _Tails(keys, suffix=True), _Tails(keys, suffix=False)
    fits: dict[str, list[tuple[bool, Entry]]] = {}
    problems: list[Problem] = []
    for entry in entries:
        # By each name with its suffix, then by each without: the first that fits anything decides.
        found = next(filter(None, (tails.of(name) for tails in (whole, bare) for name in entry.names)), [])
        if len(found) == 1:
            fits.setdefault(found[0], []).append((found[0] in entry.names, entry))
        elif found:
            problems.append(Problem(entry.names[0], "annotated, but several photos go by this name: not used"))
        else:
            problems.append(Problem(entry.names[0], "annotated, but not among the photos"))
    matched: dict[str, Entry] = {}
    for key, candidates in fits.items():
        best = [entry for exact, entry in candidates if exact] or [entry for _, entry in candidates]
        if len(best) == 1:
            matched[key] = best[0]
        else:
            problems.append(Problem(key, "several annotations fit this photo: none was used"))
    return matched, problems


class _Tails:
    """Photos by the end of their path."""

    def __init__(self, keys: list[str], suffix: bool) -> None:
        self.suffix = suffix
        self.by_last: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for key in keys:
            parts = self._parts(key)
            self.by_last.setdefault(parts[-1], []).append((key, parts))

    def _parts(self, name: str) -> tuple[str, ...]:
        path = PurePosixPath(name)
        return (path if self.suffix else path.with_suffix("")).parts or ("",)

    def of(self, name: str) -> list[str]:
        """The photos whose path ends as the name does, or the other way round; only those equal to it if any is."""
        wanted = self._parts(name)
        found = [
            (key, parts)
            for key, parts in self.by_last.get(wanted[-1], [])
            if all(a == b for a, b in zip(reversed(parts), reversed(wanted), strict=False))
        ]
        return [key for key, parts in found if parts == wanted] or [key for key, _ in found]
