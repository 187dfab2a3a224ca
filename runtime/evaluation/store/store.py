"""The store of an evaluation: its rows, safe at any point, so that an interrupted run (SIGKILL included) continues."""

import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Self, TypeAlias

import cv2
import numpy as np

from fusioncam.errors import OutputError, UsageError
from fusioncam.files import replace_file, sweep
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.manifest import MANIFEST
from fusioncam.output import advice_on, json_bytes, plain, prepare_folder, write_atomically
from fusioncam.runtime.evaluation.store.lock import locked
from fusioncam.runtime.evaluation.store.row_schema import is_row
from fusioncam.runtime.results.settings import changed_settings

Row: TypeAlias = dict[str, Any]

ROWS, SETTINGS, LOCK, PICTURES = "rows.jsonl", "settings.json", ".lock", "pictures"
RESULTS = ("results.csv", "results.parquet", "summary.json", "report.html")
_SEALED = re.compile(rb'(\{.*),"digest":"([0-9a-f]{16})"\}\n', re.DOTALL)
THUMBNAIL, QUALITY = 256, 75  # longer side in pixels; of WebP, 1..100


class Store:
    """A folder with one line of JSON per finished target of a photo, to be used in a `with` statement.

    Args:
        folder: Made where it is missing.
        settings: All that decides the results: model, methods, metrics, annotations. Plain values, ready for JSON.
        restart: Whether to delete the rows and results of an earlier run.

    Raises:
        UsageError: The folder holds an evaluation with other settings, or foreign files; another process is writing
            to it; or it is a bundle.
        OutputError: The folder cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], restart: bool = False) -> None:
        self.folder = folder
        self._rows = _Rows()
        if (folder / MANIFEST).exists():
            raise UsageError(f"{folder} is a bundle; choose another folder with -o")
        prepare_folder(folder)
        with _output_errors(folder), ExitStack() as held:
            held.enter_context(locked(folder / LOCK))
            self._take_over(plain(settings), restart)
            (folder / PICTURES).mkdir(exist_ok=True)
            self._file = held.enter_context((folder / ROWS).open("ab", buffering=0))
            self._held = held.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def rows(self) -> list[Row]:
        """Return all rows, in the order of the photos' names."""
        return [row for photo in sorted(self._rows) for row in self._rows[photo].values()]

    def complete(self, photo: str) -> bool:
        """Return whether a photo has the rows of all of its targets, or that of a failure."""
        rows = list(self._rows.get(photo, {}).values())
        return bool(rows) and ("error" in rows[0] or len(rows) == rows[0].get("targets", 1))

    def finished(self, photo: str, sha256: str | None = None) -> bool:
        """Return whether a photo is complete. The row of a failure does not count: the file may have been repaired.

        Args:
            photo: Its path in the folder of photos.
            sha256: Digest of its file now: where the rows have another, the photo was replaced.
        """
        if not self.complete(photo):
            return False
        row = next(iter(self._rows[photo].values()))
        return "error" not in row and (sha256 is None or row.get("sha256") in (None, sha256))

    def add(self, row: Mapping[str, Any]) -> Row:
        """Write the row of a target to the disk, in place of an earlier row of that target.

        Args:
            row: With the photo's path as `image`, the name of the `target` and the number of the photo's `targets`; NaN
                and infinity become null.

        Returns:
            The row as it will be read again.

        Raises:
            OutputError: The row cannot be written.
        """
        # ASCII: names that are not UTF-8 come back unchanged.
        line = sealed(json.dumps(plain(row), allow_nan=False, separators=(",", ":")).encode())
        with _output_errors(self.folder):
            before = self._file.seek(0, os.SEEK_END)
            try:
                if self._file.write(line) != len(line):
                    raise OSError("the disk is full")
                os.fsync(self._file.fileno())
            except OSError:
                self._file.truncate(before)
                raise
        kept: Row = json.loads(line)
        del kept["digest"]
        self._rows.keep(kept)
        return kept

    def save_picture(self, photo: str, method: str, rgb: UInt8Array, target: str = "") -> str:
        """Write a small copy of a map over its photo, and return its path in the folder, for the row.

        Args:
            photo: The photo's path in its folder.
            method: The method of the map.
            rgb: (H, W, 3) uint8 RGB of any size.
            target: The name of the target, where the photo has several.

        Raises:
            OutputError: The picture cannot be written.
        """
        name = f"{PICTURES}/{_picture_name(photo, method, target)}"
        write_atomically(self.folder / name, thumbnail(rgb))
        return name

    def picture(self, name: str) -> bytes | None:
        """Return a picture by its path in the folder, or None where the file is missing."""
        try:
            return (self.folder / PICTURES / PurePosixPath(name).name).read_bytes()
        except (OSError, ValueError):
            return None

    def _take_over(self, settings: Any, restart: bool) -> None:
        """Continue with the rows in the folder, or begin an evaluation."""
        theirs = _settings_in(self.folder)
        if theirs is None:
            foreign = [name for name in (ROWS, *RESULTS) if (self.folder / name).exists()]
            if foreign:
                raise UsageError(
                    f"{self.folder} holds {foreign[0]}, which no evaluation wrote; choose another folder with -o"
                )
        elif restart:
            self._clear()
        elif theirs != settings:
            raise UsageError(
                f"{self.folder} holds an evaluation with other settings ({changed_settings(theirs, settings)}); "
                "choose another folder with -o, or throw that one away with --restart"
            )
        if restart or theirs is None:
            replace_file(self.folder / SETTINGS, json_bytes(settings))
        sweep(self.folder)
        sweep(self.folder / PICTURES)
        self._rows = _whole_rows(self.folder / ROWS, settings.get("methods") or ())

    def _clear(self) -> None:
        # The rows first: where this is interrupted, the rest without them is harmless.
        for name in (ROWS, *RESULTS):
            (self.folder / name).unlink(missing_ok=True)
        for picture in (self.folder / PICTURES).glob("*.webp"):
            picture.unlink(missing_ok=True)


class _Rows(dict[str, dict[str, Row]]):
    """Rows by photo and, of each, by the name of the target."""

    def keep(self, row: Row) -> None:
        """Keep a row in place of an earlier one of its target, and of all rows of an earlier state of its photo."""
        others = self.setdefault(row["image"], {})
        if any(_state(other) != _state(row) for other in others.values()):
            others.clear()
        others[row.get("target", "")] = row


def _state(row: Row) -> tuple[Any, ...]:
    return "error" in row, row.get("sha256"), row.get("targets", 1)


@contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    """Raise errors of the operating system as OutputError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write to {folder}: {reason}; {advice_on(error)}") from error


def thumbnail(rgb: UInt8Array) -> bytes:
    """Return the WebP bytes of a picture (H, W, 3) RGB, its longer side reduced to 256 pixels."""
    scale = min(1.0, THUMBNAIL / max(rgb.shape[:2]))
    if scale < 1:
        size = tuple(max(1, round(n * scale)) for n in rgb.shape[1::-1])
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".webp", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return data.tobytes()


def _picture_name(photo: str, method: str, target: str) -> str:
    """Return a legible name, unique by a digest, without the letters that some file systems refuse."""
    named = "\0".join((photo, method, *([target] if target else [])))
    digest = hashlib.sha256(named.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    stem, short = (re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40] for text in (PurePosixPath(photo).stem, method))
    return f"{stem}-{short}-{digest}.webp".lstrip("-")


def _settings_in(folder: Path) -> Any:
    """Return the settings of an earlier run, or None where there was none."""
    try:
        return json.loads((folder / SETTINGS).read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{folder / SETTINGS} is damaged; choose another folder with -o") from error


def sealed(row: bytes) -> bytes:
    """Return the line of a row, a JSON object, with its own digest as the last key."""
    return row[:-1] + b',"digest":"%s"}\n' % _digest(row[:-1])


def _digest(row: bytes) -> bytes:
    return hashlib.sha256(row).hexdigest()[:16].encode()


def _whole_rows(path: Path, methods: Iterable[str]) -> _Rows:
    """Return the whole rows of a file, and remove the other lines from it: their photos are evaluated again.

    A line is removed where it was cut short, does not match its digest, is no row, or lacks one of the methods.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return _Rows()
    of_run = {*methods}
    read = [(line, _row(line, of_run)) for line in lines]
    whole = [(line, row) for line, row in read if row is not None]
    if len(whole) < len(lines):
        damaged = sum(row is None for line, row in read if line.endswith(b"\n"))
        if damaged:  # a killed evaluation leaves a last line without end, which is no damage
            what = "1 row was damaged" if damaged == 1 else f"{damaged} rows were damaged"
            warnings.warn(f"{path}: {what}; their photos are evaluated again", RuntimeWarning, stacklevel=2)
        replace_file(path, b"".join(line for line, _ in whole))
    rows = _Rows()
    for _, row in whole:
        rows.keep(row)
    return rows


def _row(line: bytes, methods: set[str]) -> Row | None:
    sealed = _SEALED.fullmatch(line)
    if sealed is None or _digest(sealed[1]) != sealed[2]:
        return None
    try:
        row = json.loads(sealed[1] + b"}")
    except (ValueError, RecursionError):
        return None
    return row if is_row(row) and ("error" in row or methods <= {*row["methods"]}) else None
