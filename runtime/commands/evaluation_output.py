"""The result of an evaluation on the terminal: the means, failures and problems."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from fusioncam.runtime.commands import console
from fusioncam.runtime.picture import method_title

ARROWS = {"higher": "↑", "lower": "↓"}
WIDE = 1000  # characters
NAMED = 5  # kinds of failures, and of problems


def print_summary(summary: Mapping[str, Any], report: Path, quiet: bool = False) -> None:
    """Print one line per method, and the path of the report.

    Args:
        summary: By `summarise`.
        report: The report's file.
        quiet: Whether notes are left out.
    """
    photos = summary["photos"]
    if photos["evaluated"]:
        # Only a terminal has an edge: a table that does not fit there goes without intervals; the report has them.
        where = console.out if console.out.is_terminal else Console(width=WIDE, highlight=False)
        whole = _table(summary, intervals=True)
        fits = where.measure(whole, options=where.options.update(width=WIDE)).maximum <= where.width
        where.print(whole if fits else _table(summary, intervals=False))
        targets = sum(group["targets"] for group in summary["targets"])
        each = f", each the mean of its targets ({targets} in all)" if targets > photos["evaluated"] else ""
        around = ", with 95 % bootstrap intervals" if fits else ""
        console.say(f"means over the photos{each}{around}; * is the best mean")
        for line in _caveats(summary):
            console.say(line)
    _complain(((f["image"], f["error"]) for f in summary["failed"]), "failed")
    if not quiet:
        _complain(((p["image"] or "annotations", p["text"]) for p in summary["problems"]), "note")
    console.say(f"{photos['evaluated']} of {photos['all']} photos evaluated; report: {report}")


def _table(summary: Mapping[str, Any], intervals: bool) -> Table:
    metrics = summary["metrics"]
    table = Table("", *(f"{m['label']} {ARROWS[m['better']]}" for m in metrics.values()), box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for method, of_method in summary["methods"].items():
        cells = (_cell(of_method["metrics"][m], method in facts["best"], intervals) for m, facts in metrics.items())
        table.add_row(method_title(method), *cells)
    return table


def _caveats(summary: Mapping[str, Any]) -> Iterator[str]:
    """Yield the numbers of photos that the figures rest on, where that is not all photos."""
    photos, first = summary["photos"], summary["methods"].get(summary["first"], {}).get("metrics", {})
    if photos["annotated"]:
        yield f"top class right: {photos['correct']} of {photos['annotated']} annotated photos"
    for n in sorted({facts["n"] for facts in first.values()} - {photos["evaluated"]}):
        names = ", ".join(m["label"] for name, m in summary["metrics"].items() if first[name]["n"] == n)
        yield f"{names}: on {n} of {photos['evaluated']} photos"


def _complain(pairs: Iterable[tuple[str, str]], kind: str) -> None:
    """Print one line for all photos with the same text; the report names them all."""
    alike: dict[str, list[str]] = {}
    for image, text in pairs:
        alike.setdefault(text, []).append(image)
    for text, images in list(alike.items())[:NAMED]:
        more = f" and {len(images) - 1} more" if len(images) > 1 else ""
        console.complain(f"{images[0]}{more}: {text}", kind)
    if len(alike) > NAMED:
        console.complain(f"{len(alike) - NAMED} more kinds are in the report", kind)


def _cell(facts: Mapping[str, Any], best: bool, interval: bool) -> str:
    if facts["mean"] is None:
        return "-"
    around = "" if facts["low"] is None or not interval else f" ({facts['low']:.3f} to {facts['high']:.3f})"
    return f"{facts['mean']:.3f}{'*' if best else ' '}{around}"
