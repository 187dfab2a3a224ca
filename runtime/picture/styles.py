"""Ways to lay a map over a photo, of any size: in colours, as iso-lines, or as the outline of its top share."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from numbers import Real
from typing import Any, NamedTuple

import cv2
import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels import reference
from fusioncam.kernels.arrays import BoolArray, Float32Array, UInt8Array
from fusioncam.runtime.picture.colors import DEFAULT_COLORMAP, color_table, colormap_code, difference_tables
from fusioncam.runtime.picture.outline import edge_distance, stroke

LEVELS = (0.25, 0.5, 0.75)
DEFAULT_OPACITY, DEFAULT_TOP = 0.7, 20.0
# Pixels drawn at a time, and the most of them in a row: bounds the memory of large photos, and lines are searched only
# near edges.
BAND, ACROSS = 1 << 20, 1 << 10
# Least width of a line in pixels, and the number of lines that fit side by side into a picture.
THINNEST, LINES = 1.8, 180
CASING, WHITE = np.array((17, 24, 39), np.uint8), np.array((255, 255, 255), np.uint8)
CASING_WIDTH, CASING_STRENGTH = 2, 0.55  # in widths of the line; opacity
HALF = 0.5  # share of a pixel that lies in a region, from which on the pixel counts as part of it
DIM = 0.35  # brightness of the photo outside of the top share
# The largest difference of a map gets full colours, but for one below LEAST_SCALE. Of one below NO_DIFFERENCE, none is
# drawn: guessed scores alone may move a map by as much.
LEAST_SCALE, NO_DIFFERENCE = 0.05, 0.005


class _Pen(NamedTuple):
    """Settings of a style: colours (256, 3), opacity 0..1, percent of the pixels, width of lines in pixels."""

    colors: UInt8Array
    opacity: float
    top: float
    line: float


_Part = tuple[slice, slice]
# Draws some rows and columns of a photo, given the pixels and their place.
_Painter = Callable[[UInt8Array, _Part], UInt8Array]


def _heat(saliency: Float32Array, pen: _Pen) -> _Painter:
    """Return a painter of colours whose opacity grows with saliency."""
    return lambda photo, part: _painted(photo, saliency[part], pen.colors, pen.opacity)


def _contour(saliency: Float32Array, pen: _Pen) -> _Painter:
    """Return a painter of iso-lines in the colours of their levels over a faded photo."""

    def paint(photo: UInt8Array, part: _Part) -> UInt8Array:
        drawn, values = _fade(photo, pen.opacity, 1), saliency[part]
        for level in LEVELS:
            _draw_line(drawn, edge_distance(values, level, values >= level), pen.line, pen.colors[round(level * 255)])
        return drawn

    return paint


def _top(saliency: Float32Array, pen: _Pen) -> _Painter:
    """Return a painter that outlines the top share of the photo, and makes the rest darker and grey."""
    region = top_pixels(saliency, pen.top)
    level = float(saliency[region].min(initial=2))

    def paint(photo: UInt8Array, part: _Part) -> UInt8Array:
        drawn = _fade(photo, pen.opacity, DIM)
        drawn[region[part]] = photo[region[part]]
        _draw_line(drawn, edge_distance(saliency[part], level, region[part]), pen.line, WHITE)
        return drawn

    return paint


STYLES: dict[str, Callable[[Float32Array, _Pen], _Painter]] = {"heat": _heat, "contour": _contour, "top": _top}


@dataclass(frozen=True)
class DrawOptions:
    """The way maps are drawn: the options of `overlay`, which explains them.

    Raises:
        UsageError: There is no such colour map, opacity, style or share.
    """

    colormap: str = DEFAULT_COLORMAP
    opacity: float = DEFAULT_OPACITY
    style: str = "heat"
    top: float = DEFAULT_TOP

    def __post_init__(self) -> None:
        colormap_code(self.colormap)
        checked_opacity(self.opacity)
        if not isinstance(self.style, str) or self.style not in STYLES:
            raise UsageError(f"no style {self.style!r}: choose one of {', '.join(STYLES)}")
        _checked_top(self.top)


def overlay(
    photo: UInt8Array,
    saliency: Float32Array,
    colormap: str = DEFAULT_COLORMAP,
    opacity: float = DEFAULT_OPACITY,
    *,
    style: str = "heat",
    top: float = DEFAULT_TOP,
) -> UInt8Array:
    """Lay a map over a photo. Where nothing is salient the photo stays visible, in every style.

    `heat` paints the map in colours; the photo's own colours are muted first, or a red bird would look like evidence.
    `contour` draws iso-lines at LEVELS. `top` outlines the most salient pixels and darkens the others.

    Args:
        photo: (H, W, 3) uint8 RGB.
        saliency: (H, W) float32 in [0, 1]; NaN counts as 0.
        colormap: A name in COLORMAPS.
        opacity: In [0, 1]. In `heat`, opacity of the colours where saliency is 0.4 or more; in the other styles, degree
            to which the photo, or its part outside of the outline, fades.
        style: A name in STYLES.
        top: Percent of the pixels that `top` outlines, as `top_pixels` counts them.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: There is no such colour map, opacity, style or share, or the photo has not three channels.
    """
    options = DrawOptions(colormap, opacity, style, top)
    if photo.ndim != 3 or photo.shape[2] != 3:
        shape = " x ".join(map(str, photo.shape))
        raise UsageError(
            f"an overlay needs a photo (H, W, 3), not one of {shape}: choose three bands, as Explainer(bands=...), "
            "--bands and photo[..., [3, 2, 1]] do"
        )
    line = max(math.sqrt(saliency.size) / LINES, THINNEST)
    pen = _Pen(color_table(colormap), float(options.opacity), float(options.top), line)
    value = np.nan_to_num(saliency.astype(np.float32, copy=False)).clip(0, 1)
    # The margin of a piece is as wide as a line, casing included, as a line is wrong near the edge of a piece.
    return _in_pieces(photo, STYLES[style](value, pen), 0 if style == "heat" else math.ceil(CASING_WIDTH * line) + 2)


def lay(
    picture: UInt8Array,
    saliency: Float32Array,
    options: DrawOptions,
    scale: float | None = None,
    *,
    behind: bool = False,
) -> UInt8Array:
    """Lay a map over a picture, or behind the lines of a chart.

    Args:
        picture: (H, W, 3) uint8 RGB.
        saliency: (H, W) float32.
        options: The way maps are drawn.
        scale: For the difference of two maps, see `overlay_difference`.
        behind: Whether the picture is a chart on white, whose lines stay as they are.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    base = np.full_like(picture, 255) if behind else picture
    if scale is None:
        drawn = overlay(base, saliency, options.colormap, options.opacity, style=options.style, top=options.top)
    else:
        drawn = overlay_difference(base, saliency, options.opacity, scale=scale)
    return np.asarray(drawn.astype(np.uint16) * picture // 255, np.uint8) if behind else drawn


def difference_scale(signed: Float32Array) -> float:
    """Return the value of a difference that gets full colours: the largest |d|, at least LEAST_SCALE.

    Args:
        signed: (H, W) float32 in [-1, 1], or of another number of axes; NaN counts as 0.

    Returns:
        The value; 0 where no |d| reaches NO_DIFFERENCE: there is nothing to show.
    """
    largest = float(np.abs(_signed(signed)).max(initial=0))
    return max(largest, LEAST_SCALE) if largest >= NO_DIFFERENCE else 0.0


def overlay_difference(
    photo: UInt8Array, signed: Float32Array, opacity: float = DEFAULT_OPACITY, *, scale: float | None = None
) -> UInt8Array:
    """Lay a difference of two maps over a photo: orange where the first is larger, blue where the second is.

    Args:
        photo: (H, W, 3) uint8 RGB.
        signed: (H, W) float32 in [-1, 1]; NaN counts as 0.
        opacity: Opacity of the colours where the maps differ by 0.4 of the scale or more, in [0, 1].
        scale: Difference that gets full colours, by default `difference_scale`; 0 draws none.

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        UsageError: There is no such opacity.
    """
    against, for_it = difference_tables()
    opacity, value = checked_opacity(opacity), _signed(signed)
    scale = difference_scale(value) if scale is None else scale
    value = (value / np.float32(scale)).clip(-1, 1) if scale else np.zeros_like(value)

    def paint(pixels: UInt8Array, part: _Part) -> UInt8Array:
        drawn = _painted(pixels, value[part], for_it, opacity)
        negative = value[part] < 0
        drawn[negative] = _painted(pixels[negative], -value[part][negative], against, opacity)
        return drawn

    return _in_pieces(photo, paint, 0)


def outlined(photo: UInt8Array, share: Float32Array) -> UInt8Array:
    """Draw the outline of a region over a photo.

    Args:
        photo: (H, W, 3) uint8 RGB.
        share: How much of each pixel lies in the region (H, W), in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.
    """
    line = max(math.sqrt(share.size) / LINES, THINNEST)

    def paint(pixels: UInt8Array, part: _Part) -> UInt8Array:
        drawn, values = pixels.copy(), share[part]
        _draw_line(drawn, edge_distance(values, HALF, values >= HALF), line, WHITE)
        return drawn

    return _in_pieces(photo, paint, math.ceil(CASING_WIDTH * line) + 2)


def _signed(signed: Float32Array) -> Float32Array:
    """Return differences within -1..1, zeros in place of NaN."""
    return np.nan_to_num(signed.astype(np.float32, copy=False)).clip(-1, 1)


def top_pixels(saliency: Float32Array, percent: float) -> BoolArray:
    """Return the most salient pixels of a map: a share of all, rounded to whole pixels, at least one.

    Of equal pixels at the limit, higher ones count first, then those further left. Pixels of saliency 0 or less never
    count, so a map with few salient pixels gives fewer, and a blank map none.

    Args:
        saliency: (H, W) float32, no NaN.
        percent: Of the pixels, above 0 and up to 100.

    Returns:
        (H, W) bool.

    Raises:
        UsageError: There is no such share.
    """
    count = max(round(saliency.size * _checked_top(percent) / 100), 1)
    least = np.partition(saliency, saliency.size - count, axis=None)[saliency.size - count]
    chosen = saliency > max(least, 0)
    if least > 0:
        ties = np.flatnonzero(saliency == least)
        chosen.flat[ties[: count - np.count_nonzero(chosen)]] = True
    return np.asarray(chosen, np.bool_)


def checked_opacity(opacity: Any) -> float:
    """Return an opacity as a float; raises UsageError where it is no number from 0 to 1."""
    is_real = isinstance(opacity, Real)
    if not is_real or not 0 <= opacity <= 1:
        raise UsageError("opacity must be a number from 0 to 1")
    return float(opacity)


def _checked_top(top: Any) -> float:
    """Return a percentage as a float; raises UsageError where it is no number above 0 and up to 100."""
    is_real = isinstance(top, Real)
    if not is_real or not 0 < top <= 100:
        raise UsageError("top must be a number of percent, above 0 and up to 100")
    return float(top)


def _painted(photo: UInt8Array, value: Float32Array, colors: UInt8Array, opacity: float) -> UInt8Array:
    return np.asarray(reference.overlay(photo, value, colors, opacity), np.uint8)


def _fade(photo: UInt8Array, share: float, brightness: float) -> UInt8Array:
    """Mix a photo with its grey picture of some brightness."""
    grey = cv2.cvtColor(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.addWeighted(photo, 1 - share, grey, share * brightness, 0), np.uint8)


def _draw_line(drawn: UInt8Array, distance: Float32Array, width: float, color: UInt8Array) -> None:
    """Draw an edge between two dark lines, so that it stands out from any photo."""
    near = distance < CASING_WIDTH * width / 2 + 0.5
    pixels, far = drawn[near].astype(np.float32), distance[near]
    for wide, strength, paint in ((CASING_WIDTH * width, CASING_STRENGTH, CASING), (width, 1, color)):
        pixels += np.float32(strength) * stroke(far, wide)[:, None] * (paint.astype(np.float32) - pixels)
    drawn[near] = np.rint(pixels)


def _in_pieces(photo: UInt8Array, paint: _Painter, margin: int) -> UInt8Array:
    """Paint a photo piece by piece, each with a margin of its neighbours that is dropped again."""
    height, width = photo.shape[:2]
    picture = np.empty_like(photo)
    across = min(max(ACROSS, BAND // height, margin), width)
    down = max(BAND // across, margin, 1)
    for top, left in product(range(0, height, down), range(0, width, across)):
        rows, columns = (
            slice(max(start - margin, 0), min(start + step + margin, end))
            for start, step, end in ((top, down, height), (left, across, width))
        )
        painted = paint(photo[rows, columns], (rows, columns))
        kept = painted[top - rows.start :, left - columns.start :][:down, :across]
        picture[top : top + down, left : left + across] = kept
    return picture
