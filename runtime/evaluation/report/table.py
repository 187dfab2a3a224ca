"""The table of all figures, a row per photo and method: CSV, or Parquet where pyarrow is installed."""

import csv
import importlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from fusioncam.errors import UsageError
from fusioncam.runtime.evaluation.store.store import Row

Kind = Literal["csv", "parquet"]
KINDS: tuple[Kind, ...] = ("csv", "parquet")

_TEXT, _REAL, _WHOLE, _TRUTH = "string", "float64", "int64", "bool_"  # names of pyarrow's types
_FORMULA = "=+-@\t\r"  # first characters of a cell that spreadsheets calculate (OWASP, "CSV Injection")
# Facts about the photo, the same in the rows of all its methods.
_FACTS = {
    "image": _TEXT,
    "error": _TEXT,
    "height": _WHOLE,
    "width": _WHOLE,
    "class_index": _WHOLE,
    "label": _TEXT,
    "probability": _REAL,
    "accepted": _TEXT,
    "correct": _TRUTH,
    "passes": _WHOLE,
    "seconds": _REAL,
    "problems": _TEXT,
}


def require_parquet() -> Any:
    """Return the Parquet module of pyarrow; raise UsageError, before any work, where it is not installed."""
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError('Parquet needs pyarrow: pip install "fusioncam[parquet]", or take CSV') from error


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
    columns = {**_FACTS, "method": _TEXT, "flags": _TEXT, "picture": _TEXT, **dict.fromkeys(metrics, _REAL)}
    records = _records(rows, methods, metrics)
    return _csv(records, columns) if kind == "csv" else _parquet(records, columns)


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


def _csv(records: Iterable[dict[str, Any]], columns: dict[str, str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), lineterminator="\r\n")
    writer.writeheader()
    texts = {name for name, kind in columns.items() if kind == _TEXT}
    writer.writerows({k: _inert(v) if k in texts else v for k, v in record.items()} for record in records)
    # A file name that is not UTF-8 holds lone surrogates.
    return text.getvalue().encode("utf-8", "backslashreplace")


def _inert(text: str | None) -> str | None:
    """Return a text that no spreadsheet runs as a formula: files and labels may have any name."""
    return f"'{text}" if text and text[0] in _FORMULA else text


def _parquet(records: Iterable[dict[str, Any]], columns: dict[str, str]) -> bytes:
    parquet = require_parquet()
    arrow: Any = importlib.import_module("pyarrow")
    schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in columns.items()])
    clean = [{k: _utf8(v) if isinstance(v, str) else v for k, v in record.items()} for record in records]
    sink = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(clean, schema=schema), sink)
    return sink.getvalue()


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
