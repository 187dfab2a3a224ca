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
"""The content of a STEM.json."""

# Fields with their types, by which a record is told from other JSON, and those that a table reads besides.
_FIELDS = {"maps": str, "class_index": int, "passes": dict, "timing_seconds": dict, "flags": dict}
# The last bytes of a whole file: how many, and how they begin.
_ENDS = {".npz": (22, b"PK\x05\x06"), ".png": (12, b"\0\0\0\0IEND"), ".gz": (8, b"")}


class EarlierResults:
    """The results in a folder.

    Args:
        folder: The folder, which may be missing.
        endings: Endings of the names of a result's files, by their content.
        several: Whether the name of a target follows the stem, see `ResolvedTarget.slug`.
        shared: Endings of the files that all targets of a photo have in common.
    """

    def __init__(self, folder: Path, endings: Sequence[str], several: bool, shared: Sequence[str] = ()) -> None:
        self._folder, self._several, self._shared = folder, several, shared
        self._endings = [ending for ending in endings if ending != ".json"]
        alike = "|".join(map(re.escape, endings))
        self._of_target = re.compile(rf"(.+)-(\d+(?:_\w+)?|(?:like|value)_\w+)(?:{alike})", re.DOTALL)
        # The listing of one folder is kept: photos come folder by folder.
        self._targets_in = lru_cache(maxsize=1)(self._list_targets)

    def stems(self, stem: str) -> list[str]:
        """Return the stems of the files that results of a photo may have: with several targets, those that are there.

        Args:
            stem: That of the photo.
        """
        if not self._several:
            return [stem]
        parent, _, name = stem.rpartition("/")
        return [f"{stem}-{target}" for target in sorted(self._targets_in(parent).get(name, ()), key=_in_order)]

    def panels(self, stem: str) -> set[str]:
        """Return the names of the pictures that results of a photo have, also of a run with other targets."""
        parent, _, name = stem.rpartition("/")
        stems = [stem, *(f"{stem}-{target}" for target in self._targets_in(parent).get(name, ()))]
        records = [record for known in stems if (record := self.record(known)) is not None]
        return {Path(str(record["picture"])).name for record in records if "picture" in record}

    def record(self, stem: str) -> Record | None:
        """Return the record of a result, or None where there is none, or a file that is no record."""
        try:
            record = json.loads((self._folder / f"{stem}.json").read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        is_record = isinstance(record, dict) and all(isinstance(record.get(f), kind) for f, kind in _FIELDS.items())
        return record if is_record else None

    def is_of_another(self, stem: str, photo: PhotoFile) -> bool:
        """Return whether a stem has results of a photo of another name and another content."""
        records = [self.record(known) for known in self.stems(stem)]
        others = [record for record in records if record is not None and record.get("image") != photo.shown_name]
        return bool(others) and photo.fingerprint() not in {record.get("fingerprint") for record in others}

    def kept(self, photo: PhotoFile, stem: str, settings: dict[str, Any]) -> dict[str, Record] | None:
        """Return the records of a photo by their targets; None where some are missing, or the photo has changed since.

        Raises:
            UsageError: They were made with other settings.
        """
        found = {known: record for known in self.stems(stem) if (record := self.record(known)) is not None}
        fingerprint = photo.fingerprint() if found else None
        found = {known: record for known, record in found.items() if record.get("fingerprint") == fingerprint}
        for known, record in found.items():
            if record.get("settings") != settings:
                raise UsageError(
                    f"{self._folder / f'{known}.json'} was made with other settings "
                    f"({changed_settings(record.get('settings'), settings)}); choose another folder with -o, or "
                    "leave out --resume to make all results again"
                )
        whole = {known[len(stem) + 1 :]: record for known, record in found.items() if self._is_whole(known)}
        if not whole or not all(_is_complete(self._folder / f"{stem}{ending}") for ending in self._shared):
            return None
        explained: Any = next(iter(whole.values())).get("explained", [*whole])
        is_all = isinstance(explained, list) and explained and all(str(target) in whole for target in explained)
        return {str(target): whole[str(target)] for target in explained} if is_all else None

    def _is_whole(self, stem: str) -> bool:
        """Return whether all files of a result are whole: the record appears first, and a process may be killed then.

        They are looked for in this folder: its record has other names where the folder was moved or copied.
        """
        return all(_is_complete(self._folder / f"{stem}{ending}") for ending in self._endings)

    def _list_targets(self, parent: str) -> dict[str, set[str]]:
        """Return the names of targets behind each stem in a folder, whatever file has them."""
        found: dict[str, set[str]] = {}
        folder = self._folder / parent
        for entry in os.scandir(folder) if folder.is_dir() else ():
            if name := self._of_target.fullmatch(entry.name):
                found.setdefault(name[1], set()).add(name[2])
        return found


def _in_order(target: str) -> tuple[int, str]:
    """Return what names of targets are sorted by: classes by their number."""
    number = re.match(r"\d+", target)
    return int(number[0]) if number else -1, target


def _is_complete(file: Path) -> bool:
    """Return whether a file is there to its end; where the machine went down, it may be empty or cut short."""
    length, begin = _ENDS[file.suffix]
    try:
        with file.open("rb") as opened:
            opened.seek(-length, os.SEEK_END)
            return opened.read().startswith(begin)
    except OSError:
        return False
