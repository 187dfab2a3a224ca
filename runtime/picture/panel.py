"""The panel: the photo, each map laid over it, the class, and where the maps come from, on one white sheet."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, UInt8Array
from fusioncam.runtime.picture.colors import DEFAULT_COLORMAP
from fusioncam.runtime.picture.facts import LEAST_BESIDE, Badge, Facts, Headline
from fusioncam.runtime.picture.legend import (
    Legend,
    difference_legend,
    draw_legend,
    make_legend,
    round_corners,
)
from fusioncam.runtime.picture.projection import PICTURE_SIDES, project
from fusioncam.runtime.picture.styles import (
    DEFAULT_OPACITY,
    DEFAULT_TOP,
    DrawOptions,
    difference_scale,
    lay,
    outlined,
)
from fusioncam.runtime.picture.text import TextStyle, wrap, write
from fusioncam.runtime.picture.titles import method_title, probability_title

MARGIN, GAP = 32, 20
MIN_COLUMN = 128
LEGEND_RANGE, LEGEND_GAP = (160, 256), 10
MIN_SHEET, MAX_SHEET = 520, 1500

TILE_TITLE = TextStyle(16, 500, (31, 41, 55))


class _Tile(NamedTuple):
    """A picture between its title and a legend of its own."""

    title: str
    picture: UInt8Array
    legend: Legend | None = None


class _Grid(NamedTuple):
    """Places of tiles: each (height, width) below a title of some lines, in columns of `column` pixels."""

    height: int
    width: int
    columns: int
    rows: int
    lines: int
    column: int
    below: int  # pixels of each tile's own legend

    @property
    def pitch(self) -> int:
        return self.column + GAP

    @property
    def row(self) -> int:
        return self.lines * TILE_TITLE.leading + 8 + self.height + self.below + GAP


def _grid(
    shape: Sequence[int], titles: Sequence[str], legends: Sequence[Legend], sides: tuple[int, int] = PICTURE_SIDES
) -> _Grid:
    (height, width), (least, most) = shape[:2], sides
    scale = min(max(least / max(height, width), 1), most / max(height, width))
    tile_h, tile_w = (max(round(scale * side), 1) for side in (height, width))
    column = max(tile_w, LEGEND_RANGE[0] if legends else MIN_COLUMN)
    rows = math.ceil(len(titles) / max((MAX_SHEET - 2 * MARGIN + GAP) // (column + GAP), 1))
    lines = max(len(_title_lines(title, column)) for title in titles)
    below = max((LEGEND_GAP + legend.height(column) for legend in legends), default=0)
    return _Grid(tile_h, tile_w, math.ceil(len(titles) / rows), rows, max(lines, 1), column, below)


def _title_lines(title: str, width: int) -> list[str]:
    return wrap(title, TILE_TITLE, width, 2)


def _resized(image: UInt8Array | Float32Array, grid: _Grid) -> Array:
    smooth = cv2.INTER_CUBIC if grid.height > image.shape[0] else cv2.INTER_AREA
    return cv2.resize(image, (grid.width, grid.height), interpolation=smooth)


def _draw_tiles(sheet: UInt8Array, top: int, grid: _Grid, tiles: Sequence[_Tile]) -> None:
    """Draw pictures, each between its title and its own legend."""
    for i, (title, picture, legend) in enumerate(tiles):
        x, y = MARGIN + i % grid.columns * grid.pitch, top + i // grid.columns * grid.row
        lines = _title_lines(title, grid.column)
        for n, line in enumerate(lines, grid.lines - len(lines)):
            write(sheet, line, x, y + n * TILE_TITLE.leading, TILE_TITLE)
        y += grid.lines * TILE_TITLE.leading + 8
        sheet[y : y + grid.height, x : x + grid.width] = round_corners(picture)
        if legend is not None:
            draw_legend(sheet, x, y + grid.height + LEGEND_GAP, grid.column, legend)


def tile_of(photo: Array) -> Array:
    """Return a photo (H, W, 3) as the panel shows it, at most 400 pixels long; a panel of it has the same pixels.

    A signal (L, C) and a volume (D, H, W, 3) stay as they are.
    """
    if photo.ndim != 3:
        return photo.copy()
    grid = _grid(photo.shape, ["Input"], [])
    if max(photo.shape[:2]) <= PICTURE_SIDES[1]:
        return photo.copy()
    return np.asarray(_resized(photo, grid), np.uint8)


def panel(
    photo: Array,
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
    facts: Mapping[str, str] | None = None,
    verdict: Badge | None = None,
    region: Float32Array | None = None,
) -> UInt8Array:
    """Draw the panel: headline, the photo, each map over it, and below them a legend of the colours, facts and notes.

    Small inputs are enlarged. Text that does not fit is wrapped, then shortened with an ellipsis.

    Args:
        photo: (H, W, 3) uint8 RGB, the part of a photo that the model saw, at which the maps are; the numbers
            (L, C) of a signal, or the slices (D, H, W, 3) of a volume.
        maps: (H, W) float32 in [0, 1] by method, in the order to show; in [-1, 1] where they are differences. Of a
            signal (L,), of a volume (D, H, W).
        title: The class name.
        probability: Probability of the class, in [0, 1]; shown behind its name.
        notes: Flags and remarks, a line or more each.
        colormap: A name in COLORMAPS.
        opacity: As for `overlay`.
        style: As for `overlay`; differences always have their own colours.
        top: As for `overlay`.
        between: For differences of two classes, the names of the first and of the second. Each difference has colours
            up to its own largest value, and a bar of its own that says it.
        facts: Where the maps come from, such as the model: a line each, by its label.
        verdict: The verdict on a map.
        region: How much of each pixel (H, W) lies in the region that is explained, in [0, 1]; it gets an outline.

    Returns:
        (height, width, 3) uint8 RGB; the same arguments give the same pixels.

    Raises:
        UsageError: There is no such colour map, opacity, style or share.
    """
    options = DrawOptions(colormap, opacity, style, top)
    legends = {} if between is None else {method: difference_legend(m, between) for method, m in maps.items()}
    flat = project(photo, maps)
    grid = _grid(flat.picture.shape, [flat.caption, *map(method_title, maps)], list(legends.values()), flat.sides)
    base = flat.parted(np.asarray(_resized(flat.picture, grid), np.uint8))

    def draw(method: str) -> UInt8Array:
        resized = np.asarray(_resized(flat.maps[method], grid), np.float32)
        scale = None if between is None else difference_scale(maps[method])
        return _outlined(flat.parted(lay(base, resized, options, scale, behind=flat.is_chart)), region, grid)

    tiles = [_Tile(method_title(m), draw(m), legends.get(m)) for m in maps]
    tiles.insert(0, _Tile(flat.caption, _outlined(base, region, grid)))
    headline = Headline(title, "" if probability is None else probability_title(probability), verdict)
    legend = make_legend(colormap, style, float(options.top)) if between is None else None
    return _sheet(grid, headline, tiles, Facts(facts or {}, notes), legend)


def _outlined(drawn: UInt8Array, region: Float32Array | None, grid: _Grid) -> UInt8Array:
    return drawn if region is None else outlined(drawn, np.asarray(_resized(region, grid), np.float32))


def _sheet(grid: _Grid, headline: Headline, tiles: Sequence[_Tile], facts: Facts, legend: Legend | None) -> UInt8Array:
    """Draw headline, tiles, facts and legend on white; facts stand beside the legend, or below it on a narrow sheet."""
    width = max(grid.columns * grid.pitch - GAP, MIN_SHEET - 2 * MARGIN)
    tiles_top = MARGIN - 6 + headline.height(width) + GAP + 2
    foot = tiles_top + grid.rows * grid.row
    bar = min(max(grid.column, LEGEND_RANGE[0]), LEGEND_RANGE[1])
    below = foot + (legend.height(bar) + GAP if legend else 0)
    beside = width - bar - 2 * GAP
    facts_top, facts_width = (foot, beside) if legend and beside >= LEAST_BESIDE else (below, width)
    end = max(below - GAP, facts_top + facts.height(facts_width))
    sheet = np.full((end + MARGIN - 8, width + 2 * MARGIN, 3), 255, np.uint8)
    headline.draw(sheet, MARGIN, MARGIN - 6, width)
    _draw_tiles(sheet, tiles_top, grid, tiles)
    facts.draw(sheet, MARGIN, facts_top, facts_width)
    if legend is not None:
        draw_legend(sheet, MARGIN + width - bar, foot, bar, legend)
    return sheet
