"""All annotations of a folder of photos: the accepted classes, the regions of objects, and the problems."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from fusioncam.errors import ImageError, first_line
from fusioncam.kernels.arrays import BoolArray
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.evaluation.annotations.matching import matched
from fusioncam.runtime.evaluation.annotations.model import Entry, Problem
from fusioncam.runtime.evaluation.annotations.outlines import Bounds, Outline
from fusioncam.runtime.photos.geometry import visible_slices
from fusioncam.runtime.targets.kinds import KnownObject

_SLACK = 0.5  # pixels a box may reach beyond the photo without a problem: rounding
_SAME_SHAPE = 0.02  # relative difference of two proportions that still are those of one photo, resized


@dataclass(frozen=True)
class Annotations:
    """The annotations of some photos.

    Attributes:
        entries: By photo; before `matched_to`, by the name in the annotations.
        problems: Parts that cannot be used; `problems_of` finds those that only the photo shows.
        mask_files: Pictures that are masks, and so no photos to evaluate.
        sha256: Digest of all files that were read, or None without any.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    mask_files: frozenset[Path] = frozenset()
    sha256: str | None = None

    def matched_to(self, photos: Iterable[str]) -> "Annotations":
        """Return the annotations by the photos' paths in their folder; one without counterpart becomes a problem.

        Args:
            photos: Paths within the folder, `/` between the parts.
        """
        keys = list(photos)
        entries, problems = matched(self.entries.values(), keys)
        missing = [Problem(key, "no annotation for this photo") for key in keys if key not in entries]
        return replace(self, entries=entries, problems=(*self.problems, *problems, *missing))

    def accepted(self, photo: str) -> tuple[int, ...]:
        """Return the classes that count as right for a photo, sorted; none for a photo without annotation."""
        return tuple(sorted(self.entries[photo].accepted)) if photo in self.entries else ()

    def region(self, photo: str, size: tuple[int, int], class_index: int) -> BoolArray:
        """Return the region of a class: the union of its objects, and of those without a class.

        Args:
            photo: Its path in the folder.
            size: (H0, W0) of the photo.
            class_index: The model's class.

        Returns:
            (H0, W0) bool, nowhere true where the photo has no object of that class.
        """
        region = np.zeros(size, np.bool_)
        entry = self.entries.get(photo)
        if entry is not None and _fits(entry, size):
            for item in entry.objects:
                if item.classes is None or class_index in item.classes:
                    with suppress(ImageError, ValueError):
                        region |= item.outline.draw(size, entry.size or size)
        return region

    def objects(self, photo: str, size: tuple[int, int]) -> list[KnownObject]:
        """Return the objects of a photo (H0, W0) that a detection may match: those that lie on it, and no crowds."""
        entry, found = self.entries.get(photo), list[KnownObject]()
        if entry is None or not _fits(entry, size):
            return found
        for item in entry.objects:
            with suppress(ImageError, ValueError):
                mask = item.outline.draw(size, entry.size or size)
                if mask.any() and not item.crowd:
                    found.append(KnownObject(item.classes, _box_of(item.outline, mask, entry.size), float(mask.sum())))
        return found

    def problems_of(self, photo: str, size: tuple[int, int], preprocessing: Preprocessing | None = None) -> list[str]:
        """Return the parts of a photo's annotation that do not fit the photo, a line each.

        Args:
            photo: Its path in the folder.
            size: (H0, W0) of the photo.
            preprocessing: The model's, to name the objects that its crop cuts away as well.
        """
        entry = self.entries.get(photo)
        if entry is None:
            return []
        if not _fits(entry, size):
            said, real = (f"{w} x {h}" for h, w in (entry.size or size, size))
            turned = "; a camera's rotation?" if entry.size == size[::-1] else ""
            return [f"annotated as {said} but it is {real}{turned}: its objects were left out"]
        scaled = entry.size not in (None, size)
        lines = ["annotated at another size: its objects were scaled to the photo"] if scaled else []
        return lines + list(_complaints(entry, size, preprocessing))


def _fits(entry: Entry, size: tuple[int, int]) -> bool:
    """Return whether outlines of the annotated size can be scaled to the photo's."""
    if entry.size is None or entry.size == size:
        return True
    (h, w), (height, width) = entry.size, size
    # Programs round to a pixel.
    return abs(h / w * width - height) <= max(1.0, _SAME_SHAPE * height)


def _box_of(outline: Outline, mask: BoolArray, annotated: tuple[int, int] | None) -> Bounds:
    """Return the box of an object, in pixels of the photo and clipped to it: its own, or that around its mask."""
    height, width = mask.shape
    if outline.bounds is None:
        (top, bottom), (left, right) = (np.flatnonzero(mask.any(axis=axis))[[0, -1]].tolist() for axis in (1, 0))
        return left, top, right + 1, bottom + 1
    rows, columns = annotated or mask.shape
    scales = [width / columns, height / rows] * 2
    x0, y0, x1, y1 = (np.array(outline.bounds) * scales).clip(0, [width, height, width, height]).tolist()
    return x0, y0, x1, y1


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
