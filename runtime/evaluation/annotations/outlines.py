"""The outlines of objects, in each of the forms annotations have, drawn as masks."""

import math
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np

from fusioncam.kernels.arrays import BoolArray, Float64Array
from fusioncam.runtime.photos.decode import read_mask
from fusioncam.runtime.photos.limits import MAX_BYTES, MAX_PIXELS

Bounds: TypeAlias = tuple[float, float, float, float]
Size: TypeAlias = tuple[int, int]

FAR = 1e12  # pixels from a photo: no outline lies farther, and larger numbers overflow in products


class Outline(Protocol):
    """The place of an object in a photo."""

    @property
    def bounds(self) -> Bounds | None:
        """Return (x0, y0, x1, y1), the outer edges of the outermost pixels; None where only drawing tells."""

    def draw(self, size: Size, annotated: Size | None = None) -> BoolArray:
        """Return the pixels of the object in a photo.

        Args:
            size: (H, W) of the photo, which bounds the memory.
            annotated: (H, W) that the outline refers to, where it is another size.

        Returns:
            (H, W) bool.

        Raises:
            ValueError: The outline cannot be drawn.
        """


def numbers(values: Any, count: int | None = None) -> tuple[float, ...]:
    """Return the numbers of a list of JSON, of which none is beyond `FAR`.

    Raises:
        ValueError: The value is no list, is of another length, or holds anything else.
    """
    if not isinstance(values, list | tuple) or (count is not None and len(values) != count):
        raise ValueError(f"{count or 'several'} numbers are expected")
    if not {*map(type, values)} <= {int, float}:
        raise ValueError("a value is not a number")
    # Compared before conversion: an int of hundreds of digits overflows as a float. NaN fails every comparison.
    if not all(-FAR <= value <= FAR for value in values):
        raise ValueError("a number is out of range")
    return tuple(map(float, values))


def _scales(size: Size, annotated: Size | None) -> tuple[float, float]:
    """Return the factors (height, width) from the annotated size to the photo's."""
    return (1.0, 1.0) if annotated is None else (size[0] / annotated[0], size[1] / annotated[1])


def _require_size(shape: tuple[int, ...], annotated: Size) -> None:
    """Refuse a mask of another size than the annotated one."""
    if shape != annotated:
        raise ValueError(f"the mask is {shape[1]} x {shape[0]}, not {annotated[1]} x {annotated[0]}")


def _fitted(mask: BoolArray, size: Size) -> BoolArray:
    """Return a mask at the photo's size, each pixel that of the nearest."""
    if mask.shape == size:
        return mask
    rows, columns = (((np.arange(n) + 0.5) * m / n).astype(int) for n, m in zip(size, mask.shape, strict=True))
    return np.asarray(mask[np.ix_(rows, columns)], np.bool_)


@dataclass(frozen=True)
class Box:
    """A box from (x0, y0) to (x1, y1), in pixels: a photo's own box is (0, 0, W, H)."""

    x0: float
    y0: float
    x1: float
    y1: float

    @property
    def bounds(self) -> Bounds:
        """Return the box itself."""
        return self.x0, self.y0, self.x1, self.y1

    def draw(self, size: Size, annotated: Size | None = None) -> BoolArray:
        """Return the pixels whose centres are in the box; at least one where a box in the photo is that small."""
        down, along = _scales(size, annotated)
        mask = np.zeros(size, np.bool_)
        rows, columns = (
            _pixels(self.y0 * down, self.y1 * down, size[0]),
            _pixels(self.x0 * along, self.x1 * along, size[1]),
        )
        mask[slice(*rows), slice(*columns)] = True
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

    parts: tuple[Float64Array, ...]

    @classmethod
    def of(cls, lists: Sequence[Any]) -> "Polygons":
        """Return the polygons of COCO's lists [x0, y0, x1, y1, ...]; raise ValueError where one lacks three points."""
        parts = [np.array(numbers(part)) for part in lists]
        if any(part.size < 6 or part.size % 2 for part in parts):
            raise ValueError("a polygon needs at least three points")
        return cls(tuple(part.reshape(-1, 2) for part in parts))

    @property
    def bounds(self) -> Bounds:
        """Return the box around all polygons."""
        points = np.concatenate(self.parts)
        (x0, y0), (x1, y1) = points.min(axis=0), points.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)

    def draw(self, size: Size, annotated: Size | None = None) -> BoolArray:
        """Return the pixels whose centres are in one of the polygons."""
        scale = _scales(size, annotated)[::-1]
        mask = np.zeros(size, np.bool_)
        for part in self.parts:
            mask |= _filled(part * scale, size)
        return mask


def _filled(polygon: Float64Array, size: Size) -> BoolArray:
    """Return the pixels (H, W) in a polygon (n, 2): a ray to their left crosses it an odd number of times."""
    height, width = size
    crossings = np.zeros((height, width + 1), np.uint8)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        top, bottom = (math.ceil(y - 0.5) for y in np.clip(sorted((y0, y1)), 0, height))
        rows = np.arange(top, bottom)
        if len(rows):
            x = x0 + (rows + 0.5 - y0) / (y1 - y0) * (x1 - x0)
            crossings[rows, np.ceil(x.clip(0, width) - 0.5).astype(int)] += (
                1  # uint8 wraps around, and stays odd or even
            )
    return np.asarray(np.cumsum(crossings[:, :-1], axis=1, dtype=np.uint8) % 2, np.bool_)


@dataclass(frozen=True)
class RunLengths:
    """A run-length code of COCO: the numbers of pixels outside, inside, outside ... the object, column by column."""

    counts: tuple[int, ...]
    size: Size
    bounds: ClassVar[None] = None

    @classmethod
    def of(cls, code: Any) -> "RunLengths":
        """Return the code of COCO's {size, counts}, compressed or not; raise ValueError where it is damaged."""
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

    def draw(self, size: Size, annotated: Size | None = None) -> BoolArray:
        """Return the mask; raise ValueError where it is not of the annotated size."""
        _require_size(self.size, annotated or size)
        inside = np.arange(len(self.counts)) % 2 == 1
        return _fitted(np.repeat(inside, self.counts).reshape(self.size[::-1]).T, size)


def unpacked(text: str) -> tuple[int, ...]:
    """Return the run lengths in a compressed string of COCO: 5 bits a character, from 48 up, least significant first.

    A sixth bit says that more characters follow; the highest bit of the last is the sign. From the third number on,
    the difference to the number two places before is stored (pycocotools, `rleFrString`).

    Raises:
        ValueError: The string ends within a number, or holds characters of no such code.
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
    """A mask in a file: a picture of the photo's size that is black outside the object."""

    path: Path
    bounds: ClassVar[None] = None

    @classmethod
    def of(cls, path: Path) -> "MaskFile":
        """Return a mask that is read later; raise ValueError where the file is missing or can be no picture."""
        try:
            status = path.stat()
        except OSError as error:
            raise ValueError(error.strerror or "it cannot be read") from error
        except ValueError:
            raise ValueError("no file can have this name") from None
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not an ordinary file")
        if status.st_size > MAX_BYTES:
            raise ValueError(f"it has {status.st_size:,} bytes, the limit is {MAX_BYTES:,}")
        return cls(path)

    def draw(self, size: Size, annotated: Size | None = None) -> BoolArray:
        """Return the mask; raise ValueError where its size is not the annotated one, ImageError if it is unreadable."""
        mask = read_mask(self.path)
        _require_size(mask.shape, annotated or size)
        return _fitted(mask, size)
