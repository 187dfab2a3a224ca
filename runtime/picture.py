"""The panel people look at: the photo, each map laid over it, and what was found, on one white sheet."""

import math
import threading
from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from fusioncam.errors import UsageError
from fusioncam.kernels import reference

UInt8Array: TypeAlias = NDArray[np.uint8]
Float32Array: TypeAlias = NDArray[np.float32]

METHOD_TITLES = {
    "fusion_cam": "Fusion-CAM",
    "grad_cam": "Grad-CAM",
    "grad_cam_pp": "Grad-CAM++",
    "grad_cam_plus_plus": "Grad-CAM++",
    "xgrad_cam": "XGrad-CAM",
    "hires_cam": "HiRes-CAM",
    "layer_cam": "Layer-CAM",
    "score_cam": "Score-CAM",
    "group_cam": "Group-CAM",
    "union_cam": "Union-CAM",
    "recipro_cam": "Recipro-CAM",
}
COLORMAPS = {
    "inferno": cv2.COLORMAP_INFERNO,
    "magma": cv2.COLORMAP_MAGMA,
    "plasma": cv2.COLORMAP_PLASMA,
    "turbo": cv2.COLORMAP_TURBO,
    "viridis": cv2.COLORMAP_VIRIDIS,
}
# The brightness steps of plasma are even, and none of its colours is common in photos.
DEFAULT_COLORMAP = "plasma"

MARGIN, GAP = 32, 20
# The longer side of a tile is brought into this range; a sheet is at least as wide as its headline needs.
TILE_RANGE = 256, 400
MIN_COLUMN = 128
MIN_SHEET, MAX_SHEET = 520, 1500
CORNER = 6
BAR_HEIGHT = 12


class Style(NamedTuple):
    """A text style: size in pixels, weight 100..1000, RGB colour."""

    size: int
    weight: int
    color: tuple[int, int, int]

    @property
    def leading(self) -> int:
        """Distance between two lines, in pixels."""
        return round(1.35 * self.size)


HEADLINE = Style(26, 600, (17, 24, 39))
PROBABILITY = Style(26, 400, (107, 114, 128))
TILE_TITLE = Style(16, 500, (31, 41, 55))
SMALL = Style(14, 400, (107, 114, 128))


class _Font(threading.local):
    """One font per thread: two threads that share one draw each other's glyphs; making one takes 2 ms."""

    def __init__(self) -> None:
        self.face = cv2.FontFace("sans")


_FONT = _Font()


def method_title(method: str) -> str:
    """The name a method goes by in print: `fusion_cam` -> `Fusion-CAM`; unknown names lose their underscores."""
    return METHOD_TITLES.get(method, method.replace("_", " "))


def overlay(
    photo: UInt8Array, saliency: Float32Array, colormap: str = DEFAULT_COLORMAP, opacity: float = 0.7
) -> UInt8Array:
    """Lays a map over a photo. Opacity grows with saliency, so that the photo stays visible where nothing is salient.

    The photo's own colours are muted first, or a red bird would look like evidence.

    Args:
        photo: (H, W, 3) uint8 RGB.
        saliency: (H, W) float32 in [0, 1]; NaN counts as 0.
        colormap: A name in COLORMAPS.
        opacity: Of the colours where saliency is 0.4 or more, in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: There is no such colour map or opacity.
    """
    colors = color_table(colormap)
    return np.asarray(reference.overlay(photo, saliency, colors, checked_opacity(opacity)), np.uint8)


def checked_opacity(given: Any) -> float:
    """The opacity asked for; raises UsageError where it is no number from 0 to 1."""
    real = isinstance(given, Real)
    if not real or not 0 <= given <= 1:
        raise UsageError("opacity must be a number from 0 to 1")
    return float(given)


def color_table(colormap: str) -> UInt8Array:
    """The colours (256, 3) RGB of a map from 0 to 1; raises UsageError where there is no such colour map."""
    return np.asarray(_colors(np.linspace(0, 1, 256, dtype=np.float32)[None], colormap)[0], np.uint8)


def colormap_code(name: str) -> int:
    """OpenCV's number of a colour map; raises UsageError where there is none of that name."""
    if not isinstance(name, str) or name not in COLORMAPS:
        raise UsageError(f"no colour map {name!r}: choose one of {', '.join(COLORMAPS)}")
    return COLORMAPS[name]


def _colors(value: Float32Array, colormap: str) -> UInt8Array:
    bgr = cv2.applyColorMap(np.rint(value * 255).astype(np.uint8), colormap_code(colormap))
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)


def _width(text: str, style: Style) -> int:
    x, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), _FONT.face, style.size, style.weight)
    return x + width


def _cut(text: str, style: Style, width: int) -> int:
    """How many characters of `text`, from its start, fit into `width` pixels."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _width(text[:middle], style) <= width else (low, middle - 1)
    return low


def _shorten(text: str, style: Style, width: int) -> str:
    if _width(text, style) <= width:
        return text
    return text[: _cut(text, style, width - _width("…", style))].rstrip() + "…"


def _wrap(text: str, style: Style, width: int, most: int) -> list[str]:
    """Breaks text at spaces, or within a word wider than a line, into at most `most` lines; the last may be cut."""
    rest = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    lines: list[str] = []
    while rest and len(lines) < most - 1:
        fits = _cut(rest, style, width)
        if fits < len(rest):
            space = rest.rfind(" ", 0, fits + 1)
            fits = space if space > 0 else max(fits, 1)
        lines.append(rest[:fits])
        rest = rest[fits:].lstrip()
    return [*lines, _shorten(rest, style, width)] if rest else lines


def _write(sheet: UInt8Array, text: str, left: int, top: int, style: Style) -> None:
    """Draws one line whose box begins at (left, top)."""
    cv2.putText(sheet, text, (left, top + style.size), style.color, _FONT.face, style.size, style.weight)


def _round_corners(tile: UInt8Array) -> UInt8Array:
    height, width = tile.shape[:2]
    y, x = (np.maximum(CORNER - 0.5 - np.minimum(np.arange(n), np.arange(n)[::-1]), 0) for n in (height, width))
    inside = (CORNER + 0.5 - np.hypot(y[:, None], x)).clip(0, 1)[..., None]
    return np.asarray(np.rint(255 + inside * (tile - 255.0)), np.uint8)


class _Grid(NamedTuple):
    """Where tiles go: each (height, width), in columns of `pitch` pixels."""

    height: int
    width: int
    columns: int
    rows: int

    @property
    def pitch(self) -> int:
        return max(self.width, MIN_COLUMN) + GAP

    @property
    def row(self) -> int:
        return TILE_TITLE.leading + 8 + self.height + GAP


def _grid(height: int, width: int, tiles: int) -> _Grid:
    scale = min(max(TILE_RANGE[0] / max(height, width), 1), TILE_RANGE[1] / max(height, width))
    tile_h, tile_w = (max(round(scale * side), 1) for side in (height, width))
    most = max((MAX_SHEET - 2 * MARGIN + GAP) // (max(tile_w, MIN_COLUMN) + GAP), 1)
    rows = math.ceil(tiles / most)
    return _Grid(tile_h, tile_w, math.ceil(tiles / rows), rows)


def _resized(image: UInt8Array | Float32Array, grid: _Grid) -> NDArray[np.generic]:
    smooth = cv2.INTER_CUBIC if grid.height > image.shape[0] else cv2.INTER_AREA
    return cv2.resize(image, (grid.width, grid.height), interpolation=smooth)


def _draw_headline(sheet: UInt8Array, lines: Sequence[str], chance: str) -> None:
    """The class name, and its probability behind the last line."""
    left, top = MARGIN, MARGIN - 6
    for i, line in enumerate(lines):
        top = MARGIN - 6 + i * HEADLINE.leading
        left = MARGIN + _width(line, HEADLINE) + 14
        _write(sheet, line, MARGIN, top, HEADLINE)
    _write(sheet, chance, left, top, PROBABILITY)


def _draw_tiles(
    sheet: UInt8Array, top: int, grid: _Grid, photo: UInt8Array, maps: Mapping[str, Float32Array], colormap: str
) -> None:
    """The photo, then the photo under each map, each below its title."""
    base = np.asarray(_resized(photo, grid), np.uint8)
    tiles = [("Input", base)]
    for method, saliency in maps.items():
        resized = np.asarray(_resized(saliency, grid), np.float32)
        tiles.append((method_title(method), overlay(base, resized, colormap)))
    for i, (title, tile) in enumerate(tiles):
        x, y = MARGIN + i % grid.columns * grid.pitch, top + i // grid.columns * grid.row
        for line in _wrap(title, TILE_TITLE, grid.pitch - GAP, 1):
            _write(sheet, line, x, y, TILE_TITLE)
        y += TILE_TITLE.leading + 8
        sheet[y : y + grid.height, x : x + grid.width] = _round_corners(tile)


def _draw_color_bar(sheet: UInt8Array, left: int, top: int, width: int, colormap: str) -> None:
    """A bar from 0 to 1 with its ends named below."""
    ramp = np.tile(np.linspace(0, 1, width, dtype=np.float32), (BAR_HEIGHT, 1))
    sheet[top : top + BAR_HEIGHT, left : left + width] = _round_corners(_colors(ramp, colormap))
    for tick in ("0", "0.5", "1"):
        x = round(float(tick) * (width - 1))
        cv2.line(sheet, (left + x, top + BAR_HEIGHT + 2), (left + x, top + BAR_HEIGHT + 5), SMALL.color)
        text = _width(tick, SMALL)
        _write(sheet, tick, left + min(max(x - text // 2, 0), width - text), top + BAR_HEIGHT + 6, SMALL)


def panel(
    photo: UInt8Array,
    maps: Mapping[str, Float32Array],
    title: str,
    probability: float | None = None,
    notes: Sequence[str] = (),
    colormap: str = DEFAULT_COLORMAP,
) -> UInt8Array:
    """Draws the panel: headline, the photo, each map over it, and below a colour bar and any notes.

    Small inputs are enlarged. Text that would not fit is wrapped, then shortened with an ellipsis.

    Args:
        photo: (H, W, 3) uint8 RGB, what the model saw, so that the maps lie on it.
        maps: (H, W) float32 in [0, 1] by method, in the order to show.
        title: The class name.
        probability: Of the class, in [0, 1]; shown behind its name.
        notes: Flags and remarks, a line or more each.
        colormap: A name in COLORMAPS.

    Returns:
        (height, width, 3) uint8 RGB; the same arguments give the same pixels.

    Raises:
        UsageError: There is no such colour map.
    """
    grid = _grid(photo.shape[0], photo.shape[1], len(maps) + 1)
    width = max(grid.columns * grid.pitch - GAP, MIN_SHEET - 2 * MARGIN)
    bar_width = min(max(grid.width, MIN_COLUMN), TILE_RANGE[0])
    chance = "" if probability is None else "< 0.01" if 0 < probability < 0.005 else f"{probability:.2f}"
    headline = _wrap(title, HEADLINE, width - _width(chance, PROBABILITY) - GAP, 2)
    remarks = [line for note in notes for line in _wrap(note, SMALL, width - bar_width - 2 * GAP, 3)]
    tiles_top = MARGIN + max(len(headline), 1) * HEADLINE.leading + GAP - 4
    foot_top = tiles_top + grid.rows * grid.row
    foot = max(BAR_HEIGHT + 6 + SMALL.leading, len(remarks) * SMALL.leading)
    sheet = np.full((foot_top + foot + MARGIN - 8, width + 2 * MARGIN, 3), 255, np.uint8)
    _draw_headline(sheet, headline, chance)
    _draw_tiles(sheet, tiles_top, grid, photo, maps, colormap)
    for i, line in enumerate(remarks):
        _write(sheet, line, MARGIN, foot_top + i * SMALL.leading - 2, SMALL)
    _draw_color_bar(sheet, MARGIN + width - bar_width, foot_top, bar_width, colormap)
    return sheet
