"""The legend of a panel's colours: a caption, and a bar with marks."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.kernels.arrays import Float32Array, UInt8Array
from fusioncam.runtime.picture.colors import color_table
from fusioncam.runtime.picture.styles import LEVELS, NO_DIFFERENCE, difference_scale, overlay_difference
from fusioncam.runtime.picture.text import TextStyle, text_width, wrap, write

SMALL = TextStyle(14, 400, (107, 114, 128))
BAR_HEIGHT, BELOW = 12, 6  # and the space between bar and marks
BETWEEN = 12  # least space between two texts in a line
CORNER = 6
RELATIVE = "relative to the maximum of its map"
SUBJECT = "the class"  # what maps are evidence for
CAPTION = f"Evidence for {SUBJECT}, {RELATIVE}"  # of maps in colours
NO_COLORS: UInt8Array = np.empty((0, 3), np.uint8)


def round_corners(tile: UInt8Array) -> UInt8Array:
    """Return a tile (H, W, 3) with white around its rounded corners."""
    height, width = tile.shape[:2]
    y, x = (np.maximum(CORNER - 0.5 - np.minimum(np.arange(n), np.arange(n)[::-1]), 0) for n in (height, width))
    inside = (CORNER + 0.5 - np.hypot(y[:, None], x)).clip(0, 1)[..., None]
    return np.asarray(np.rint(255 + inside * (tile - 255.0)), np.uint8)


class Legend(NamedTuple):
    """The meaning of colours: a caption, and a bar (n, 3) with marks at shares of its width and texts at both ends."""

    caption: str
    colors: UInt8Array
    marks: Mapping[float, str]
    ends: tuple[str, str] = ("", "")

    def height(self, width: int) -> int:
        """Return the height of the legend in pixels."""
        bar = BAR_HEIGHT + BELOW + SMALL.leading if len(self.colors) else 0
        texts = len(_lines(self.caption, width)) + len({down for _, _, down in _placed(self.ends, width)})
        return bar + texts * SMALL.leading


def draw_legend(sheet: UInt8Array, left: int, top: int, width: int, legend: Legend) -> None:
    """Draw a legend whose box begins at (left, top)."""
    for line in _lines(legend.caption, width):
        write(sheet, line, left, top - 2, SMALL)  # in line with the text on its left
        top += SMALL.leading
    if len(legend.colors):
        nearest = np.rint(np.linspace(0, len(legend.colors) - 1, width)).astype(np.intp)
        bar = np.tile(legend.colors[nearest], (BAR_HEIGHT, 1, 1))
        sheet[top : top + BAR_HEIGHT, left : left + width] = round_corners(bar)
        for share, mark in legend.marks.items():
            x = round(share * (width - 1))
            cv2.line(sheet, (left + x, top + BAR_HEIGHT + 2), (left + x, top + BAR_HEIGHT + 5), SMALL.color)
            text = text_width(mark, SMALL)
            write(sheet, mark, left + min(max(x - text // 2, 0), width - text), top + BAR_HEIGHT + BELOW, SMALL)
        top += BAR_HEIGHT + BELOW + SMALL.leading
    for end, at, down in _placed(legend.ends, width):
        write(sheet, end, left + at, top + down, SMALL)


def _lines(caption: str, width: int) -> list[str]:
    return wrap(caption, SMALL, width, 3)


def _placed(ends: tuple[str, str], width: int) -> Iterator[tuple[str, int, int]]:
    """Yield the texts at both ends with their places (across, down): in one line, or in two where they do not fit."""
    in_one = sum(text_width(end, SMALL) for end in ends) + BETWEEN <= width
    for i, end in enumerate(ends):
        for line in wrap(end, SMALL, width, 1):
            yield line, i * (width - text_width(line, SMALL)), 0 if in_one else i * SMALL.leading


def make_legend(colormap: str, style: str, top: float, subject: str = SUBJECT) -> Legend:
    """Return the legend of a style; arguments as for `overlay`, and what the maps are evidence for."""
    other = "" if subject == SUBJECT else f" for {subject}"
    if style == "top":
        return Legend(f"Outlined: the {top:g} % of the pixels with the most evidence{other}", NO_COLORS, {})
    caption, marks = {
        "heat": (f"Evidence for {subject}, {RELATIVE}", {0: "0", 0.5: "0.5", 1: "1"}),
        "contour": (
            f"Lines of equal evidence{other}, {RELATIVE}",
            {0: "0", **{level: f"{level:g}" for level in LEVELS}, 1: "1"},
        ),
    }[style]
    return Legend(caption, color_table(colormap), marks)


def difference_legend(signed: Float32Array, between: tuple[str, str]) -> Legend:
    """Return the legend of one difference of maps; its bar ends at `difference_scale`.

    Args:
        signed: (H, W) float32 in [-1, 1].
        between: Names of the first class and of the second.
    """
    scale = difference_scale(signed)
    if not scale:
        return Legend(f"no difference (below {NO_DIFFERENCE:g})", NO_COLORS, {})
    white, ramp = np.full((1, 511, 3), 255, np.uint8), np.linspace(-1, 1, 511, dtype=np.float32)[None]
    colors = overlay_difference(white, ramp, 1, scale=1)[0]
    first, second = (f"towards {name}" for name in between)
    return Legend("", colors, {0: f"-{scale:.2g}", 0.5: "0", 1: f"+{scale:.2g}"}, (second, first))
