"""Where the rows of an evaluation are kept while it runs: ended at any point, by SIGKILL too, it goes on from there."""

import hashlib
import json
import math
import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self, TypeAlias

import cv2
import numpy as np

from fusioncam.errors import OutputError, UsageError
from fusioncam.files import replace_file, sweep
from fusioncam.kernels.arrays import UInt8Array
from fusioncam.manifest import MANIFEST
from fusioncam.output import advice_on, json_bytes, prepare_folder, write_atomically
from fusioncam.runtime.evaluation.store.lock import hold
from fusioncam.runtime.evaluation.store.row_schema import is_row

Row: TypeAlias = dict[str, Any]

ROWS, SETTINGS, LOCK, PICTURES = "rows.jsonl", "settings.json", ".lock", "pictures"
RESULTS = ("results.csv", "results.parquet", "summary.json", "report.html")
_SEALED = re.compile(rb'(\{.*),"digest":"([0-9a-f]{16})"\}\n', re.DOTALL)
THUMBNAIL, QUALITY = 256, 75  # longer side in pixels; of WebP, 1..100


class Store:
    """A folder with one line of JSON per finished photo, to be used in a `with` statement.

    Args:
        folder: Made where it is missing.
        settings: All that decides what comes out: model, methods, metrics, annotations. Plain values, ready for JSON.
        restart: Throw away what an earlier run left in the folder.

    Raises:
        UsageError: The folder holds an evaluation with other settings, or files that are none; another process is
            writing to it; or it is a bundle.
        OutputError: It cannot be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], restart: bool = False) -> None:
        self.folder = folder
        self._rows: dict[str, Row] = {}
        if (folder / MANIFEST).exists():
            raise UsageError(f"{folder} is a bundle; choose another folder with -o")
        prepare_folder(folder)
        with _complaints(folder):
            release = hold(folder / LOCK)
            if release is None:
                raise UsageError(
                    f"another process is writing to {folder}; wait for it, or choose another folder with -o"
                )
            self._release: Callable[[], None] = release
            try:
                self._take_over(plain(settings), restart)
                (folder / PICTURES).mkdir(exist_ok=True)
                self._file = (folder / ROWS).open("ab", buffering=0)
            except BaseException:
                release()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let others write to the folder."""
        self._file.close()
        self._release()

    @property
    def rows(self) -> list[Row]:
        """All rows there are, in the order of the photos' names."""
        return [self._rows[key] for key in sorted(self._rows)]

    def finished(self, photo: str, sha256: str | None = None) -> bool:
        """Whether a photo has its row. One that failed has not: its file may have been repaired since.

        Args:
            photo: Its path in the folder of photos.
            sha256: Of its file as it is now, to find out that it was replaced, where rows say theirs.
        """
        row = self._rows.get(photo)
        if row is None or "error" in row:
            return False
        return sha256 is None or row.get("sha256") in (None, sha256)

    def add(self, row: Mapping[str, Any]) -> Row:
        """Keep the row of a photo: once this returns, it is on the disk. A later one of the same photo takes its place.

        Args:
            row: With the photo's path as `image`; NaN and infinity become null.

        Returns:
            The row as it will be read again.

        Raises:
            OutputError: It cannot be written.
        """
        # Plain ASCII: names that are not UTF-8 come back as they were.
        line = sealed(json.dumps(plain(row), allow_nan=False, separators=(",", ":")).encode())
        with _complaints(self.folder):
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
        self._rows[kept["image"]] = kept
        return kept

    def save_picture(self, photo: str, method: str, rgb: UInt8Array) -> str:
        """Keep a small copy of a map laid over its photo, and return its path in the folder, for the row.

        Args:
            photo: The photo's path in its folder.
            method: Which map it is.
            rgb: (H, W, 3) uint8 RGB of any size.

        Raises:
            OutputError: It cannot be written.
        """
        name = f"{PICTURES}/{_picture_name(photo, method)}"
        write_atomically(self.folder / name, thumbnail(rgb))
        return name

    def picture(self, name: str) -> bytes | None:
        """A picture by its path in the folder; None where it is gone."""
        try:
            return (self.folder / PICTURES / PurePosixPath(name).name).read_bytes()
        except (OSError, ValueError):
            return None

    def write(self, name: str, data: bytes) -> Path:
        """Write one of the results, whole or not at all; raises OutputError where it cannot be."""
        write_atomically(self.folder / name, data)
        return self.folder / name

    def _take_over(self, settings: Any, restart: bool) -> None:
        """Go on with what is in the folder, or begin."""
        theirs = _settings_in(self.folder)
        if theirs is None:
            foreign = [name for name in (ROWS, *RESULTS) if (self.folder / name).exists()]
            if foreign:
                raise UsageError(f"{self.folder} holds {foreign[0]}, which is not ours; choose another folder with -o")
        elif restart:
            self._clear()
        elif theirs != settings:
            raise UsageError(
                f"{self.folder} holds an evaluation with other settings ({_differences(theirs, settings)}); "
                "choose another folder with -o, or throw that one away with --restart"
            )
        if restart or theirs is None:
            replace_file(self.folder / SETTINGS, json_bytes(settings))
        sweep(self.folder)
        sweep(self.folder / PICTURES)
        self._rows = _whole_rows(self.folder / ROWS, settings.get("methods") or ())

    def _clear(self) -> None:
        # The rows first: without them, the rest is nothing to go on from.
        for name in (ROWS, *RESULTS):
            (self.folder / name).unlink(missing_ok=True)
        for picture in (self.folder / PICTURES).glob("*.webp"):
            picture.unlink(missing_ok=True)


@contextmanager
def _complaints(folder: Path) -> Iterator[None]:
    """Turns errors of the system's into ours."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write to {folder}: {reason}; {advice_on(error)}") from error


def plain(value: Any) -> Any:
    """A value as JSON has it: NumPy's as Python's, tuples as lists, NaN and infinity as None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def thumbnail(rgb: UInt8Array) -> bytes:
    """WebP bytes of a picture (H, W, 3) RGB, its longer side brought down to 256 pixels."""
    scale = min(1.0, THUMBNAIL / max(rgb.shape[:2]))
    if scale < 1:
        size = tuple(max(1, round(n * scale)) for n in rgb.shape[1::-1])
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    _, data = cv2.imencode(".webp", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    return data.tobytes()


def _picture_name(photo: str, method: str) -> str:
    """Names people can read, each its own: letters that not every file system takes are left out, a digest added."""
    digest = hashlib.sha256(f"{photo}\0{method}".encode("utf-8", "surrogatepass")).hexdigest()[:12]
    stem, short = (re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40] for text in (PurePosixPath(photo).stem, method))
    return f"{stem}-{short}-{digest}.webp".lstrip("-")


def _settings_in(folder: Path) -> Any:
    """The settings an earlier run left, None where there was none."""
    try:
        return json.loads((folder / SETTINGS).read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{folder / SETTINGS} is damaged; choose another folder with -o") from error


def _differences(theirs: Any, ours: dict[str, Any]) -> str:
    """What differs, the first few of it."""
    theirs = theirs if isinstance(theirs, dict) else {}
    found = [
        f"{key} was {_short(theirs.get(key))}, is now {_short(ours.get(key))}"
        for key in sorted({*theirs, *ours})
        if theirs.get(key) != ours.get(key)
    ]
    return "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else "none" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def sealed(row: bytes) -> bytes:
    """The line of a row, JSON of an object, which ends with its own digest."""
    return row[:-1] + b',"digest":"%s"}\n' % _digest(row[:-1])


def _digest(row: bytes) -> bytes:
    return hashlib.sha256(row).hexdigest()[:16].encode()


def _whole_rows(path: Path, methods: Iterable[str]) -> dict[str, Row]:
    """The rows of a file. A line that was cut short goes, so that the next one begins where a line begins.

    So does one that is damaged otherwise, as its digest shows, or lacks one of the methods: its photo is done again.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return {}
    wanted = {*methods}
    read = [(line, _row(line, wanted)) for line in lines]
    whole = [(line, row) for line, row in read if row is not None]
    if len(whole) < len(lines):
        damaged = sum(row is None for line, row in read if line.endswith(b"\n"))
        if damaged:  # the end of the last one is cut off where an evaluation was killed, which is as it should be
            what = "1 row was damaged" if damaged == 1 else f"{damaged} rows were damaged"
            warnings.warn(f"{path}: {what}; what they tell is evaluated again", RuntimeWarning, stacklevel=2)
        replace_file(path, b"".join(line for line, _ in whole))
    return {row["image"]: row for _, row in whole}


def _row(line: bytes, methods: set[str]) -> Row | None:
    sealed = _SEALED.fullmatch(line)
    if sealed is None or _digest(sealed[1]) != sealed[2]:
        return None
    try:
        row = json.loads(sealed[1] + b"}")
    except (ValueError, RecursionError):
        return None
    return row if is_row(row) and ("error" in row or methods <= {*row["methods"]}) else None
