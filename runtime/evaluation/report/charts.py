"""The geometry of the mean insertion and deletion curves, which the page draws as SVG."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple


class Area(NamedTuple):
    """The size of a drawing and its margins, in units of which letters take 12: those stay legible on a phone."""

    width: int = 420
    height: int = 300
    left: int = 44
    right: int = 12
    top: int = 12
    bottom: int = 44

    def x(self, share: float) -> float:
        """Return the place of a share of the pixels, 0..1."""
        return self.left + share * (self.width - self.left - self.right)

    def y(self, share: float) -> float:
        """Return the place of a share of the highest value, 0..1."""
        return self.height - self.bottom - share * (self.height - self.top - self.bottom)


AREA = Area()


class Line(NamedTuple):
    """The curve of a method: its mean as a path from `start` to `end`, and the band of its interval, which may lack."""

    number: int
    method: str
    path: str
    start: float | None
    end: float | None
    band: str


class Chart(NamedTuple):
    """The curves of one kind, of all methods that have them; the axis goes from `floor`, 0 or below, to `ceiling`."""

    kind: str
    floor: float
    ceiling: float
    photos: int
    lines: list[Line]


def charts(methods: Mapping[str, Mapping[str, Any]]) -> Iterator[Chart]:
    """Yield a chart for each kind of curve that some method has.

    Args:
        methods: The methods of the summary, each with its `curves`.
    """
    for kind in ("insertion", "deletion"):
        curves = [
            (n, method, m["curves"][kind]) for n, (method, m) in enumerate(methods.items()) if kind in m["curves"]
        ]
        if curves:
            known = [v for *_, c in curves for v in (*c["mean"], *c["low"], *c["high"]) if v is not None]
            # Values and cosines may be negative.
            floor, ceiling = -_ceiling(-min(known)) if min(known) < 0 else 0.0, _ceiling(max(known))
            lines = [_line(n, method, curve, floor, ceiling) for n, method, curve in curves]
            yield Chart(kind, floor, ceiling, max(curve["n"] for *_, curve in curves), lines)


def _ceiling(highest: float) -> float:
    """Return a round number just above; the confidence ends at 1."""
    if highest <= 0:
        return 1.0
    unit = 10 ** math.floor(math.log10(highest))
    steps: Sequence[float] = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
    return min(1.0, next(s for s in steps if s * unit >= highest - 1e-12) * unit) if highest <= 1 else highest


def _line(number: int, method: str, curve: Mapping[str, Any], floor: float, ceiling: float) -> Line:
    def points(values: Sequence[float | None]) -> list[str]:
        known = [(x, v) for x, v in zip(curve["x"], values, strict=True) if v is not None]
        return [f"{AREA.x(x):.1f} {AREA.y((v - floor) / (ceiling - floor)):.1f}" for x, v in known]

    mean, low, high = points(curve["mean"]), points(curve["low"]), points(curve["high"])
    band = "L".join(high + low[::-1]) if low and high else ""
    return Line(number, method, "L".join(mean), curve["mean"][0], curve["mean"][-1], band)
