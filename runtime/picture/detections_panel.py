"""The panel of detections: the photo with all of them, and below it a row for each, with its maps."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Float32Array, UInt8Array
from fusioncam.runtime.picture.facts import VALUE, Badge, Facts, Headline
from fusioncam.runtime.picture.legend import SMALL, draw_legend, make_legend, round_corners
from fusioncam.runtime.picture.marks import TAG_WEIGHT, Mark, Rgb, draw_marks, draw_tag, tag_size
from fusioncam.runtime.picture.panel import GAP, LEGEND_RANGE, MARGIN, TILE_TITLE
from fusioncam.runtime.picture.styles import DrawOptions, lay, outlined
from fusioncam.runtime.picture.text import TextStyle, wrap, write
from fusioncam.runtime.picture.titles import method_title
from fusioncam.runtime.picture.windows import Window, close_up, cut, cut_map, fitted, whole, with_evidence

PHOTO_HEIGHT, PHOTO_WIDTHS = 460, (400, 680)  # of the photo with all detections, at most
BESIDE = 300  # least width of the facts beside it
ROOM, LOW_ROOM, FEW = (220, 240), (160, 200), 4  # of a tile, where there are few rows and where there are more
ROW_TAG = TextStyle(15, TAG_WEIGHT, (17, 24, 39))
DETAIL = "Detail"
LARGER = 1.1  # times the scale of the maps, from which on the title of the detail says it


class DetectionRow(NamedTuple):
    """A target of a detector on its panel.

    Attributes:
        title: Its class and score.
        detail: Where it is, and what else tells it from the others.
        color: That of its class.
        marks: Its detections on the photo, without tags.
        maps: Maps (h, w) in [0, 1] over the photo, by method.
        region: How much of each pixel (h, w) lies in its region, in [0, 1]; it gets an outline.
        badge: The verdict on its map.
        notes: What else is to be said of its maps.
    """

    title: str
    detail: str
    color: Rgb
    marks: Sequence[Mark]
    maps: Mapping[str, Float32Array]
    region: Float32Array | None = None
    badge: Badge | None = None
    notes: Sequence[str] = ()


class _Strip(NamedTuple):
    """A row of the sheet: its heading, and tiles by their titles."""

    row: DetectionRow
    tiles: Mapping[str, UInt8Array]

    def heading(self, width: int) -> list[str]:
        """Return the lines below the title."""
        return [line for note in self.row.notes for line in wrap(note, VALUE, width, 3)]

    def height(self, width: int) -> int:
        """Return its height in pixels."""
        badge = self.row.badge.height(width) + 8 if self.row.badge else 0
        head = tag_size(self.row.title, ROW_TAG)[1] + len(self.heading(width)) * VALUE.leading + badge + 8
        return head + TILE_TITLE.leading + 6 + max(len(tile) for tile in self.tiles.values()) + GAP + 8

    def draw(self, sheet: UInt8Array, top: int, width: int, pitch: int) -> None:
        """Draw it on a sheet, from `top` on."""
        row, (across, down) = self.row, tag_size(self.row.title, ROW_TAG)
        draw_tag(sheet, row.title, row.color, (MARGIN, top), ROW_TAG)
        for line in wrap(row.detail, SMALL, width - across - 12, 1):
            write(sheet, line, MARGIN + across + 12, top + (down - SMALL.leading) // 2, SMALL)
        top += down
        for line in self.heading(width):
            write(sheet, line, MARGIN, top + 4, VALUE)
            top += VALUE.leading
        if row.badge is not None:
            row.badge.draw(sheet, MARGIN, top + 8, width)
            top += row.badge.height(width) + 8
        top += 8
        for n, (title, tile) in enumerate(self.tiles.items()):
            left = MARGIN + n * pitch
            for line in wrap(title, TILE_TITLE, pitch - GAP // 2, 1):
                write(sheet, line, left, top, TILE_TITLE)
            put(sheet, tile, left, top + TILE_TITLE.leading + 6)


def detections_panel(
    photo: UInt8Array,
    rows: Sequence[DetectionRow],
    headline: Headline,
    facts: Facts,
    options: DrawOptions,
    subject: str = "the class",
) -> UInt8Array:
    """Draw the panel of detections: the photo with their boxes, a legend and facts beside it, and a row for each.

    A row begins with the detection itself, enlarged. Its maps lie on the part of the photo that holds the detection and
    what the first map shows most, or on all of it.

    Args:
        photo: (H, W, 3) uint8 RGB, the part of a photo that the model saw.
        rows: What was explained.
        headline: The title of the sheet.
        facts: Where the maps come from.
        options: The way maps are drawn.
        subject: What the maps are evidence for.

    Returns:
        (height, width, 3) uint8 RGB; the same arguments give the same pixels.
    """
    size, room = (photo.shape[0], photo.shape[1]), ROOM if len(rows) <= FEW else LOW_ROOM
    strips = [_Strip(row, _tiles(photo, row, options, room)) for row in rows]
    pitch = max((t.shape[1] for strip in strips for t in strip.tiles.values()), default=0) + GAP
    width = max([len(strip.tiles) * pitch - GAP for strip in strips] + [PHOTO_WIDTHS[0] + 2 * GAP + BESIDE])
    of_photo = fitted(whole(size), (PHOTO_HEIGHT, min(width - 2 * GAP - BESIDE, PHOTO_WIDTHS[1])))
    left, beside = MARGIN + of_photo[1] + 2 * GAP, width - of_photo[1] - 2 * GAP
    legend = make_legend(options.colormap, options.style, float(options.top), subject)
    photo_top = MARGIN - 6 + headline.height(width) + GAP
    facts_top = photo_top + legend.height(LEGEND_RANGE[1]) + GAP
    rows_top = max(photo_top + of_photo[0], facts_top + facts.height(beside)) + GAP + 8
    heights = [strip.height(width) for strip in strips]
    sheet = np.full((rows_top + sum(heights) - GAP + MARGIN - 8, width + 2 * MARGIN, 3), 255, np.uint8)
    headline.draw(sheet, MARGIN, MARGIN - 6, width)
    put(sheet, _with_all(photo, rows, of_photo), MARGIN, photo_top)
    draw_legend(sheet, left, photo_top, LEGEND_RANGE[1], legend)
    facts.draw(sheet, left, facts_top, beside)
    for strip, height in zip(strips, heights, strict=True):
        strip.draw(sheet, rows_top, width, pitch)
        rows_top += height
    return sheet


def _with_all(photo: UInt8Array, rows: Sequence[DetectionRow], size: tuple[int, int]) -> UInt8Array:
    """Return the photo (h, w) with all detections; the only one of a row has its title."""
    window = whole((photo.shape[0], photo.shape[1]))
    marks = [
        mark._replace(tag=mark.tag or (row.title if len(row.marks) == 1 else "")) for row in rows for mark in row.marks
    ]
    return draw_marks(cut(photo, window, size), [mark.moved(window, size) for mark in marks])


def put(sheet: UInt8Array, tile: UInt8Array, left: int, top: int) -> None:
    """Draw a picture with round corners at (left, top)."""
    sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = round_corners(tile)


def _tiles(photo: UInt8Array, row: DetectionRow, options: DrawOptions, room: tuple[int, int]) -> dict[str, UInt8Array]:
    """Return the tiles of a row by their titles: the detection, then its maps."""
    size = photo.shape[0], photo.shape[1]
    outlines = np.concatenate([mark.outline for mark in row.marks] or [np.zeros((1, 2))])
    hull = (*outlines.min(axis=0).tolist(), *outlines.max(axis=0).tolist())
    first = next(iter(row.maps.values()), np.zeros((1, 1), np.float32))
    near, window = close_up(hull, size), with_evidence(hull, first, size)
    larger = _scale(near, room) / _scale(window, room)
    title = f"{DETAIL}, {larger:.1f} x as large" if larger >= LARGER else DETAIL
    tiles = {title: _tile(photo, near, row, None, options, room)}
    return tiles | {method_title(m): _tile(photo, window, row, m, options, room) for m in row.maps}


def _scale(window: Window, room: tuple[int, int]) -> float:
    """Return the pixels of a tile for one of the photo."""
    return max(fitted(window, room)) / max(window[2] - window[0], window[3] - window[1])


def _tile(
    photo: UInt8Array,
    window: Window,
    row: DetectionRow,
    method: str | None,
    options: DrawOptions,
    room: tuple[int, int],
) -> UInt8Array:
    """Return a window of the photo, with a map or without, and the detections of a row."""
    size, photo_size = fitted(window, room), (photo.shape[0], photo.shape[1])
    drawn = cut(photo, window, size)
    if method is not None:
        drawn = lay(drawn, cut_map(row.maps[method], window, photo_size, size), options)
    if row.region is not None:
        drawn = outlined(drawn, cut_map(row.region, window, photo_size, size).clip(0, 1))
    return draw_marks(drawn, [mark.moved(window, size)._replace(tag="") for mark in row.marks])
