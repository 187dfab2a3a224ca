"""The summary of all rows, which `summary.json` holds and the report shows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from fusioncam.kernels.arrays import Float64Array
from fusioncam.output import plain
from fusioncam.runtime.evaluation.annotations import Problem
from fusioncam.runtime.evaluation.metrics.catalogue import SIZES, Metric
from fusioncam.runtime.evaluation.statistics import Mean, means, paired
from fusioncam.runtime.evaluation.store.store import Row

CURVES = ("insertion", "deletion")
POINTS = 51  # of a mean curve
CURVE_RESAMPLES = 500  # a band needs no third digit


_NOTHING: Mapping[str, Any] = {}

Photos: TypeAlias = Sequence[Sequence[Row]]
"""The rows of each photo, one per target: a photo counts once, by the mean over its targets."""


def summarise(
    rows: Sequence[Row],
    methods: Sequence[str],
    metrics: Mapping[str, Metric],
    about: Mapping[str, Any] | None = None,
    problems: Iterable[Problem] = (),
) -> dict[str, Any]:
    """Return means with 95 % intervals, paired differences from the first method, mean curves, and all problems.

    Args:
        rows: The rows of the store, those of photos that failed included.
        methods: In the order of the report; the others are compared with the first.
        metrics: By their names in the rows; a metric without any value is left out.
        about: Facts about the run: model, layer, budget, versions.
        problems: Problems of the annotations; those of a photo are in its row.

    Returns:
        Plain values, ready for JSON; NaN is None.
    """
    done = [row for row in rows if "error" not in row]
    photos = _by(done, "image")
    columns = {m: {method: _column(photos, method, m) for method in methods} for m in metrics}
    columns = {
        m: by_method for m, by_method in columns.items() if any(np.isfinite(c).any() for c in by_method.values())
    }
    mean_of = means({(m, method): c for m, of_metric in columns.items() for method, c in of_metric.items()})
    averages = {m: {method: mean_of[m, method] for method in of_metric} for m, of_metric in columns.items()}
    judged = [row["correct"] for row in done if row.get("correct") is not None]
    differences, curves = _against_first(columns, methods, metrics), _mean_curves(photos, methods)
    summary = {
        "about": dict(about or {}),
        "photos": {
            "all": len(_by(rows, "image")),
            "evaluated": len(photos),
            "failed": len(rows) - len(done),
            "annotated": len(judged),
            "correct": sum(judged),
        },
        "metrics": {m: _about(metrics[m], averages[m]) for m in columns},
        "methods": {
            method: {
                "metrics": {m: averages[m][method]._asdict() for m in columns},
                "against_first": differences[method],
                "flags": _flags(photos, method),
                "curves": curves[method],
            }
            for method in methods
        },
        "targets": [_of_group(group, "title", methods, list(columns)) for group in _by(done, "title")],
        "sizes": [
            _of_group(group, "object_size", methods, list(columns))
            for group in sorted(_by(done, "object_size"), key=_area)
            if group[0].get("object_size")
        ],
        "first": methods[0] if methods else None,
        "problems": [problem._asdict() for problem in (*problems, *_in_rows(done))],
        "failed": [{"image": row["image"], "error": row["error"]} for row in rows if "error" in row],
    }
    return dict(plain(summary))


def _against_first(
    columns: Mapping[str, Mapping[str, Float64Array]], methods: Sequence[str], metrics: Mapping[str, Metric]
) -> dict[str, dict[str, Any]]:
    """Return the paired differences from the first method, by method and metric."""
    differences: dict[str, dict[str, Any]] = {method: {} for method in methods}
    for m, values in columns.items():
        for pair in paired(values, metrics[m].better, [(method, methods[0]) for method in methods[1:]]):
            facts = {**pair.difference._asdict(), "won": pair.won, "tied": pair.tied, "settled": pair.settled}
            facts["difference"] = facts.pop("mean")
            differences[pair.first][m] = facts
    return differences


def _of(row: Row, method: str) -> Mapping[str, Any]:
    of_map: Mapping[str, Any] = row.get("methods", _NOTHING).get(method) or _NOTHING
    return of_map


def _by(rows: Iterable[Row], fact: str) -> list[list[Row]]:
    """Return the rows that share a fact, each group in the place of its first."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.get(fact), []).append(row)
    return list(groups.values())


def _column(photos: Photos, method: str, metric: str) -> Float64Array:
    """Return the values of photos (n,), each the mean over the targets that have one."""
    return np.array([_mean(rows, method, metric) for rows in photos])


def _mean(rows: Iterable[Row], method: str, metric: str) -> float:
    values = [_of(row, method).get("metrics", _NOTHING).get(metric) for row in rows]
    known = [float(v) for v in values if v is not None]
    return sum(known) / len(known) if known else np.nan


def _flags(photos: Photos, method: str) -> dict[str, int]:
    """Return the number of photos that raise a flag, by flag."""
    return dict(
        Counter(f for rows in photos for f in {f: 0 for row in rows for f in _of(row, method).get("flags", ())})
    )


def _area(group: Sequence[Row]) -> int:
    """Return the place of a group of rows of one size of objects among all sizes."""
    size = group[0].get("object_size")
    return [*SIZES, size].index(size)


def _of_group(rows: Sequence[Row], fact: str, methods: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """Return the numbers of targets of a group and of their photos, and the means by method and metric."""
    means_of = {method: {m: _mean(rows, method, m) for m in metrics} for method in methods}
    photos = len(_by(rows, "image"))
    return {"title": rows[0].get(fact), "photos": photos, "targets": len(rows), "methods": means_of}


def _about(metric: Metric, averages: Mapping[str, Mean]) -> dict[str, Any]:
    facts = {"label": metric.label, "better": metric.better, "source": metric.source}
    return {**facts, "best": _best(averages, metric.better)}


def _best(averages: Mapping[str, Mean], better: str) -> list[str]:
    """Return the methods with the best mean: several that are equal, none where there is nothing to compare."""
    known = {method: a.mean for method, a in averages.items() if a.n}
    if len(known) < 2:
        return []
    top = (max if better == "higher" else min)(known.values())
    return [method for method, mean in known.items() if mean == top]


def _in_rows(rows: Iterable[Row]) -> list[Problem]:
    problems = (Problem(row["image"], text) for row in rows for text in row.get("problems") or ())
    return list(dict.fromkeys(problems))


def _mean_curves(photos: Photos, methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return mean curves by method and kind: their points `x`, `mean`, `low` and `high` (POINTS,), and `n` photos."""
    x = _even(POINTS)
    points: dict[tuple[str, str, int], Float64Array] = {}
    for method, kind in product(methods, CURVES):
        stacked = np.full((len(photos), POINTS), np.nan)
        for n, rows in enumerate(photos):
            curves_of = (_resampled(_of(row, method).get("curves", _NOTHING).get(kind), x) for row in rows)
            if whole := [curve for curve in curves_of if np.isfinite(curve).all()]:
                stacked[n] = sum(whole) / len(whole)
        points |= {(method, kind, i): column for i, column in enumerate(stacked.T)}
    mean_of = means(points, resamples=CURVE_RESAMPLES)
    curves: dict[str, dict[str, Any]] = {method: {} for method in methods}
    for method, kind in product(methods, CURVES):
        curve = [mean_of[method, kind, i] for i in range(POINTS)]
        if curve[0].n:
            ends = {name: [getattr(point, name) for point in curve] for name in ("mean", "low", "high")}
            curves[method][kind] = {"x": x, **ends, "n": curve[0].n}
    return curves


def _resampled(curve: Sequence[float | None] | None, x: Float64Array) -> Float64Array:
    values = np.array([np.nan if v is None else v for v in curve or ()], np.float64)
    if len(values) < 2 or not np.isfinite(values).all():
        return np.full(len(x), np.nan)
    return np.interp(x, _even(len(values)), values)


@cache
def _even(count: int) -> Float64Array:
    return np.linspace(0, 1, count)
