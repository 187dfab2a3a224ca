"""Detections on a photo: boxes, rotated boxes, outlines of masks, keypoints, and tags that say what each is."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, Float64Array, UInt8Array
from fusioncam.runtime.picture.styles import CASING
from fusioncam.runtime.picture.text import TextStyle, text_width, write

Rgb = tuple[int, int, int]
Ink = Callable[[UInt8Array, Float64Array], None]  # draws on a cover (h, w) that begins at a point (2,)
Rect = tuple[int, int, int, int]  # left, top, right, bottom
# Of classes, one after the other. People who are colour-blind can tell neighbours apart (Okabe and Ito, "Color
# universal design", 2008), and none is a colour of plasma, so that no box looks like evidence.
COLORS: tuple[Rgb, ...] = (
    (86, 216, 255), (64, 224, 120), (255, 255, 255), (0, 150, 255), (190, 255, 90), (0, 184, 148), (200, 214, 229),
    (120, 170, 255),
)  # fmt: skip
INK: Rgb = (17, 24, 39)
TAG, TAG_WEIGHT = 13, 600  # the least size of letters in pixels
LETTERS, LINES = 55, 280  # letters and lines on a photo have these parts of its size, where that is more
THINNEST, DARK = 2, 0.75  # line in pixels; opacity of the dark lines beside it
PAD, APART = 4, 2  # pixels around the letters of a tag; between two tags
FINE = 4  # bits of a pixel's fraction, in which lines are drawn
DOT = 2.2  # radius of a keypoint, in widths of the line


class Mark(NamedTuple):
    """A detection to draw.

    Attributes:
        box: x1, y1, x2, y2 in pixels of the picture, whose edges are 0 and W, 0 and H.
        tag: Its class and score in a few words; none where it is empty.
        color: That of its class.
        corners: Of a rotated box (4, 2), which is drawn in place of the other.
        points: Keypoints (K, 2).
        contours: Outlines (n, 2) of the parts of its mask.
    """

    box: tuple[float, float, float, float]
    tag: str
    color: Rgb
    corners: Array | None = None
    points: Array | None = None
    contours: Sequence[Array] = ()

    def moved(self, window: "Sequence[float]", size: tuple[int, int]) -> "Mark":
        """Return the mark on a window x1, y1, x2, y2 of the picture that is drawn at a size (h, w)."""
        start = np.array(window[:2], np.float64)
        scale = np.array(size[::-1]) / (np.array(window[2:], np.float64) - start)

        def move(points: Array) -> Float64Array:
            return np.asarray((points - start) * scale, np.float64)

        x1, y1, x2, y2 = move(np.array(self.box).reshape(2, 2)).ravel().tolist()
        corners, points = (None if part is None else move(part) for part in (self.corners, self.points))
        contours = [move(contour) for contour in self.contours]
        return self._replace(box=(x1, y1, x2, y2), corners=corners, points=points, contours=contours)

    @property
    def outline(self) -> Float64Array:
        """Return the corners (4, 2) of its line."""
        if self.corners is not None:
            return np.asarray(self.corners, np.float64)
        x1, y1, x2, y2 = self.box
        return np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)], np.float64)


def color_of(class_index: int) -> Rgb:
    """Return the colour of a class."""
    return COLORS[class_index % len(COLORS)]


def letters(size: Sequence[int]) -> int:
    """Return the size of letters on a picture (h, w), in pixels."""
    return max(TAG, round(math.sqrt(size[0] * size[1]) / LETTERS))


def draw_marks(picture: UInt8Array, marks: Sequence[Mark]) -> UInt8Array:
    """Draw detections over a picture, the first one on top, and their tags where they cover none of each other.

    Args:
        picture: (H, W, 3) uint8 RGB.
        marks: The detections.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    drawn, style = picture.copy(), TextStyle(letters(picture.shape), TAG_WEIGHT, INK)
    line = max(round(math.sqrt(picture.shape[0] * picture.shape[1]) / LINES), THINNEST)
    for mark in reversed(marks):
        _draw_line(drawn, _within(mark.outline, picture.shape, line), mark.color, line)
        for contour in mark.contours:
            _draw_line(drawn, contour, mark.color, line)
        for point in () if mark.points is None else mark.points:
            _draw_dot(drawn, point, mark.color, line)
    taken: list[Rect] = []
    for mark in marks:
        if mark.tag:
            place = _place(mark, tag_size(mark.tag, style), picture.shape, taken)
            taken.append(place)
            draw_tag(drawn, mark.tag, mark.color, place[:2], style)
    return drawn


def tag_size(text: str, style: TextStyle) -> tuple[int, int]:
    """Return the width and the height of a tag in pixels."""
    return text_width(text, style) + 2 * PAD, style.leading + PAD // 2


def draw_tag(sheet: UInt8Array, text: str, color: Rgb, place: tuple[int, int], style: TextStyle) -> None:
    """Draw a tag whose box begins at (left, top); what does not fit onto the sheet is left out."""
    (left, top), (width, height) = place, tag_size(text, style)
    tag = np.full((height, width, 3), color, np.uint8)
    tag[[0, -1]] = tag[:, [0, -1]] = np.array(color) // 2
    write(tag, text, PAD, (height - style.leading) // 2, style)
    room = sheet[max(top, 0) : top + height, max(left, 0) : left + width]
    room[:] = tag[max(-top, 0) :, max(-left, 0) :][: room.shape[0], : room.shape[1]]


def _place(mark: Mark, size: tuple[int, int], picture: Sequence[int], taken: Sequence[Rect]) -> Rect:
    """Return the place of a tag at its box: above, below or inside, where it hides least of the tags before it."""
    (width, height), (bottom, right) = size, picture[:2]
    low, high = mark.outline.min(axis=0), mark.outline.max(axis=0)
    (x1, y1), (x2, y2) = np.rint(low).astype(int).tolist(), np.rint(high).astype(int).tolist()
    lefts, tops = (x1, x2 - width), (y1 - height, y2, y1, y2 - height)
    tried = [(left, top) for top, left in product(tops, lefts)]
    tried += [(x1, y) for y in range(max(y1, 0), max(bottom - height, 1), height + APART)]
    places: list[Rect] = []
    for left, top in tried:
        left, top = min(max(left, 0), max(right - width, 0)), min(max(top, 0), max(bottom - height, 0))
        places.append((left, top, left + width, top + height))
    return min(places, key=lambda place: sum(_shared(place, other) for other in taken))


def _shared(one: Rect, other: Rect) -> int:
    """Return the pixels that two rectangles share."""
    across, down = (min(one[n + 2], other[n + 2] + APART) - max(one[n], other[n] - APART) for n in (0, 1))
    return max(across, 0) * max(down, 0)


def _within(outline: Float64Array, shape: Sequence[int], line: int) -> Float64Array:
    """Return an outline whose line lies in the picture wherever its corners do."""
    edge = line / 2 + 1
    ends = np.array(shape[1::-1], np.float64)
    inside = ((outline >= 0) & (outline <= ends)).all()
    return outline.clip(edge, np.maximum(ends - edge, edge)) if inside else outline


def _draw_line(drawn: UInt8Array, outline: Array, color: Rgb, line: int) -> None:
    """Draw a closed line between two dark ones, so that it stands out from any photo."""
    for wide, strength, paint in ((line + 2, DARK, CASING), (line, 1.0, np.array(color))):

        def ink(cover: UInt8Array, start: Float64Array, wide: int = wide) -> None:
            cv2.polylines(cover, [_fixed(np.asarray(outline - start, np.float64))], True, 255, wide, cv2.LINE_AA, FINE)

        _blend(drawn, outline, wide + 2, ink, paint, strength)


def _draw_dot(drawn: UInt8Array, point: Array, color: Rgb, line: int) -> None:
    """Draw a dot with a dark edge."""
    for radius, strength, paint in (
        (DOT * line + 1.5, DARK, CASING),
        (DOT * line, 1.0, np.array(color)),
    ):

        def ink(cover: UInt8Array, start: Float64Array, radius: float = radius) -> None:
            (at,) = _fixed((point - start)[None])
            cv2.circle(cover, at.tolist(), round(radius * 2**FINE), 255, cv2.FILLED, cv2.LINE_AA, FINE)

        _blend(drawn, np.asarray(point, np.float64)[None], round(radius) + 2, ink, paint, strength)


def _fixed(points: Float64Array) -> Array:
    """Return points as OpenCV draws them: pixel centres at whole numbers, some bits of fraction."""
    return np.asarray(np.rint((points - 0.5) * 2**FINE), np.int32)


def _blend(drawn: UInt8Array, points: Array, margin: int, ink: Ink, paint: Array, strength: float) -> None:
    """Mix a colour into the part of a picture around some points, by what `ink` covers there."""
    height, width = drawn.shape[:2]
    low = (np.floor(points.min(axis=0)) - margin).clip(0, (width, height)).astype(int)
    high = (np.ceil(points.max(axis=0)) + margin).clip(0, (width, height)).astype(int)
    (left, top), (right, bottom) = low.tolist(), high.tolist()
    cover = np.zeros((bottom - top, right - left), np.uint8)
    if not cover.size:
        return
    ink(cover, low.astype(np.float64))
    inked = cover > 0
    part = drawn[top:bottom, left:right]
    pixels = part[inked].astype(np.float32)
    share: Float32Array = cover[inked].astype(np.float32)[:, None] * np.float32(strength / 255)
    part[inked] = np.rint(pixels + share * (paint.astype(np.float32) - pixels))
