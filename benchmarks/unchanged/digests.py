"""Digests by name, and the removal of what differs from run to run."""

import csv
import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np

TIMED_KEY = re.compile(r"second|timing|elapsed|_ns$|^digest$")  # `digest` seals a line of rows.jsonl, its seconds too
TIMED_TEXT = re.compile(r"\d+(?:\.\d+)?(?:e-?\d+)?[ \u00a0]?(?:ms|s|min)\b")


def digest(value: Any) -> str:
    """Return the sha256 of bytes, a text, an array (with type and shape), or anything that JSON holds."""
    if isinstance(value, bytes):
        data = value
    elif isinstance(value, np.ndarray):
        raw = repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes()
        data = f"{value.dtype} {value.shape} ".encode() + raw
    else:
        data = (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).encode()
    return hashlib.sha256(data).hexdigest()


def untimed(value: Any) -> Any:
    """Return JSON values without the members that hold times, at any depth."""
    if isinstance(value, dict):
        return {k: untimed(v) for k, v in value.items() if not TIMED_KEY.search(k)}
    return [untimed(v) for v in value] if isinstance(value, list | tuple) else value


def untimed_text(text: str) -> str:
    """Return a text with every duration written as T."""
    return TIMED_TEXT.sub("T", text)


def page_content(html: str) -> str:
    """Return HTML with characters for entities and without the white space that no browser shows."""
    return re.sub(r" ?(<[^>]*>) ?", r"\1", re.sub(r"\s+", " ", unescape(html)))


def keys(value: Any) -> Any:
    """Return the names of members alone, at any depth; of a list, those of its first entry."""
    if isinstance(value, dict):
        return {k: keys(v) for k, v in value.items()}
    return [keys(v) for v in value[:1]] if isinstance(value, list) else type(value).__name__


class Digests:
    """Digests by name, in the order of their making.

    Args:
        work: The temporary folder, whose path is taken out of all texts.
    """

    def __init__(self, work: Path) -> None:
        self.values: dict[str, str] = {}
        self._work = str(work)

    def add(self, name: str, value: Any) -> None:
        """Add the digest of a value; a name given twice is a mistake of this script."""
        if name in self.values:
            raise KeyError(f"{name} is there already")
        self.values[name] = digest(self.clean(value) if isinstance(value, str) else value)

    def clean(self, text: str) -> str:
        """Return a text without the path of the temporary folder."""
        return text.replace(self._work, "WORK")

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Go on where a part raises: the error stands in place of a digest."""
        try:
            yield
        except Exception as error:  # whatever it is, the other parts are still worth having
            self.values[name] = self.clean(f"error: {type(error).__name__}: {error}")
            print(f"{name}: {self.values[name]}", file=sys.stderr, flush=True)

    def add_error(self, name: str, error: Exception) -> None:
        """Add class and text of an error apart: texts may be edited, classes may not."""
        print(f"{name}: refused: {self.clean(str(error))}", file=sys.stderr, flush=True)
        self.add(f"{name}/class", type(error).__name__)
        self.add(f"{name}/text", str(error))

    def add_refusal(self, name: str, call: Callable[[], Any]) -> None:
        """Add the error that a call must raise."""
        try:
            call()
        except Exception as error:
            self.add_error(name, error)
        else:
            raise ValueError(f"{name} raises nothing: it is no refusal")

    def add_explanation(self, name: str, explanation: Any) -> None:
        """Add the maps, logits and facts of an Explanation, times left out."""
        for method, found in explanation.maps.items():
            self.add(f"{name}/{method}", found)
        self.add(f"{name}/logits", explanation.logits)
        stages = list(explanation.timing)
        self.add(f"{name}/facts", [untimed(explanation.summary()), stages, explanation.photo_size])

    def add_folder(self, name: str, folder: Path) -> None:
        """Add every file of a folder: JSON and texts without times, an .npz array by array, others as they are."""
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            self.add_file(f"{name}/{path.relative_to(folder).as_posix()}", path)

    def add_file(self, name: str, path: Path) -> None:
        """Add one file; see `add_folder`."""
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                for key in arrays.files:
                    self.add(f"{name}/{key}", arrays[key])
        elif path.suffix == ".json":
            self.add(name, self.clean(json.dumps(untimed(json.loads(path.read_text())))))
        elif path.suffix == ".jsonl":
            lines = [untimed(json.loads(line)) for line in path.read_text().splitlines()]
            self.add(name, self.clean(json.dumps(lines)))
        elif path.suffix == ".csv":
            with path.open(newline="") as lines:
                self.add(name, self.clean(json.dumps(untimed(list(csv.DictReader(lines))))))
        elif path.suffix == ".html":
            self.add(name, untimed_text(page_content(path.read_text())))
        else:
            self.add(name, path.read_bytes())
