"""An evaluation on the terminal: the means, and what went wrong."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from fusioncam.runtime import console
from fusioncam.runtime.picture import method_title

ARROWS = {"higher": "↑", "lower": "↓"}
NAMED = 5  # photos that failed, and problems


def print_summary(summary: Mapping[str, Any], report: Path) -> None:
    """Print one line per method, and where the rest is to be found.

    Args:
        summary: By `summarise`.
        report: The report's file.
    """
    metrics, photos = summary["metrics"], summary["photos"]
    if photos["evaluated"]:
        table = Table("", *(f"{m['label']} {ARROWS[m['better']]}" for m in metrics.values()), box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for method, found in summary["methods"].items():
            cells = (_cell(found["metrics"][m], method in facts["best"]) for m, facts in metrics.items())
            table.add_row(method_title(method), *cells)
        console.out.print(table)
        console.say("means over the photos, with 95 % bootstrap intervals; * is the best mean")
    for failed in summary["failed"][:NAMED]:
        console.complain(f"{failed['image']}: {failed['error']}", "failed")
    for problem in summary["problems"][:NAMED]:
        console.complain(f"{problem['image'] or 'annotations'}: {problem['text']}", "note")
    more = max(0, len(summary["failed"]) - NAMED) + max(0, len(summary["problems"]) - NAMED)
    if more:
        console.complain(f"{more} more are named in the report", "note")
    console.say(f"{photos['evaluated']} of {photos['all']} photos evaluated; report: {report}")


def _cell(facts: Mapping[str, Any], best: bool) -> str:
    if facts["mean"] is None:
        return "-"
    around = "" if facts["low"] is None else f" ({facts['low']:.3f} to {facts['high']:.3f})"
    return f"{facts['mean']:.3f}{'*' if best else ' '}{around}"
