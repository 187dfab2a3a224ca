"""Mean insertion and deletion curves as SVG."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fusioncam.runtime.evaluation.report.html import SERIES, dashes, method_name, number, photos, swatch, text

# In units of the drawing, which is as wide as its place; letters of 12 units stay legible on a phone.
WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 44


class Kind(NamedTuple):
    """What a curve shows."""

    title: str
    across: str
    good: str


KINDS = {
    "insertion": Kind("Insertion", "share of the pixels put in, most salient first", "the sooner it rises, the better"),
    "deletion": Kind(
        "Deletion", "share of the pixels taken out, most salient first", "the sooner it falls, the better"
    ),
}


def charts(methods: Mapping[str, Mapping[str, Any]]) -> str:
    """A chart for each kind of curve, and one legend; empty where no method has curves.

    Args:
        methods: As in the summary, each with its `curves`.
    """
    drawn = "\n".join(_chart(kind, methods) for kind in KINDS if any(kind in m["curves"] for m in methods.values()))
    if not drawn:
        return ""
    names = "".join(f"<li>{swatch(n)}&nbsp;{method_name(method)}</li>" for n, method in enumerate(methods))
    return f'<ul class="legend">{names}</ul>\n<div class="charts">\n{drawn}\n</div>'


def _chart(name: str, methods: Mapping[str, Mapping[str, Any]]) -> str:
    kind = KINDS[name]
    curves = [(n, method, m["curves"][name]) for n, (method, m) in enumerate(methods.items()) if name in m["curves"]]
    top = _ceiling(max(v for *_, c in curves for v in (*c["mean"], *c["high"]) if v is not None))
    opacity = 0.15 * min(1.0, 4 / len(curves))  # many bands on top of each other would hide the grid
    bands = "".join(_band(n, curve, top, opacity) for n, _, curve in curves)
    lines = "".join(_line(n, method, curve, top) for n, method, curve in curves)
    ends = ", ".join(
        f"{method_name(method)} from {number(c['mean'][0])} to {number(c['mean'][-1])}" for _, method, c in curves
    )
    most = photos(max(curve["n"] for *_, curve in curves))
    return (
        f"<figure><figcaption><strong>{kind.title}</strong>: {kind.good}. Mean over {most}.</figcaption>\n"
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{text(kind.title)} curves, confidence in the class by {text(kind.across)}: {ends}">\n'
        f"{_axes(kind, top)}\n{bands}\n{lines}\n</svg></figure>"
    )


def _ceiling(highest: float) -> float:
    """A round number just above; the confidence ends at 1."""
    if highest <= 0:
        return 1.0
    unit = 10 ** math.floor(math.log10(highest))
    steps: Sequence[float] = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return min(1.0, next(s for s in steps if s * unit >= highest - 1e-12) * unit) if highest <= 1 else highest


def _x(share: float) -> float:
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)


def _axes(kind: Kind, top: float) -> str:
    parts = []
    for k in range(5):
        y, share = _y(top * k / 4, top), k / 4
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{top * k / 4:.3g}</text>')
        anchor = "end" if k == 4 else "middle"
        x = WIDTH - RIGHT if k == 4 else _x(share)
        parts.append(f'<path class="axis" d="M{_x(share):.1f} {HEIGHT - BOTTOM}v4"/>')
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 17}" text-anchor="{anchor}">{k * 25} %</text>'
        )
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    middle_x, middle_y = (LEFT + WIDTH - RIGHT) / 2, (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<text class="name" x="{middle_x}" y="{HEIGHT - 7}" text-anchor="middle">{text(kind.across)}</text>')
    parts.append(
        f'<text class="name" transform="translate(11 {middle_y}) rotate(-90)" text-anchor="middle">confidence</text>'
    )
    return "".join(parts)


def _points(curve: Mapping[str, Any], end: str, top: float) -> list[str]:
    return [f"{_x(x):.1f} {_y(v, top):.1f}" for x, v in zip(curve["x"], curve[end], strict=True) if v is not None]


def _band(n: int, curve: Mapping[str, Any], top: float, opacity: float) -> str:
    low, high = _points(curve, "low", top), _points(curve, "high", top)
    if not low or not high:
        return ""
    return f'<path class="band s{n % SERIES}" opacity="{opacity:.3f}" d="M{"L".join(high + low[::-1])}Z"/>'


def _line(n: int, method: str, curve: Mapping[str, Any], top: float) -> str:
    points = "L".join(_points(curve, "mean", top))
    return f'<path class="line s{n % SERIES}" d="M{points}"{dashes(n)}><title>{method_name(method)}</title></path>'
