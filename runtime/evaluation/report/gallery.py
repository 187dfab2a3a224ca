"""The best and the worst maps of each method, as pictures within the report."""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fusioncam.runtime.evaluation.store.store import Row

SHOWN = 4  # best and worst maps of a method, each
LIMIT = 4_500_000  # characters of pictures in all
RANKED_BY = ("insertion", "road", "energy", "drop")  # the first of these that was measured
FOLDED = 5  # methods from which on only the first two are unfolded


class Figure(NamedTuple):
    """A map over its photo: the photo's name, its class, the value of the map, and the picture in base64."""

    image: str
    label: str
    probability: float | None
    value: float
    picture: str


class Exhibit(NamedTuple):
    """The maps of one method, by title."""

    method: str
    unfolded: bool
    ends: list[tuple[str, list[Figure]]]


def ranking_metric(summary: Mapping[str, Any]) -> str | None:
    """Return the name of the metric that the maps are ranked by; None where nothing was measured."""
    return next((m for m in (*RANKED_BY, *summary["metrics"]) if m in summary["metrics"]), None)


def gallery(
    summary: Mapping[str, Any], rows: Sequence[Row], pictures: Callable[[str], bytes | None]
) -> Iterator[Exhibit]:
    """Yield the pictures of each method that has some.

    Args:
        summary: Of all rows.
        rows: With the paths of their pictures.
        pictures: Gives the WebP bytes of a path, or None.
    """
    metric = ranking_metric(summary)
    if metric is None:
        return
    left, highest_first = LIMIT, summary["metrics"][metric]["better"] == "higher"
    for n, method in enumerate(summary["methods"]):
        ranked = _ranked(rows, method, metric, highest_first)
        shown = min(SHOWN, (len(ranked) + 1) // 2)
        ends = []
        for title, some in (("Best", ranked[:shown]), ("Worst", ranked[shown:][-shown:][::-1])):
            figures = []
            for row, value in some:
                data = pictures(row["methods"][method]["picture"])
                if data is None or len(data) * 4 / 3 > left:
                    continue
                picture = base64.b64encode(data).decode()
                label = row.get("label") or f"class {row.get('class_index')}"
                figures.append(Figure(row["image"], label, row.get("probability"), value, picture))
                left -= len(picture)
            if figures:
                ends.append((title, figures))
        if ends:
            yield Exhibit(method, len(summary["methods"]) < FOLDED or n < 2, ends)


def _ranked(rows: Iterable[Row], method: str, metric: str, highest_first: bool) -> list[tuple[Row, float]]:
    """Return the rows that have a picture with their values, the best first."""
    maps = [(row, (row.get("methods", {}).get(method) or {})) for row in rows]
    known = [(row, m["metrics"].get(metric)) for row, m in maps if m.get("picture") and m.get("metrics")]
    ranked = [(row, float(value)) for row, value in known if value is not None]
    return sorted(ranked, key=lambda item: -item[1] if highest_first else item[1])
