"""Tables as CSV, or as Parquet where pyarrow is installed; written row by row, so that they may be long."""

import csv
import importlib
import io
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, BinaryIO, Literal

from fusioncam.errors import UsageError

Kind = Literal["csv", "parquet"]
KINDS: tuple[Kind, ...] = ("csv", "parquet")

TEXT, REAL, WHOLE, TRUTH = "string", "float64", "int64", "bool_"  # names of pyarrow's types
_FORMULA = "=+-@\t\r"  # first characters of a cell that spreadsheets calculate (OWASP, "CSV Injection")
_GROUP = 10_000  # rows of Parquet that are in memory


def checked_kind(name: str) -> Kind:
    """Return the kind of table of this name, after a look at the packages that it needs.

    Raises:
        UsageError: There is no such kind, or pyarrow is not installed.
    """
    if name not in KINDS:
        raise UsageError(f"no table {name!r}; use {' or '.join(KINDS)}")
    if name == "parquet":
        require_parquet()
    return next(kind for kind in KINDS if kind == name)


def require_parquet() -> Any:
    """Return the Parquet module of pyarrow; raise UsageError, before any work, where it is not installed."""
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise UsageError('Parquet needs pyarrow: pip install "fusioncam[parquet]", or take CSV') from error


def write_table(file: BinaryIO, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], kind: Kind) -> None:
    """Write a table.

    Args:
        file: Open for writing bytes.
        rows: By column; a missing figure is an empty cell.
        columns: The type of each column: TEXT, REAL, WHOLE or TRUTH.
        kind: The format. In CSV, a text that begins like a formula gets a quote before it.

    Raises:
        UsageError: Parquet is asked for without pyarrow.
    """
    if kind == "csv":
        _write_csv(file, rows, columns)
    else:
        _write_parquet(file, rows, columns)


def _write_csv(file: BinaryIO, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    # A file name that is not UTF-8 holds lone surrogates.
    text = io.TextIOWrapper(file, "utf-8", "backslashreplace", newline="")
    writer = csv.DictWriter(text, list(columns), lineterminator="\r\n")
    writer.writeheader()
    texts = {name for name, kind in columns.items() if kind == TEXT}
    writer.writerows({k: _inert(v) if k in texts else v for k, v in row.items()} for row in rows)
    text.flush()
    text.detach()


def _inert(text: str | None) -> str | None:
    """Return a text that no spreadsheet runs as a formula: files and labels may have any name."""
    return f"'{text}" if text and text[0] in _FORMULA else text


def _write_parquet(file: BinaryIO, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> None:
    parquet = require_parquet()
    arrow: Any = importlib.import_module("pyarrow")
    schema = arrow.schema([(name, getattr(arrow, kind)()) for name, kind in columns.items()])
    with parquet.ParquetWriter(file, schema) as writer:
        left = iter(rows)
        while group := list(islice(left, _GROUP)):
            clean = [{k: _utf8(v) if isinstance(v, str) else v for k, v in row.items()} for row in group]
            writer.write_table(arrow.Table.from_pylist(clean, schema=schema))


def _utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
