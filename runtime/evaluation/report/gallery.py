"""The best and the worst maps of each method, as pictures within the report."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fusioncam.runtime.evaluation.report.html import method_name, number, text
from fusioncam.runtime.evaluation.store.store import Row

SHOWN = 4  # best and worst maps of a method, each
LIMIT = 4_500_000  # characters of pictures in all
RANKED_BY = ("insertion", "road", "energy", "drop")  # the first of these that was measured
FOLDED = 5  # methods from which on only the first two are unfolded


def gallery(summary: Mapping[str, Any], rows: Sequence[Row], pictures: Callable[[str], bytes | None]) -> str:
    """The pictures under a heading per method; empty where there are none.

    Args:
        summary: Of all rows.
        rows: With the paths of their pictures.
        pictures: Gives the WebP bytes of a path, or None.
    """
    metric = next((m for m in (*RANKED_BY, *summary["metrics"]) if m in summary["metrics"]), None)
    if metric is None:
        return ""
    facts = summary["metrics"][metric]
    left, parts = LIMIT, []
    for n, method in enumerate(summary["methods"]):
        ranked = _ranked(rows, method, metric, facts["better"] == "higher")
        shown = min(SHOWN, (len(ranked) + 1) // 2)
        groups = []
        for title, some in (("Best", ranked[:shown]), ("Worst", ranked[shown:][-shown:][::-1])):
            figures = []
            for row, value in some:
                figure = _figure(row, method, number(value), pictures, left)
                left -= len(figure)
                figures.append(figure)
            if any(figures):
                groups.append(f'<div><h3>{title}</h3><div class="gallery">{"".join(figures)}</div></div>')
        if groups:
            unfolded = " open" if len(summary["methods"]) < FOLDED or n < 2 else ""
            parts.append(
                f"<details{unfolded}><summary>{method_name(method)}</summary>"
                f'<div class="ends">{"".join(groups)}</div></details>'
            )
    said = (
        f"<p>By {text(facts['label'])} on the photo, the last figure below each, where {facts['better']} is better. "
        "Beside the class is its probability.</p>"
    )
    return "\n".join([said, *parts]) if parts else ""


def _ranked(rows: Sequence[Row], method: str, metric: str, higher: bool) -> list[tuple[Row, float]]:
    """Rows that have a picture, the best first."""
    some = [(row, (row.get("methods", {}).get(method) or {})) for row in rows]
    known = [(r, m["metrics"].get(metric)) for r, m in some if m.get("picture") and m.get("metrics")]
    ranked = [(row, float(value)) for row, value in known if value is not None]
    return sorted(ranked, key=lambda item: -item[1] if higher else item[1])


def _figure(row: Row, method: str, figure: str, pictures: Callable[[str], bytes | None], left: int) -> str:
    data = pictures(row["methods"][method]["picture"])
    if data is None or len(data) * 4 / 3 > left:
        return ""
    shown = row.get("label") or f"class {row.get('class_index')}"
    probability = "" if row.get("probability") is None else f" {row['probability']:.2f}"
    alt = text(f"{row['image']}, its ") + method_name(method) + text(f" map for {shown} laid over it")
    return (
        f'<figure><img src="data:image/webp;base64,{base64.b64encode(data).decode()}" alt="{alt}">'
        f'<figcaption><span class="file" title="{text(row["image"])}">{text(row["image"])}</span>'
        f'<span title="{text(shown)}">{text(shown.split(",")[0])}{probability}</span>'
        f"<span><b>{figure}</b></span></figcaption></figure>"
    )
