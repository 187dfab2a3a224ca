"""The legend of a panel's colours: a bar with marks, or a line of text."""

from collections.abc import Mapping
from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.kernels.arrays import UInt8Array
from fusioncam.runtime.picture.colors import color_table
from fusioncam.runtime.picture.styles import LEVELS, overlay_difference
from fusioncam.runtime.picture.text import TextStyle, text_width, wrap, write

SMALL = TextStyle(14, 400, (107, 114, 128))
BAR_HEIGHT = 12
CORNER = 6


def round_corners(tile: UInt8Array) -> UInt8Array:
    """Return a tile (H, W, 3) with white around its rounded corners."""
    height, width = tile.shape[:2]
    y, x = (np.maximum(CORNER - 0.5 - np.minimum(np.arange(n), np.arange(n)[::-1]), 0) for n in (height, width))
    inside = (CORNER + 0.5 - np.hypot(y[:, None], x)).clip(0, 1)[..., None]
    return np.asarray(np.rint(255 + inside * (tile - 255.0)), np.uint8)


class Legend(NamedTuple):
    """The meaning of colours: a bar (n, 3) with marks at shares of its width, and texts below, left and right."""

    colors: UInt8Array
    marks: Mapping[float, str]
    below: tuple[str, str]

    @property
    def height(self) -> int:
        """Return the height of the legend in pixels."""
        bar = BAR_HEIGHT + 6 + SMALL.leading if len(self.colors) else 0
        return bar + (SMALL.leading if any(self.below) else 0)


def draw_legend(sheet: UInt8Array, left: int, top: int, width: int, legend: Legend) -> None:
    """Draw a legend whose box begins at (left, top)."""
    if len(legend.colors):
        nearest = np.rint(np.linspace(0, len(legend.colors) - 1, width)).astype(np.intp)
        bar = np.tile(legend.colors[nearest], (BAR_HEIGHT, 1, 1))
        sheet[top : top + BAR_HEIGHT, left : left + width] = round_corners(bar)
        for share, mark in legend.marks.items():
            x = round(share * (width - 1))
            cv2.line(sheet, (left + x, top + BAR_HEIGHT + 2), (left + x, top + BAR_HEIGHT + 5), SMALL.color)
            text = text_width(mark, SMALL)
            write(sheet, mark, left + min(max(x - text // 2, 0), width - text), top + BAR_HEIGHT + 6, SMALL)
        top += BAR_HEIGHT + 6 + SMALL.leading
    else:
        top -= 2  # in line with the remarks on its left
    for below, at_the_right in zip(legend.below, (False, True), strict=True):
        for line in wrap(below, SMALL, width if not all(legend.below) else width // 2 - 6, 1):
            write(sheet, line, left + (width - text_width(line, SMALL) if at_the_right else 0), top, SMALL)


def make_legend(colormap: str, style: str, top: float, between: tuple[str, str] | None) -> Legend:
    """Return the legend of a style, or of the difference between two classes; arguments as for `panel`."""
    if between is not None:
        first, second = between
        white, ramp = np.full((1, 511, 3), 255, np.uint8), np.linspace(-1, 1, 511, dtype=np.float32)[None]
        return Legend(overlay_difference(white, ramp, 1)[0], {0: "-1", 0.5: "0", 1: "1"}, (second, first))
    marks = {
        "heat": {0: "0", 0.5: "0.5", 1: "1"},
        "contour": {0: "0", **{level: f"{level:g}" for level in LEVELS}, 1: "1"},
    }
    if style in marks:
        return Legend(color_table(colormap), marks[style], ("", ""))
    return Legend(np.empty((0, 3), np.uint8), {}, ("", f"outline: top {top:g} % of pixels"))
