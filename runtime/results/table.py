"""The table of results: a row for each explanation, and for each photo that failed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fusioncam.output import write_together
from fusioncam.runtime.results.earlier import Record
from fusioncam.runtime.results.run import Outcome
from fusioncam.runtime.tables import REAL, TEXT, WHOLE, Kind, write_table

NAME = "explanations"
COLUMNS = {
    "image": TEXT,
    "error": TEXT,
    "class_index": WHOLE,
    "label": TEXT,
    "target": TEXT,
    "probability": REAL,
    "x1": REAL,
    "y1": REAL,
    "x2": REAL,
    "y2": REAL,
    "anchor": WHOLE,
    "layer": TEXT,
    "versus": WHOLE,
    "passes": WHOLE,
    "channels": WHOLE,
    "estimated_error": REAL,
    "seconds": REAL,
    "flags": TEXT,
    "verdict": TEXT,
    "maps": TEXT,
    "picture": TEXT,
}


class ResultTable:
    """Writes the table of a folder, in the order of the photos.

    Until then it keeps little of each photo: the records are read again from their files.

    Args:
        folder: The folder of the results.
        kind: The format.
    """

    def __init__(self, folder: Path, kind: Kind) -> None:
        self.path, self._kind = folder / f"{NAME}.{kind}", kind
        self._photos: dict[int, tuple[str, str | None, Sequence[str]]] = {}

    def add(self, outcome: Outcome) -> None:
        """Take what became of a photo."""
        records = [str(record["maps"]).removesuffix(".npz") for record in outcome.records]
        self._photos[outcome.number] = outcome.photo.shown_name, outcome.error and outcome.error[1], records

    def write(self) -> None:
        """Write the table, whole or not at all; raise OutputError where it cannot be written."""
        write_together([(self.path, partial(write_table, rows=self._rows(), columns=COLUMNS, kind=self._kind))])

    def _rows(self) -> Iterator[dict[str, Any]]:
        for number in sorted(self._photos):
            image, error, records = self._photos[number]
            if error is not None:
                yield {"image": image, "error": error}
            for stem in records:
                yield {"image": image, **_row(stem, json.loads(Path(f"{stem}.json").read_bytes()))}


def _row(stem: str, record: Record) -> dict[str, Any]:
    passes: Mapping[str, Any] = record["passes"]
    target: Mapping[str, Any] = record.get("target", {})
    # A sum of several detections has no place of its own.
    (only,) = target["detections"] if len(target.get("detections", ())) == 1 else [{}]
    return {
        **{name: record.get(name) for name in ("class_index", "label", "probability", "layer")},
        "target": target.get("title"),
        **dict(zip(("x1", "y1", "x2", "y2"), only.get("box", [None] * 4), strict=True)),
        "anchor": only.get("anchor"),
        "maps": f"{stem}.npz",
        # The folder may have been moved since, and detections of a photo share a panel.
        "picture": str(Path(stem).with_name(Path(record["picture"]).name)) if "picture" in record else None,
        "versus": record.get("versus", {}).get("class_index"),
        "passes": passes["run"],
        "channels": passes["channels"],
        "estimated_error": passes["error"],
        "seconds": sum(record["timing_seconds"].values()),
        "flags": " ".join(record["flags"]),
        "verdict": record.get("verdict", {}).get("name"),
    }
