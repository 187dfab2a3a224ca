"""The results that lie in a folder already: by which photo they were made, with which settings, and whether whole."""

import json
import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.runtime.photos.sources.photo_file import PhotoFile
from fusioncam.runtime.results.settings import changed_settings

Record = dict[str, Any]
"""What STEM.json holds."""

_FIELDS = {"maps", "class_index", "passes"}  # by which a record is told from other JSON


class EarlierResults:
    """The results in a folder.

    Args:
        folder: The folder, which may be missing.
        endings: Endings of the names of a result's files, by their content.
        several: Whether a class number follows the stem.
    """

    def __init__(self, folder: Path, endings: Sequence[str], several: bool) -> None:
        self._folder, self._several = folder, several
        alike = "|".join(map(re.escape, endings))
        self._of_class = re.compile(rf"(.+)-(\d+)(?:{alike})", re.DOTALL)
        # The listing of one folder is kept: photos come folder by folder.
        self._classes_in = lru_cache(maxsize=1)(self._list_classes)

    def stems(self, stem: str) -> list[str]:
        """Return the stems of the files that results of a photo may have: with several classes, those that are there.

        Args:
            stem: That of the photo.
        """
        if not self._several:
            return [stem]
        parent, _, name = stem.rpartition("/")
        return [f"{stem}-{c}" for c in sorted(self._classes_in(parent).get(name, ()))]

    def record(self, stem: str) -> Record | None:
        """Return the record of a result, or None where there is none, or a file that is no record."""
        try:
            record = json.loads((self._folder / f"{stem}.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return record if isinstance(record, dict) and record.keys() >= _FIELDS else None

    def is_of_another(self, stem: str, photo: PhotoFile) -> bool:
        """Return whether a stem has results of a photo of another name and another content."""
        records = [self.record(known) for known in self.stems(stem)]
        others = [record for record in records if record is not None and record.get("image") != photo.shown_name]
        return bool(others) and photo.fingerprint() not in {record.get("fingerprint") for record in others}

    def kept(self, photo: PhotoFile, stem: str, settings: dict[str, Any]) -> list[Record] | None:
        """Return the records of a photo, or None where they are not all there, or the photo has changed since.

        Raises:
            UsageError: They were made with other settings.
        """
        records = [record for known in self.stems(stem) if (record := self.record(known)) and _is_whole(record)]
        if not records:
            return None
        fingerprint = photo.fingerprint()
        records = [record for record in records if record.get("fingerprint") == fingerprint]
        for record in records:
            if record.get("settings") != settings:
                raise UsageError(
                    f"{self._folder / f'{stem}.json'} was made with other settings "
                    f"({changed_settings(record.get('settings'), settings)}); choose another folder with -o, or "
                    "leave out --resume to make all results again"
                )
        of_class = {record["class_index"]: record for record in records}
        explained: list[int] = records[0].get("explained", [*of_class]) if records else []
        return [of_class[c] for c in explained] if records and {*explained} <= {*of_class} else None

    def _list_classes(self, parent: str) -> dict[str, set[int]]:
        """Return the class numbers behind each stem in a folder, whatever file has them."""
        found: dict[str, set[int]] = {}
        folder = self._folder / parent
        for entry in os.scandir(folder) if folder.is_dir() else ():
            if name := self._of_class.fullmatch(entry.name):
                found.setdefault(name[1], set()).add(int(name[2]))
        return found


def _is_whole(record: Record) -> bool:
    """Return whether the files are there that a record names: it appears first, and a process may be killed then."""
    names = [record.get("maps"), record.get("picture"), *(record.get("pictures") or {}).values()]
    return all(Path(name).is_file() for name in names if isinstance(name, str))
