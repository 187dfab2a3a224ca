"""The results of the zoo as a table of docs/reference/networks.md."""

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.grading import Row, good

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "networks.md"
BEGIN, END = "<!-- made by benchmarks/zoo.py -->\n", "<!-- end -->\n"
HEAD = """
| networks of | tried | files that onnxruntime runs | right | gradient beside autograd, at most | seconds, median |
|---|---|---|---|---|---|
"""
Rows = Mapping[str, Mapping[str, Row]]  # by network and way


def write_page(found: Mapping[str, Any]) -> None:
    """Put the table into its page, between the marks."""
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN, 1)
    _, after = rest.split(END, 1)
    PAGE.write_text(before + BEGIN + table(found) + END + after, encoding="utf-8")


def table(found: Mapping[str, Any]) -> str:
    """Return the table, and a line for each file that is not right."""
    networks: Rows = found["networks"]
    libraries = dict.fromkeys(name.partition("/")[0] for name in networks)
    lines = [
        _line(library, {n: r for n, r in networks.items() if n.startswith(f"{library}/")}) for library in libraries
    ]
    wrong = [
        f"- {name} ({way}): {_reason(row)}"
        for name, rows in networks.items() for way, row in rows.items() if row["runs"] and not good(row)
    ]  # fmt: skip
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    told = ["", "Not right:", "", *wrong] if wrong else ["", "None is wrong or refused."]
    return f"\n{found['date']}, by {versions}.\n" + HEAD + "\n".join([*lines, *told]) + "\n\n"


def _line(library: str, networks: Rows) -> str:
    run = [row for rows in networks.values() for row in rows.values() if row["runs"]]
    right = [row for row in run if good(row)]
    errors = [row["autograd_error"] for row in run if row.get("autograd_error") is not None]
    seconds = [row["seconds"] for row in right if "seconds" in row]
    worst = f"{max(errors):.0e} (n = {len(errors)})" if errors else ""
    middle = f"{statistics.median(seconds):.1f}" if seconds else ""
    return f"| {library} | {len(networks)} | {len(run)} | {len(right)} | {worst} | {middle} |"


def _reason(row: Row) -> str:
    why = row.get("refused") or row.get("fault") or ", ".join(row.get("failed", ())) or "the gradient is zero"
    return str(why).replace("\n", " ")
