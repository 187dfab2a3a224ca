"""Names of the files of results: no file overwrites another, or a file of the user's."""

import re
import unicodedata
from collections.abc import Callable, Mapping

from fusioncam.runtime.photos.folder import stem_of_file


def safe_name(method: str) -> str:
    """Return a method's name for use in a file's name: without `:` and `+`, which some file systems refuse."""
    return re.sub(r"[^A-Za-z0-9_.]", "-", method)


class ResultNames:
    """The stems of the results of photos: each photo's own name in the same subfolder, numbered where it is taken.

    Args:
        endings: Endings of the names of a result's files, by their content.
    """

    def __init__(self, endings: Mapping[str, str]) -> None:
        self._endings = tuple(endings.values())
        self._taken: dict[str, set[str]] = {}

    def claim(self, place: str, is_other: Callable[[str], bool] = lambda stem: False) -> str:
        """Return a stem for a photo, with `/` between the parts, and keep others from having it.

        Args:
            place: The photo's path in its folder.
            is_other: Tells whether a stem belongs to another photo, by the results of an earlier run.
        """
        folder, slash, name = place.rpartition("/")
        taken = self._taken.setdefault(_folded(folder), set())
        own = stem = stem_of_file(name)
        n = 2
        while taken & self._files(stem) or is_other(f"{folder}{slash}{stem}"):
            stem, n = f"{own}_{n}", n + 1
        taken |= self._files(stem)
        return f"{folder}{slash}{stem}"

    def _files(self, stem: str) -> set[str]:
        return {_folded(stem + ending) for ending in self._endings}


def _folded(name: str) -> str:
    """Return a file's name in a form that is equal for two names of one file on macOS or Windows."""
    return unicodedata.normalize("NFC", name).casefold()
