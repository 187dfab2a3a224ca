"""The rows and columns of a photo on their way into the model's input, by each way of resizing."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Size
from fusioncam.kernels.reference import Taps
from fusioncam.manifest import Preprocessing


class Axis(NamedTuple):
    """One axis of a photo: its `whole` pixels are resized to `resized`, of which `size` are kept, from `start` on.

    Where the photo is cut before it is resized, `resized` and `start` have the values they would have for the whole
    photo, and are no whole numbers. Where it is padded, `start` is negative: so many pixels lie before it.
    """

    whole: int
    resized: float
    start: float
    size: int

    @property
    def seen(self) -> slice:
        """Return the photo's pixels whose centres are in the cut; at least one, even where the cut is larger."""
        first, end = (
            int(-((self.resized - 2 * edge * self.whole) // (2 * self.resized)))  # ceil(edge * whole / resized - 1/2)
            for edge in (self.start, self.start + self.size)
        )
        first = max(first, 0)
        return slice(first, max(min(end, self.whole), first + 1))

    @property
    def filled(self) -> slice:
        """Return the pixels of the model's input that show the photo, and no padding."""
        return slice(max(round(-self.start), 0), min(round(self.resized - self.start), self.size))

    def taps(self, pixels: slice) -> Taps:
        """Return the places of some of the photo's pixel centres between the pixels of the model's input."""
        first, last = self.filled.start, self.filled.stop - 1
        centres = np.arange(pixels.start, pixels.stop) + 0.5
        at = np.clip(centres * self.resized / self.whole - 0.5 - self.start, first, last)
        low = np.floor(at).astype(np.intp)
        return Taps(low, np.minimum(low + 1, last), at - low)


class _Side(NamedTuple):
    """One side of a photo on its way.

    Attributes:
        whole: Its pixels.
        size: Those of the model's input.
        cover: Factor by which the photo just covers the input, aspect ratio kept.
        fit: The same by which it just fits into the input.
    """

    whole: int
    size: int
    cover: float
    fit: float


def axes(photo_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[Axis, Axis]:
    """Return the axes of a photo (H0, W0), rows and columns, rounded as the model's training code rounds them."""
    rows, columns = zip(photo_size, preprocessing.size, strict=True)
    factors = [n / whole for whole, n in (rows, columns)]
    cover, fit = max(factors), min(factors)
    way = WAYS[preprocessing.resize]
    return way(_Side(*rows, cover, fit), preprocessing), way(_Side(*columns, cover, fit), preprocessing)


def _squashed(side: _Side, _: Preprocessing) -> Axis:
    return Axis(side.whole, side.size, 0, side.size)


def _cropped(side: _Side, preprocessing: Preprocessing) -> Axis:
    # The small term keeps 255.99999 from becoming 255.
    resized = max(side.size, math.floor(side.whole * (side.cover / preprocessing.crop_fraction) + 1e-6))
    return Axis(side.whole, resized, _half(resized - side.size, preprocessing), side.size)


def _squashed_and_cropped(side: _Side, preprocessing: Preprocessing) -> Axis:
    resized = round(side.size / preprocessing.crop_fraction)
    return Axis(side.whole, resized, _half(resized - side.size, preprocessing), side.size)


def _cropped_first(side: _Side, preprocessing: Preprocessing) -> Axis:
    whole, size = side.whole, side.size
    length = max(math.floor(size / side.cover * preprocessing.crop_fraction + 1e-6), 1)
    first = _half(whole - length, preprocessing)
    return Axis(whole, size * whole / length, first * size / length, size)


def _letterboxed(side: _Side, preprocessing: Preprocessing) -> Axis:
    """Return the axis as Ultralytics' LetterBox has it, whose borders are round(d - 0.1) and round(d + 0.1)."""
    resized = max(ROUNDINGS[preprocessing.pad_rounding](side.whole * side.fit), 1)
    before = round((side.size - resized) / 2 - 0.1) if preprocessing.pad_place == "centre" else 0
    return Axis(side.whole, resized, -before, side.size)


def _half(left: int, preprocessing: Preprocessing) -> int:
    return left // 2 if preprocessing.crop_rounding == "down" else round(left / 2)


# By `Preprocessing.resize`.
WAYS: Mapping[str, Callable[[_Side, Preprocessing], Axis]] = {
    "squash": _squashed,
    "crop": _cropped,
    "squash_crop": _squashed_and_cropped,
    "crop_first": _cropped_first,
    "letterbox": _letterboxed,
}
# By `Preprocessing.pad_rounding`; without a small term, as the libraries have none.
ROUNDINGS: Mapping[str, Callable[[float], int]] = {
    "even": round,
    "up": lambda side: math.floor(side + 0.5),
    "down": math.floor,
}


def full_size(photo_size: Size, preprocessing: Preprocessing) -> Size:
    """Return the size (H, W) of input for which a photo (H0, W0) is cut, but its pixels stay as they are."""
    whole = preprocessing.resize in ("squash", "letterbox", "none")
    fraction = 1.0 if whole else preprocessing.crop_fraction
    return tuple(max(math.floor(n * fraction + 1e-6), 1) for n in photo_size)
