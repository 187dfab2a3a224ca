"""The panel: the photo, each map laid over it, the class and its probability, on one white sheet."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, UInt8Array
from fusioncam.runtime.picture.colors import DEFAULT_COLORMAP
from fusioncam.runtime.picture.legend import SMALL, Legend, draw_legend, make_legend, round_corners
from fusioncam.runtime.picture.styles import DEFAULT_OPACITY, DEFAULT_TOP, DrawOptions, overlay, overlay_difference
from fusioncam.runtime.picture.text import TextStyle, text_width, wrap, write
from fusioncam.runtime.picture.titles import method_title

MARGIN, GAP = 32, 20
# Range of a tile's longer side, in pixels.
TILE_RANGE = 256, 400
MIN_COLUMN = 128
MIN_SHEET, MAX_SHEET = 520, 1500

HEADLINE = TextStyle(26, 600, (17, 24, 39))
PROBABILITY = TextStyle(26, 400, (107, 114, 128))
TILE_TITLE = TextStyle(16, 500, (31, 41, 55))


class _Grid(NamedTuple):
    """Places of tiles: each (height, width) below a title of some lines, in columns of `pitch` pixels."""

    height: int
    width: int
    columns: int
    rows: int
    lines: int

    @property
    def pitch(self) -> int:
        return max(self.width, MIN_COLUMN) + GAP

    @property
    def row(self) -> int:
        return self.lines * TILE_TITLE.leading + 8 + self.height + GAP


def _grid(height: int, width: int, titles: Sequence[str]) -> _Grid:
    scale = min(max(TILE_RANGE[0] / max(height, width), 1), TILE_RANGE[1] / max(height, width))
    tile_h, tile_w = (max(round(scale * side), 1) for side in (height, width))
    column = max(tile_w, MIN_COLUMN)
    rows = math.ceil(len(titles) / max((MAX_SHEET - 2 * MARGIN + GAP) // (column + GAP), 1))
    lines = max(len(_title_lines(title, column)) for title in titles)
    return _Grid(tile_h, tile_w, math.ceil(len(titles) / rows), rows, max(lines, 1))


def _title_lines(title: str, width: int) -> list[str]:
    return wrap(title, TILE_TITLE, width, 2)


def _resized(image: UInt8Array | Float32Array, grid: _Grid) -> Array:
    smooth = cv2.INTER_CUBIC if grid.height > image.shape[0] else cv2.INTER_AREA
    return cv2.resize(image, (grid.width, grid.height), interpolation=smooth)


def _draw_headline(sheet: UInt8Array, lines: Sequence[str], chance: str) -> None:
    """Draw the class name, and its probability behind the last line."""
    left, top = MARGIN, MARGIN - 6
    for i, line in enumerate(lines):
        top = MARGIN - 6 + i * HEADLINE.leading
        left = MARGIN + text_width(line, HEADLINE) + 14
        write(sheet, line, MARGIN, top, HEADLINE)
    write(sheet, chance, left, top, PROBABILITY)


def _draw_tiles(sheet: UInt8Array, top: int, grid: _Grid, tiles: Sequence[tuple[str, UInt8Array]]) -> None:
    """Draw pictures, each below its title."""
    for i, (title, tile) in enumerate(tiles):
        x, y = MARGIN + i % grid.columns * grid.pitch, top + i // grid.columns * grid.row
        lines = _title_lines(title, grid.pitch - GAP)
        for n, line in enumerate(lines, grid.lines - len(lines)):
            write(sheet, line, x, y + n * TILE_TITLE.leading, TILE_TITLE)
        y += grid.lines * TILE_TITLE.leading + 8
        sheet[y : y + grid.height, x : x + grid.width] = round_corners(tile)


def panel(
    photo: UInt8Array,
    maps: Mapping[str, Float32Array],
    title: str,
    probability: float | None = None,
    notes: Sequence[str] = (),
    colormap: str = DEFAULT_COLORMAP,
    opacity: float = DEFAULT_OPACITY,
    *,
    style: str = "heat",
    top: float = DEFAULT_TOP,
    between: tuple[str, str] | None = None,
) -> UInt8Array:
    """Draw the panel: headline, the photo, each map over it, and below them a legend of the colours and any notes.

    Small inputs are enlarged. Text that does not fit is wrapped, then shortened with an ellipsis.

    Args:
        photo: (H, W, 3) uint8 RGB, the part of a photo that the model saw, at which the maps are.
        maps: (H, W) float32 in [0, 1] by method, in the order to show; in [-1, 1] where they are differences.
        title: The class name.
        probability: Probability of the class, in [0, 1]; shown behind its name.
        notes: Flags and remarks, a line or more each.
        colormap: A name in COLORMAPS.
        opacity: As for `overlay`.
        style: As for `overlay`; differences always have their own colours.
        top: As for `overlay`.
        between: For differences of two classes, the names of the first and of the second.

    Returns:
        (height, width, 3) uint8 RGB; the same arguments give the same pixels.

    Raises:
        UsageError: There is no such colour map, opacity, style or share.
    """

    def draw(saliency: Float32Array) -> UInt8Array:
        resized = np.asarray(_resized(saliency, grid), np.float32)
        if between is not None:
            return overlay_difference(base, resized, opacity)
        return overlay(base, resized, colormap, opacity, style=style, top=top)

    options = DrawOptions(colormap, opacity, style, top)
    legend = make_legend(colormap, style, float(options.top), between)
    grid = _grid(photo.shape[0], photo.shape[1], ["Input", *map(method_title, maps)])
    base = np.asarray(_resized(photo, grid), np.uint8)
    tiles = [("Input", base), *((method_title(method), draw(saliency)) for method, saliency in maps.items())]
    return _sheet(grid, tiles, title, probability, notes, legend)


def _sheet(
    grid: _Grid,
    tiles: Sequence[tuple[str, UInt8Array]],
    title: str,
    probability: float | None,
    notes: Sequence[str],
    legend: Legend,
) -> UInt8Array:
    """Draw headline, tiles, notes and legend on white."""
    width = max(grid.columns * grid.pitch - GAP, MIN_SHEET - 2 * MARGIN)
    legend_width = min(max(grid.width, MIN_COLUMN), TILE_RANGE[0])
    chance = "" if probability is None else "< 0.01" if 0 < probability < 0.005 else f"{probability:.2f}"
    headline = wrap(title, HEADLINE, width - text_width(chance, PROBABILITY) - GAP, 2)
    remarks = [line for note in notes for line in wrap(note, SMALL, width - legend_width - 2 * GAP, 3)]
    tiles_top = MARGIN + max(len(headline), 1) * HEADLINE.leading + GAP - 4
    foot_top = tiles_top + grid.rows * grid.row
    foot = max(legend.height, len(remarks) * SMALL.leading)
    sheet = np.full((foot_top + foot + MARGIN - 8, width + 2 * MARGIN, 3), 255, np.uint8)
    _draw_headline(sheet, headline, chance)
    _draw_tiles(sheet, tiles_top, grid, tiles)
    for i, line in enumerate(remarks):
        write(sheet, line, MARGIN, foot_top + i * SMALL.leading - 2, SMALL)
    draw_legend(sheet, MARGIN + width - legend_width, foot_top, legend_width, legend)
    return sheet
