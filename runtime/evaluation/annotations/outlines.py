"""Where an object lies, in each of the ways annotations say it, and how that is drawn."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fusioncam.runtime.image import MAX_PIXELS, read_image

Mask: TypeAlias = NDArray[np.bool_]
Bounds: TypeAlias = tuple[float, float, float, float]


class Outline(Protocol):
    """An object's place in a photo."""

    @property
    def bounds(self) -> Bounds | None:
        """(x0, y0, x1, y1) in pixels between the pixels' outer edges; None where only drawing tells."""

    def draw(self, size: tuple[int, int]) -> Mask:
        """The object's pixels in a photo of `size` (H, W), as (H, W) bool; raises ValueError where it cannot be."""


def numbers(values: Any, count: int | None = None) -> tuple[float, ...]:
    """Finite numbers out of a list of JSON.

    Raises:
        ValueError: It is no list, of another length, or holds something else.
    """
    if not isinstance(values, list | tuple) or (count is not None and len(values) != count):
        raise ValueError(f"{count or 'some'} numbers were expected")
    # A number of hundreds of digits is an int to JSON, but no float.
    with suppress(OverflowError):
        if {*map(type, values)} <= {int, float} and all(map(math.isfinite, values)):
            return tuple(map(float, values))
    raise ValueError("something else stands where a number should")


@dataclass(frozen=True)
class Box:
    """From (x0, y0) to (x1, y1), in pixels: a photo's own box is (0, 0, W, H)."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def bounds(self) -> Bounds:
        """Itself."""
        return self.x0, self.y0, self.x1, self.y1

    def draw(self, size: tuple[int, int]) -> Mask:
        """The pixels whose centres are in the box, and at least one where a box inside the photo is that small."""
        mask = np.zeros(size, np.bool_)
        (top, bottom), (left, right) = (
            _pixels(start, end, length)
            for start, end, length in ((self.y0, self.y1, size[0]), (self.x0, self.x1, size[1]))
        )
        mask[top:bottom, left:right] = True
        return mask


def _pixels(start: float, end: float, length: int) -> tuple[int, int]:
    start, end = max(start, 0.0), min(end, float(length))
    if end <= start:
        return 0, 0
    first, last = math.ceil(start - 0.5), math.ceil(end - 0.5)
    return (first, last) if last > first else (int(start), int(start) + 1)


@dataclass(frozen=True)
class Polygons:
    """One or more polygons, each (n, 2) of x, y in pixels; together they are one object."""

    parts: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, lists: Sequence[Any]) -> "Polygons":
        """From COCO's lists [x0, y0, x1, y1, ...]; raises ValueError where one has no three points."""
        parts = [np.array(numbers(part)) for part in lists]
        if any(part.size < 6 or part.size % 2 for part in parts):
            raise ValueError("a polygon needs at least three points")
        return cls(tuple(part.reshape(-1, 2) for part in parts))

    @property
    def bounds(self) -> Bounds:
        """The box around all of them."""
        points = np.concatenate(self.parts)
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)

    def draw(self, size: tuple[int, int]) -> Mask:
        """The pixels whose centres are in one of the polygons."""
        mask = np.zeros(size, np.bool_)
        for part in self.parts:
            mask |= _filled(part, size)
        return mask


def _filled(polygon: NDArray[np.float64], size: tuple[int, int]) -> Mask:
    """The pixels (H, W) from whose centre a ray to the left crosses the polygon (n, 2) an odd number of times."""
    height, width = size
    crossings = np.zeros((height, width + 1), np.uint8)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        top, bottom = (math.ceil(y - 0.5) for y in np.clip(sorted((y0, y1)), 0, height))
        rows = np.arange(top, bottom)
        if len(rows):
            x = x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0)
            crossings[rows, np.ceil(x.clip(0, width) - 0.5).astype(int)] += 1  # wraps around, and stays odd or even
    return np.asarray(np.cumsum(crossings[:, :-1], axis=1, dtype=np.uint8) % 2, np.bool_)


@dataclass(frozen=True)
class RunLengths:
    """COCO's run-length code: how many pixels are outside, inside, outside, .. the object, column by column."""

    counts: tuple[int, ...]
    size: tuple[int, int]

    @classmethod
    def of(cls, code: Any) -> "RunLengths":
        """From COCO's {size, counts}, compressed or not; raises ValueError where it is damaged."""
        if not isinstance(code, dict):
            raise ValueError("the mask is no run-length code")
        height, width = (int(n) for n in numbers(code.get("size"), 2))
        if not 0 < height * width <= MAX_PIXELS or height < 0:
            raise ValueError("the mask's size is out of range")
        counts = code.get("counts")
        runs = unpacked(counts) if isinstance(counts, str) else tuple(int(n) for n in numbers(counts))
        if any(n < 0 for n in runs) or sum(runs) != height * width:
            raise ValueError("the mask's run lengths do not add up to its size")
        return cls(runs, (height, width))

    @property
    def bounds(self) -> None:
        """Not without drawing it."""

    def draw(self, size: tuple[int, int]) -> Mask:
        """The mask; raises ValueError where it is of another size."""
        if size != self.size:
            raise ValueError(f"the mask is {self.size[1]} x {self.size[0]}, not {size[1]} x {size[0]}")
        inside = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(inside, self.counts).reshape(size[::-1]).T


def unpacked(text: str) -> tuple[int, ...]:
    """The run lengths in COCO's compressed string: 5 bits a character, from 48 up, least significant first.

    A sixth bit says that more follow, the highest bit of the last is the sign; from the third number on it is the
    difference to the one before the last (pycocotools, `rleFrString`).

    Raises:
        ValueError: It ends within a number, or holds characters that do not belong there.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("the mask's compressed run lengths are damaged")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16) and (1 << shift)
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the mask's compressed run lengths end too early")
    return tuple(runs)


@dataclass(frozen=True)
class MaskFile:
    """A picture of the photo's size that is black outside the object."""

    path: Path

    @property
    def bounds(self) -> None:
        """Not without reading it."""

    def draw(self, size: tuple[int, int]) -> Mask:
        """The mask; raises ValueError where it is of another size, ImageError where it cannot be read."""
        mask = np.asarray(read_image(self.path).any(axis=2), np.bool_)
        if mask.shape != size:
            raise ValueError(f"the mask is {mask.shape[1]} x {mask.shape[0]}, not {size[1]} x {size[0]}")
        return mask
