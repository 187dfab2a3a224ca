"""The plots of README.md, made from results/cpu.json."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

OURS, THEIRS, BARE = "#1f6feb", "#a8b1bd", "#57606a"
COLORS = ("#1f6feb", "#d1570b", "#1a7f37", "#8250df", "#bf3989")
STYLE = {
    "figure.facecolor": "white", "axes.facecolor": "white", "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#8c959f", "axes.labelcolor": "#24292f", "xtick.color": "#57606a", "ytick.color": "#57606a",
    "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left", "font.size": 9,
    "axes.grid": True, "grid.color": "#eaeef2", "axes.axisbelow": True, "savefig.dpi": 130, "savefig.bbox": "tight",
}  # fmt: skip


def draw(stages: dict[str, Any], folder: Path) -> None:
    """Write a PNG for every stage that was run and has a plot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, plot in PLOTS.items():
        if figures := stages.get(name, {}).get("figures"):
            with plt.rc_context(STYLE):
                drawn = plot(figures)
                drawn.savefig(folder / f"{name}.png")
                plt.close(drawn)


def color(name: str) -> str:
    """Return the colour of a candidate's bar."""
    return OURS if name.startswith("fusioncam") else BARE if name.startswith("bare") else THEIRS


def peers(figures: list[dict[str, Any]]) -> Any:
    """Draw time and peak memory as bars, a row of panels per network."""
    counts = [len([r for r in f["rows"] if r["seconds"]]) for f in figures]
    drawn, grid = plt.subplots(
        len(figures), 2, figsize=(10, 0.32 * sum(counts) + 0.9 * len(figures)), squeeze=False, layout="constrained",
        sharey="row", gridspec_kw={"height_ratios": counts},
    )  # fmt: skip
    for figure, (left, right) in zip(figures, grid, strict=True):
        rows = [row for row in figure["rows"] if row["seconds"]][::-1]
        bars(left, rows, [row["seconds"]["p50"] for row in rows], seconds_label)
        bars(right, rows, [((row["memory"] or {}).get("peak") or 0) / 1e6 for row in rows], lambda mb: f"{mb:.0f} MB")
        left.set(title=f"{figure['subject']}: {figure['layer'][0]} channels", xlabel="seconds, median")
        right.set(title="peak memory of the process", xlabel="MB")
    return drawn


def bars(axes: Axes, rows: list[dict[str, Any]], values: list[float], label: Callable[[float], str]) -> None:
    """Draw horizontal bars with their values behind them."""
    drawn = axes.barh([row["name"] for row in rows], values, color=[color(row["name"]) for row in rows], height=0.7)
    axes.bar_label(drawn, [label(v) if v else "" for v in values], padding=3, color="#24292f")
    axes.set_xlim(0, 1.18 * max(values))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def seconds_label(seconds: float) -> str:
    """Return a time in few characters."""
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms"


def budgets(figures: list[dict[str, Any]]) -> Any:
    """Draw the time over exact, and each Score-CAM's difference from exact, by the share of passes that are run."""
    drawn, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    left.plot([0, 100], [0, 100], ":", color=BARE, linewidth=1)
    for figure, shade in zip(figures, COLORS, strict=False):
        exact = next(row for row in figure["rows"] if row["name"] == "fusioncam exact")
        ours = [row for row in figure["rows"] if row["name"].startswith("fusioncam") and row["seconds"]]
        rows = sorted((r for r in ours if "int8" not in r["name"]), key=lambda row: sum(row["passes"]))
        shares = [100 * sum(row["passes"]) / sum(exact["passes"]) for row in rows]
        times = [100 / row["speedup"]["p50"] for row in rows]
        far = [[max(1 - r, 1e-7) for r in row["methods"]["score_cam"]["correlations"]] for row in rows]
        middle = [sorted(off)[len(off) // 2] for off in far]
        left.plot(shares, times, "o-", color=shade, markersize=4, label=short(figure["subject"]))
        right.plot(shares, middle, "-", color=shade, linewidth=1, label=short(figure["subject"]))
        for share, off in zip(shares, far, strict=True):
            right.plot([share] * len(off), off, "o", color=shade, markersize=3, alpha=0.4)
        where = next((i for i, row in enumerate(rows) if row["name"] == "fusioncam auto"), None)
        for axes, y in ((left, times), (right, middle)) if where is not None else ():
            axes.plot(shares[where], y[where], "o", markersize=9, markerfacecolor="none", markeredgecolor=shade)
    left.set(title="time (circle: auto)", xlabel="masked passes run, % of exact", ylabel="time, % of exact, median")
    left.set(xlim=(0, 104), ylim=(0, None))
    right.set(
        title="distance of each picture's map from exact, and median", xlabel="masked passes run, % of exact",
        ylabel="1 - correlation of Score-CAM", yscale="log", xlim=(0, 104), ylim=(5e-8, 1),
    )  # fmt: skip
    left.legend(frameon=False, loc="upper left")
    return drawn


def short(name: str) -> str:
    """Return a network's name up to the first _."""
    return name.split("_")[0]


def chunks(figures: list[dict[str, Any]]) -> Any:
    """Draw the time per pass by chunk, over that of chunk 8 or the smallest."""
    drawn, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    kinds = list(dict.fromkeys((f["subject"], f["what"]) for f in figures))
    for (name, what), shade in zip(kinds, COLORS * 2, strict=False):
        found = sorted((f["chunk"], f["per_pass"]) for f in figures if (f["subject"], f["what"]) == (name, what))
        x, y = [c for c, _ in found], [1e3 * s["p50"] for _, s in found]
        axes.plot(x, y, "o-" if what == "bare" else "s--", color=shade, markersize=4)
        axes.fill_between(
            x, [1e3 * s["min"] for _, s in found], [1e3 * s["max"] for _, s in found], color=shade, alpha=0.12
        )
        label = f"{short(name)}, {what}" if (name, "exact") in kinds else short(name)
        axes.annotate(label, (x[-1], y[-1]), xytext=(6, -3), textcoords="offset points", color=shade)
    sizes = sorted({f["chunk"] for f in figures})
    axes.set(title="time per masked pass", xlabel="pictures per run (chunk)", ylabel="milliseconds, median and range")
    axes.set(xscale="log", yscale="log", xlim=(sizes[0] / 1.15, sizes[-1] * 3))
    axes.set_xticks(sizes, map(str, sizes))
    plain_numbers(axes)
    return drawn


def channels(figures: list[dict[str, Any]]) -> Any:
    """Draw time and added memory by the number of channels."""
    drawn, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    names = list(dict.fromkeys(row["name"] for f in figures for row in f["rows"]))
    for name in names:
        found = [(f["channels"], row) for f in figures for row in f["rows"] if row["name"] == name and row["seconds"]]
        line(left, name, [(k, row["seconds"]["p50"]) for k, row in found])
        line(right, name, [(k, row["memory"]["added"] / 1e6) for k, row in found if (row["memory"] or {}).get("added")])
    ticks = [f["channels"] for f in figures]
    for axes, title, unit in ((left, "time", "seconds, median"), (right, "memory over the loaded model", "MB, peak")):
        axes.set(title=title, xlabel="channels of the layer", ylabel=unit, xscale="log", yscale="log")
        axes.set_xlim(ticks[0] / 1.2, ticks[-1] * 12)
        axes.set_xticks(ticks, map(str, ticks))
        plain_numbers(axes)
    return drawn


def plain_numbers(axes: Axes) -> None:
    """Make the y axis logarithmic, with ticks at 0.2, 0.5, 1 ..., and remove the small ticks of x."""
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")


def line(axes: Axes, name: str, points: list[tuple[int, float]]) -> None:
    """Draw a line with its name at its end."""
    if points:
        axes.plot(*zip(*points, strict=True), "o-", color=color(name), markersize=4)
        # Bare passes below their end, ours above: they may come to the same.
        nudge = -11 if color(name) == BARE else 4
        axes.annotate(name, points[-1], xytext=(6, nudge), textcoords="offset points", color=color(name))


PLOTS: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "peers": peers, "budgets": budgets, "chunks": chunks, "channels": channels
}  # fmt: skip
