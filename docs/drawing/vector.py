"""SVG: boxes with arrows between them, and curves over axes. System fonts, white ground, no scripts."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import NamedTuple

FONT = "font-family='system-ui, sans-serif'"
INK, SOFT, LINE = "#1f2937", "#6b7280", "#9ca3af"
COLOURS = ("#3f51b5", "#d1570b", "#1a7f37", "#8250df", "#57606a")
FILLS = {"plain": "#f3f4f6", "ours": "#e8eaf6", "warm": "#fdf0e6", "none": "none", "words": "none"}


class Box(NamedTuple):
    """A box around some lines of text, the first in bold; `fill` is one of FILLS: `none` is dashed, `words` no box."""

    x: int
    y: int
    width: int
    height: int
    lines: Sequence[str]
    fill: str = "plain"


class Arrow(NamedTuple):
    """A line through points, with a head at its end, and words above the middle of its longest part."""

    points: Sequence[tuple[int, int]]
    words: str = ""
    dashed: bool = False


def diagram(width: int, height: int, title: str, boxes: Sequence[Box], arrows: Sequence[Arrow]) -> str:
    """Boxes and arrows; `title` is what a screen reader says."""
    head = (
        "<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        f"<path d='M0 0L8 4L0 8z' fill='{SOFT}'/></marker></defs>"
    )
    return _svg(width, height, title, [head, *map(_arrow, arrows), *map(_box, boxes)])


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    inner = "\n".join(parts)
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' "
        f"role='img' {FONT} font-size='14'>\n<title>{escape(title)}</title>\n"
        f"<rect width='{width}' height='{height}' rx='8' fill='white'/>\n{inner}\n</svg>\n"
    )


def _text(x: float, y: float, words: str, anchor: str = "middle", bold: bool = False, colour: str = INK) -> str:
    weight = " font-weight='600'" if bold else ""
    return f"<text x='{x:g}' y='{y:g}' text-anchor='{anchor}' fill='{colour}'{weight}>{escape(words)}</text>"


def _box(box: Box) -> str:
    middle, first = box.x + box.width / 2, box.y + box.height / 2 - 9 * (len(box.lines) - 1) + 5
    lines = [
        _text(middle, first + 18 * n, line, bold=n == 0, colour=SOFT if n else INK) for n, line in enumerate(box.lines)
    ]
    edge = "stroke-dasharray='5 4' " if box.fill == "none" else ""
    if box.fill == "words":
        return "\n".join(lines)
    rect = (
        f"<rect x='{box.x}' y='{box.y}' width='{box.width}' height='{box.height}' rx='6' {edge}"
        f"fill='{FILLS[box.fill]}' stroke='{LINE}'/>"
    )
    return "\n".join([rect, *lines])


def _arrow(arrow: Arrow) -> str:
    way = "L".join(f"{x} {y}" for x, y in arrow.points)
    dashes = " stroke-dasharray='5 4'" if arrow.dashed else ""
    path = f"<path d='M{way}' fill='none' stroke='{SOFT}' stroke-width='1.5'{dashes} marker-end='url(#head)'/>"
    parts = pairwise(arrow.points)
    (x0, y0), (x1, y1) = max(parts, key=lambda part: abs(part[1][0] - part[0][0]) + abs(part[1][1] - part[0][1]))
    words = _text((x0 + x1) / 2, (y0 + y1) / 2 - 7, arrow.words, colour=SOFT) if arrow.words else ""
    return path + words


class Axis(NamedTuple):
    """Axis of a plot: its title, its ends, and its marks."""

    title: str
    low: float
    high: float
    marks: Sequence[float]


def chart(title: str, across: Axis, up: Axis, curves: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Curves over axes, each with its name at the right end."""
    width, height, left, right, top, bottom = 680, 320, 80, 188, 16, 52

    def x(value: float) -> float:
        return left + (value - across.low) / (across.high - across.low) * (width - left - right)

    def y(value: float) -> float:
        return height - bottom - (value - up.low) / (up.high - up.low) * (height - top - bottom)

    parts = []
    for mark in up.marks:
        parts.append(f"<path d='M{left} {y(mark):.1f}H{width - right}' stroke='#e5e7eb'/>")
        parts.append(_text(left - 8, y(mark) + 5, f"{mark:g}", "end", colour=SOFT))
    for mark in across.marks:
        parts.append(f"<path d='M{x(mark):.1f} {height - bottom}v5' stroke='{LINE}'/>")
        parts.append(_text(x(mark), height - bottom + 20, f"{mark:g}", colour=SOFT))
    parts.append(f"<path d='M{left} {top}V{height - bottom}H{width - right}' fill='none' stroke='{LINE}'/>")
    parts.append(_text((left + width - right) / 2, height - 10, across.title))
    centre = (top + height - bottom) / 2
    parts.append(f"<g transform='translate(18 {centre:g}) rotate(-90)'>{_text(0, 0, up.title)}</g>")
    ends: list[float] = []
    for n, (name, points) in enumerate(curves.items()):
        colour = COLOURS[n % len(COLOURS)]
        way = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points)
        dashes = f" stroke-dasharray='{(6, 2, 8, 4)[n % 4]} 3'" if n else ""
        parts.append(f"<path d='M{way}' fill='none' stroke='{colour}' stroke-width='2'{dashes}/>")
        at = y(points[-1][1]) + 5
        while any(abs(at - other) < 17 for other in ends):  # names never lie on each other
            at += 1
        ends.append(at)
        parts.append(_text(width - right + 8, at, name, "start", colour=colour))
    return _svg(width, height, title, parts)
