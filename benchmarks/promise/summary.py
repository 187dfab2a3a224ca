"""Figures of many runs, by model and by half, and their tables."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cpu.readme import table

FAR = 5  # times the promise
UNLIKE = 0.98  # r below it must be flagged
HALVES = {True: "fitted", False: "held out"}

COLUMNS = (
    "", "n", "over, %", "over 5 times, %", "mean error", "worst", "r, worst", "r, worst not flagged", "flagged, %",
    "expected / true", "exact, %", "gain", "gain, top",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One explanation with a budget, held against the exact map.

    Attributes:
        subject: Name of the model.
        fitted: Whether constants may be chosen by the model.
        layer: `last` or `middle`.
        picture: Its name.
        classes: The classes explained together, in words.
        budget: The budget, in words.
        error: 1 - r^2 of Score-CAM against the exact map, of the worst class.
        r: The least correlation of all classes.
        expected: The error that the result expects.
        promised: The tolerance; where the result is flagged as not settled, the error that it expects.
        surprise: As `Passes` has it.
        flagged: Whether the result says that the budget ended too early.
        missing: Share of the softmax weight that is guessed.
        passes: Masked passes run for Fusion-CAM.
        exact: Passes of the exact explanation.
    """

    subject: str
    fitted: bool
    layer: str
    picture: str
    classes: str
    budget: str
    error: float
    r: float
    expected: float
    promised: float
    surprise: float
    flagged: bool
    missing: float
    passes: int
    exact: int


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the figures of some runs."""
    errors, promised = np.array([r.error for r in runs]), np.array([r.promised for r in runs])
    guessed = [r for r in runs if r.missing > 0]
    silent = [r.r for r in runs if not r.flagged]
    tops = [r.exact / r.passes for r in runs if (r.classes, r.layer) == ("top", "last")]
    medians = [float(np.median(of)) for of in ([r.expected for r in guessed], [r.error for r in guessed]) if of]
    return {
        "n": len(runs),
        "over": float(np.mean(errors > promised)),
        "far_over": float(np.mean(errors > FAR * promised)),
        "mean_error": float(errors.mean()),
        "worst_error": float(errors.max()),
        "worst_r": min(r.r for r in runs),
        "worst_r_not_flagged": min(silent, default=None),
        "unlike_not_flagged": sum(r < UNLIKE for r in silent),
        "flagged": float(np.mean([r.flagged for r in runs])),
        "expected_to_true": medians[0] / medians[1] if medians and medians[1] else None,
        "all_passed": float(np.mean([r.missing == 0 for r in runs])),
        "gain": float(np.median([r.exact / r.passes for r in runs])),
        "gain_top": float(np.median(tops)) if tops else None,
    }


def grouped(runs: Iterable[Run], *by: Callable[[Run], str]) -> dict[str, Any]:
    """Return the figures of runs in groups within groups."""
    if not by:
        return summarise(list(runs))
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(by[0](run), []).append(run)
    return {name: grouped(of, *by[1:]) for name, of in groups.items()}


def report(runs: Sequence[Run]) -> dict[str, Any]:
    """Return all figures: of each half by budget, kind of classes and layer, and of each model."""
    half, budget = lambda r: HALVES[r.fitted], lambda r: r.budget
    return {
        "halves": grouped(runs, budget, half),
        "classes": grouped(runs, budget, half, lambda r: f"{r.classes}, {r.layer} layer"),
        "models": grouped(runs, budget, half, lambda r: r.subject),
    }


def row(name: str, of: Mapping[str, Any]) -> list[str]:
    """Return the cells of some figures."""
    cell = lambda value, form: "" if value is None else format(value, form)  # noqa: E731
    return [
        name, str(of["n"]), f"{100 * of['over']:.1f}", f"{100 * of['far_over']:.1f}", f"{of['mean_error']:.1e}",
        f"{of['worst_error']:.1e}", f"{of['worst_r']:.4f}", cell(of["worst_r_not_flagged"], ".4f"),
        f"{100 * of['flagged']:.0f}", cell(of["expected_to_true"], ".2g"), f"{100 * of['all_passed']:.0f}",
        f"{of['gain']:.1f}", cell(of["gain_top"], ".1f"),
    ]  # fmt: skip


def tables(figures: Mapping[str, Any], detailed: Sequence[str]) -> str:
    """Return the tables in Markdown: the halves for every budget, models and classes for those named."""
    halves = [
        row(f"{budget}, {half}", of)
        for budget, of_halves in figures["halves"].items()
        for half, of in of_halves.items()
    ]
    parts = [table(COLUMNS, halves)]
    for budget in detailed:
        for half, of_models in figures["models"].get(budget, {}).items():
            parts += [f"**{budget}, {half} models**", table(COLUMNS, [row(*item) for item in of_models.items()])]
        if of_classes := figures["classes"].get(budget, {}).get(HALVES[False]):
            parts += [f"**{budget}, held-out models, by classes and layer**"]
            parts += [table(COLUMNS, [row(*item) for item in of_classes.items()])]
    return "\n\n".join(parts)
