"""All figures as one table, a row per photo and method: CSV, or Parquet where pyarrow is installed."""

import csv
import importlib
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from fusioncam.errors import UsageError
from fusioncam.runtime.evaluation.store.store import Row

Kind = Literal["csv", "parquet"]
KINDS: tuple[Kind, ...] = ("csv", "parquet")

_TEXT, _REAL, _WHOLE, _TRUTH = "string", "float64", "int64", "bool_"  # the names of pyarrow's types
_FORMULA = "=+-@\t\r"  # how a cell begins that is calculated (OWASP, "CSV Injection")
# Of the photo, and so the same in the rows of all its methods.
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
    """The Parquet module of pyarrow, to be asked for before the work begins; raises UsageError where there is none."""
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError('Parquet needs pyarrow: pip install "fusioncam[parquet]", or take CSV') from error


def table_bytes(rows: Iterable[Row], methods: Sequence[str], metrics: Sequence[str], kind: Kind = "csv") -> bytes:
    """The table's file. A photo that failed has one row, with its `error` and no method.

    Args:
        rows: As the store keeps them.
        methods: In the order wanted.
        metrics: Names of the columns of figures; a figure that is missing is left empty.
        kind: What it is written as. In CSV, a text that begins as a formula does gets a quote before it.

    Raises:
        UsageError: Parquet without pyarrow.
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
            found = row.get("methods", {}).get(method)
            if found is None:
                continue
            figures = {name: found.get("metrics", {}).get(name) for name in metrics}
            kept = {"method": method, "flags": " ".join(found.get("flags", ())), "picture": found.get("picture")}
            yield {**facts, **kept, **{k: None if v is None else float(v) for k, v in figures.items()}}


def _facts(row: Row) -> dict[str, Any]:
    height, width = row.get("size") or (None, None)
    return {
        **{
            name: row.get(name)
            for name in ("image", "error", "class_index", "label", "probability", "correct", "seconds")
        },
        **{"height": height, "width": width, "passes": (row.get("passes") or {}).get("run")},
        "accepted": " ".join(map(str, row.get("accepted") or ())),
        "problems": "; ".join(row.get("problems") or ()),
    }


def _csv(records: Iterable[dict[str, Any]], columns: dict[str, str]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(columns), lineterminator="\r\n")
    writer.writeheader()
    texts = {name for name, kind in columns.items() if kind == _TEXT}
    writer.writerows({k: _inert(v) if k in texts else v for k, v in record.items()} for record in records)
    # A file name that is not UTF-8 holds lone surrogates.
    return text.getvalue().encode("utf-8", "backslashreplace")


def _inert(text: str | None) -> str | None:
    """A text that no spreadsheet takes for a formula, which may run programs: files and labels are called anything."""
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
