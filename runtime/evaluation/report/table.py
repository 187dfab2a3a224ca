"""The table of all figures, a row per photo, target and method."""

import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from fusioncam.runtime.evaluation.store.store import Row
from fusioncam.runtime.tables import REAL, TEXT, TRUTH, WHOLE, Kind, write_table

# Facts about the photo and the target, the same in the rows of all its methods.
_FACTS = {
    "image": TEXT,
    "error": TEXT,
    "height": WHOLE,
    "width": WHOLE,
    "class_index": WHOLE,
    "label": TEXT,
    "probability": REAL,
    "accepted": TEXT,
    "correct": TRUTH,
    "passes": WHOLE,
    "seconds": REAL,
    "problems": TEXT,
    "target": TEXT,
    "title": TEXT,
    "score": REAL,
    "object_size": TEXT,
}


def table_bytes(rows: Iterable[Row], methods: Sequence[str], metrics: Sequence[str], kind: Kind = "csv") -> bytes:
    """Return the bytes of the table. A photo that failed has one row, with its `error` and no method.

    Args:
        rows: The rows of the store.
        methods: In the order of the table.
        metrics: Names of the columns of figures; a missing figure is an empty cell.
        kind: The format. In CSV, a text that begins like a formula gets a quote before it.

    Raises:
        UsageError: Parquet is asked for without pyarrow.
    """
    columns = {**_FACTS, "method": TEXT, "flags": TEXT, "picture": TEXT, **dict.fromkeys(metrics, REAL)}
    file = io.BytesIO()
    write_table(file, _records(rows, methods, metrics), columns, kind)
    return file.getvalue()


def _records(rows: Iterable[Row], methods: Sequence[str], metrics: Sequence[str]) -> Iterator[dict[str, Any]]:
    for row in rows:
        facts = _facts(row)
        if "error" in row:
            yield facts
            continue
        for method in methods:
            of_map = row.get("methods", {}).get(method)
            if of_map is None:
                continue
            figures = {name: of_map.get("metrics", {}).get(name) for name in metrics}
            texts = {"method": method, "flags": " ".join(of_map.get("flags", ())), "picture": of_map.get("picture")}
            yield {**facts, **texts, **{k: None if v is None else float(v) for k, v in figures.items()}}


def _facts(row: Row) -> dict[str, Any]:
    facts = {name: row.get(name) for name in _FACTS}
    facts["height"], facts["width"] = row.get("size") or (None, None)
    facts["passes"] = (row.get("passes") or {}).get("run")
    facts["accepted"] = " ".join(map(str, row.get("accepted") or ()))
    facts["problems"] = "; ".join(row.get("problems") or ())
    return facts
