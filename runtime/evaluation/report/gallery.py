"""The best and the worst maps of each method, as pictures within the report."""

import base64
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from fusioncam.runtime.evaluation.store.store import Row

SHOWN = 4  # best and worst maps of a method, each
LIMIT = 4_500_000  # characters of pictures in all
RANKED_BY = ("insertion", "road", "energy", "drop")  # the first of these that was measured

Figure: TypeAlias = tuple[Row, float, str]
"""The row of a photo, the value of its map, and the picture of both in base64."""


def ranking_metric(summary: Mapping[str, Any]) -> str | None:
    """Return the name of the metric that the maps are ranked by; None where nothing was measured."""
    return next((m for m in (*RANKED_BY, *summary["metrics"]) if m in summary["metrics"]), None)


def gallery(
    summary: Mapping[str, Any], rows: Sequence[Row], pictures: Callable[[str], bytes | None]
) -> Iterator[tuple[str, dict[str, list[Figure]]]]:
    """Yield the best and the worst maps of every method, as `Best` and `Worst`, where there are pictures of them.

    Args:
        summary: Of all rows.
        rows: With the paths of their pictures.
        pictures: Gives the WebP bytes of a path, or None.
    """
    metric, left = ranking_metric(summary), LIMIT
    for method in summary["methods"] if metric else ():
        ranked = _ranked(rows, method, metric, summary["metrics"][metric]["better"] == "higher")
        shown = min(SHOWN, (len(ranked) + 1) // 2)
        ends: dict[str, list[Figure]] = {}
        for title, of_end in (("Best", ranked[:shown]), ("Worst", ranked[shown:][-shown:][::-1])):
            for row, value in of_end:
                data = pictures(row["methods"][method]["picture"])
                if data is not None and len(data) * 4 / 3 <= left:
                    picture = base64.b64encode(data).decode()
                    ends.setdefault(title, []).append((row, value, picture))
                    left -= len(picture)
        yield method, ends


def _ranked(rows: Iterable[Row], method: str, metric: str | None, highest_first: bool) -> list[tuple[Row, float]]:
    """Return the rows that have a picture with their values, the best first."""
    maps = [(row, (row.get("methods", {}).get(method) or {})) for row in rows]
    known = [(row, m["metrics"].get(metric)) for row, m in maps if m.get("picture") and m.get("metrics")]
    ranked = [(row, float(value)) for row, value in known if value is not None]
    return sorted(ranked, key=lambda item: -item[1] if highest_first else item[1])
