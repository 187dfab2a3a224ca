"""Small pictures with a title and a line below each, in a grid on white."""

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.kernels.arrays import Array, Float64Array, FloatingArray, UInt8Array
from fusioncam.runtime.picture import color_table, overlay
from fusioncam.runtime.picture.legend import round_corners
from fusioncam.runtime.picture.text import TextStyle, wrap, write

SIDE, GAP, MARGIN = 176, 16, 12
TITLE, NOTE = TextStyle(15, 600, (31, 41, 55)), TextStyle(13, 400, (107, 114, 128))


class Tile(NamedTuple):
    """A picture (H, W, 3) uint8 RGB, what it is called, and what is said of it."""

    title: str
    picture: UInt8Array
    note: str = ""


def heat(title: str, saliency: FloatingArray, note: str = "") -> Tile:
    """A map in [0, 1] in colours."""
    level = np.rint(np.clip(_enlarged(saliency), 0, 1) * 255).astype(np.intp)
    return Tile(title, color_table("plasma")[level], note)


def grey(title: str, values: FloatingArray, note: str = "", smooth: bool = True) -> Tile:
    """Values in [0, 1] as grey; pixels of a small array stay squares unless `smooth`."""
    level = np.rint(np.clip(_enlarged(values, smooth), 0, 1) * 255).astype(np.uint8)
    return Tile(title, np.stack([level] * 3, axis=-1), note)


def signed(title: str, values: FloatingArray, note: str = "") -> Tile:
    """Values of both signs: blue below zero, white at zero, orange above."""
    share = _enlarged(values / max(float(np.abs(values).max()), 1e-12), smooth=False)[..., None]
    white, blue, orange = (np.array(c, np.float64) for c in ((255, 255, 255), (0, 88, 165), (200, 85, 0)))
    end = np.where(share < 0, blue, orange)
    return Tile(title, np.rint(white + np.abs(share) * (end - white)).astype(np.uint8), note)


def laid(title: str, photo: UInt8Array, saliency: FloatingArray, note: str = "", style: str = "heat") -> Tile:
    """A map over the photo, both enlarged to the size of a tile."""
    small = _enlarged(photo).clip(0, 255).astype(np.uint8)
    return Tile(title, overlay(small, np.asarray(_enlarged(saliency), np.float32).clip(0, 1), style=style), note)


def shown(title: str, photo: UInt8Array, note: str = "") -> Tile:
    """Return a tile with a photo."""
    return Tile(title, _enlarged(photo).clip(0, 255).astype(np.uint8), note)


def sheet(rows: Sequence[Sequence[Tile]]) -> UInt8Array:
    """The tiles, row by row."""
    notes = 2 if any(tile.note for row in rows for tile in row) else 0
    pitch = TITLE.leading + 4 + SIDE + notes * NOTE.leading + GAP
    width = max(map(len, rows)) * (SIDE + GAP) - GAP + 2 * MARGIN
    drawn = np.full((len(rows) * pitch - GAP + 2 * MARGIN, width, 3), 255, np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            left, top = MARGIN + j * (SIDE + GAP), MARGIN + i * pitch
            _draw(drawn, left, top, tile)
    return drawn


def _draw(drawn: UInt8Array, left: int, top: int, tile: Tile) -> None:
    for line in wrap(tile.title, TITLE, SIDE, 1):
        write(drawn, line, left, top, TITLE)
    top += TITLE.leading + 4
    drawn[top : top + SIDE, left : left + SIDE] = round_corners(tile.picture)
    for n, line in enumerate(wrap(tile.note, NOTE, SIDE, 2)):
        write(drawn, line, left, top + SIDE + 4 + n * NOTE.leading, NOTE)


def _enlarged(values: Array, smooth: bool = True) -> Float64Array:
    way = cv2.INTER_AREA if len(values) > SIDE else cv2.INTER_LINEAR if smooth else cv2.INTER_NEAREST
    return np.asarray(cv2.resize(values.astype(np.float64), (SIDE, SIDE), interpolation=way))
