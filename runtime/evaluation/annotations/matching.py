"""The photos that the names in annotations belong to."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from fusioncam.runtime.evaluation.annotations.model import Entry, Problem


def matched(entries: Iterable[Entry], photos: list[str]) -> tuple[dict[str, Entry], list[Problem]]:
    """Return the entries by photo, and a problem for each entry that fits no photo alone.

    A name fits a photo where one is the end of the other, whole parts compared (`val/1.jpg` and `1.jpg`). Where none
    fits, the suffix is left out of the comparison. A name that fits several photos is used for none.
    """
    with_suffix, without = _Endings(photos, suffix=True), _Endings(photos, suffix=False)
    candidates: dict[str, list[tuple[bool, Entry]]] = {}
    problems: list[Problem] = []
    for entry in entries:
        # All names with their suffix come before any name without: the first that fits a photo decides.
        fits = (endings.fitting(name) for endings in (with_suffix, without) for name in entry.names)
        fitting = next(filter(None, fits), [])
        if len(fitting) == 1:
            candidates.setdefault(fitting[0], []).append((fitting[0] in entry.names, entry))
        elif fitting:
            problems.append(Problem(entry.names[0], "annotated, but several photos have this name: not used"))
        else:
            problems.append(Problem(entry.names[0], "annotated, but not among the photos"))
    entry_of: dict[str, Entry] = {}
    for photo, of_photo in candidates.items():
        best = [entry for exact, entry in of_photo if exact] or [entry for _, entry in of_photo]
        if len(best) == 1:
            entry_of[photo] = best[0]
        else:
            problems.append(Problem(photo, "several annotations fit this photo: none was used"))
    return entry_of, problems


class _Endings:
    """An index of photos by the last part of their path."""

    def __init__(self, photos: list[str], suffix: bool) -> None:
        self._suffix = suffix
        self._by_last: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for photo in photos:
            parts = self._parts(photo)
            self._by_last.setdefault(parts[-1], []).append((photo, parts))

    def _parts(self, name: str) -> tuple[str, ...]:
        path = PurePosixPath(name)
        return (path if self._suffix else path.with_suffix("")).parts or ("",)

    def fitting(self, name: str) -> list[str]:
        """Return the photos that a name fits; those equal to the name alone, if there are any."""
        of_name = self._parts(name)
        fitting = [
            (photo, parts)
            for photo, parts in self._by_last.get(of_name[-1], [])
            if all(a == b for a, b in zip(reversed(parts), reversed(of_name), strict=False))
        ]
        return [photo for photo, parts in fitting if parts == of_name] or [photo for photo, _ in fitting]
