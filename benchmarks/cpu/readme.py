"""The tables of README.md, made from results/cpu.json; the prose around them stays."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusioncam.files import replace_file
from fusioncam.runtime.bench.table import cells, duration, megabytes

COLUMNS = ("", "passes", "p50", "p95", "x bare", "peak MB", "added MB", "correlation", "largest diff.", "drop %")
STUDY = (
    "", "passes", "p50", "faster than exact", "Score-CAM: r min / median", "Fusion-CAM: r min / median", "drop %"
)  # fmt: skip


def update(folder: Path, template: Path) -> None:
    """Write README.md and plots/ in `folder` from its results/cpu.json.

    Args:
        folder: Where they go.
        template: README.md where the folder has none yet.
    """
    report = json.loads((folder / "results" / "cpu.json").read_text())
    target = folder / "README.md"
    text = (target if target.exists() else template).read_text()
    replace_file(target, fill(text, sections(report)).encode())
    try:
        from cpu.plots import draw
    except ImportError as error:
        print(f"no plots: {error}")
        return
    draw(report["stages"], folder / "plots")


def fill(text: str, made: dict[str, str]) -> str:
    """Put every section between its markers, `<!-- begin NAME -->` and `<!-- end NAME -->`.

    Raises:
        ValueError: A marker is missing.
    """
    for name, content in made.items():
        pattern = re.compile(rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
        if count != 1:
            raise ValueError(f"README.md holds the markers of {name!r} {count} times, not once")
    return text


def sections(report: dict[str, Any]) -> dict[str, str]:
    """Return the text between the markers by name, for the stages that were run."""
    made = {"machine": machine(report)}
    for name, write in WRITERS.items():
        if figures := report["stages"].get(name, {}).get("figures"):
            left = report["stages"][name]["left_out"]
            made[name] = "\n".join([write(figures), *[""] * bool(left), *(f"- left out: {told(o)}" for o in left)])
    return made


def told(left: dict[str, Any]) -> str:
    """Return a line on one thing that was left out, with the reason."""
    return f"{left['what']}: {left['why']}"


def machine(report: dict[str, Any]) -> str:
    """Return the machine and the date of the result."""
    m, settings = report["machine"], report["settings"]
    tools = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return (
        f"{report['date'][:10]}, {m['processor']}, {m['cores']} cores, {settings['threads']} threads, "
        f"{settings['rounds']} rounds; {tools}."
    )


def table(columns: tuple[str, ...], rows: list[list[str]]) -> str:
    """Return a table in Markdown, the first column left, the others right."""
    head = [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
    return "\n".join(head + [f"| {' | '.join(row)} |" for row in rows])


def peers(figures: list[dict[str, Any]]) -> str:
    """Return a table per network, and below it the packages' other definitions."""
    parts = []
    for figure in figures:
        parts += [f"**{title(figure)}**, chunk {figure['chunk']}", "", table(COLUMNS, list(map(cells, figure["rows"])))]
        parts += ["", *(f"WRONG, {row['name']}: {row['wrong']}\n" for row in figure["rows"] if row["wrong"])]
    notes = {row["name"]: row["note"] for figure in figures for row in figure["rows"] if row["note"]}
    parts += ["| package | what is different from method.md |".replace("method.md", "our definition"), "|---|---|"]
    return "\n".join(parts + [f"| {name} | {note} |" for name, note in notes.items()])


def title(figure: dict[str, Any]) -> str:
    """Return the description of a network in one line."""
    channels, height, width = figure["layer"]
    return f"{figure['subject']}, {figure['weights']} weights, layer {channels} x {height} x {width}"


def budgets(figures: list[dict[str, Any]]) -> str:
    """Return a table per network."""
    parts = []
    for figure in figures:
        rows = [studied(row) for row in figure["rows"] if row["name"] != "bare passes"]
        parts += [f"**{title(figure)}**, {len(figure['pictures'])} pictures", "", table(STUDY, rows), ""]
    return "\n".join(parts).rstrip()


def studied(row: dict[str, Any]) -> list[str]:
    """Return the row of one budget over many pictures."""
    name, passes, p50, *_, drop = cells(row)
    faster = f"{row['speedup']['p50']:.1f} ({row['speedup']['min']:.1f})" if row["speedup"] else ""
    return [name, passes, p50, faster, *(correlation(row, m) for m in ("score_cam", "fusion_cam")), drop]


def correlation(row: dict[str, Any], method: str) -> str:
    """Return the figure of the worst picture, and the median."""
    found = row["methods"].get(method)
    return f"{found['correlation']['min']:.4f} / {found['correlation']['median']:.5f}" if found else ""


def chunks(figures: list[dict[str, Any]]) -> str:
    """Return the milliseconds per pass: a row per network, a column per chunk."""
    sizes = sorted({f["chunk"] for f in figures})
    kinds = dict.fromkeys((f["subject"], f["what"]) for f in figures)
    found = {(f["subject"], f["what"], f["chunk"]): 1e3 * f["per_pass"]["p50"] for f in figures}
    rows = [[f"{name}, {what}", *(f"{found[name, what, size]:.2f}" for size in sizes)] for name, what in kinds]
    return table(("ms per pass, by chunk", *map(str, sizes)), rows)


def channels(figures: list[dict[str, Any]]) -> str:
    """Return time and added memory by the number of channels."""
    names = dict.fromkeys(row["name"] for f in figures for row in f["rows"])
    rows = []
    for name in names:
        found = [next((r for r in f["rows"] if r["name"] == name), None) for f in figures]
        rows.append([name, *("" if r is None else _time_and_memory(r) for r in found)])
    return table(("p50, added MB, by channels", *(str(f["channels"]) for f in figures)), rows)


def _time_and_memory(row: dict[str, Any]) -> str:
    if not row["seconds"]:
        return "WRONG"
    return f"{duration(row['seconds']['p50'])}, {megabytes((row['memory'] or {}).get('added'))}"


def images(figures: list[dict[str, Any]]) -> str:
    """Return the added memory by the number of pictures given at once."""
    counts = tuple(str(f["images"]) for f in figures)
    return table(("pictures", *counts), [["added MB", *(megabytes(f["memory"]["added"]) for f in figures)]])


WRITERS: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "peers": peers, "budgets": budgets, "chunks": chunks, "channels": channels, "images": images
}  # fmt: skip
