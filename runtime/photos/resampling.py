"""Filters that resize pictures: those of Pillow, axis by axis, and OpenCV's."""

import math
from collections.abc import Callable
from typing import TypeVar

import cv2
import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, Float64Array, Int64Array, Size, UInt8Array
from fusioncam.runtime.photos.axes import Axis


def _bicubic(d: Float64Array) -> Float64Array:
    near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    return np.where(d < 1, near, np.where(d < 2, far, 0))


# The filters of Pillow: their reach to either side in pixels, and the weight at a distance from the centre.
FILTERS: dict[str, tuple[float, Callable[[Float64Array], Float64Array]]] = {
    "bilinear": (1.0, lambda d: np.maximum(1 - d, 0)),
    "bicubic": (2.0, _bicubic),
    "lanczos": (3.0, lambda d: np.where(d < 3, np.sinc(d) * np.sinc(d / 3), 0)),
    "hamming": (1.0, lambda d: np.where(d < 1, np.sinc(d) * (0.54 + 0.46 * np.cos(np.pi * d)), 0)),
    "box": (0.5, lambda d: np.where(d <= 0.5, 1.0, 0.0)),
}
# Those of OpenCV, by its own code: for uint8 its arithmetic is of whole numbers.
OPENCV = {"cv2-linear": cv2.INTER_LINEAR}
SLIVER = 64  # times: a photo higher than its visible part by this factor

Numbers = TypeVar("Numbers", UInt8Array, Array)


def _resample(image: Array, axis: int, to: Axis, interpolation: str) -> Float32Array:
    """Resize one axis to `to.resized` samples, and return samples `to.start` to `to.start + to.size - 1`.

    The filter is as wide as the shrink factor, and never narrower than for equal sizes: antialiased when shrinking,
    with clamped edges when growing. Most models were trained with these filters, of Pillow or torchvision;
    INTER_AREA differs from the bilinear filter by 1 to 3 grey levels on average.
    """
    source, size = image.shape[axis], to.size
    factor = source / to.resized
    support, weigh = FILTERS[interpolation]
    stretch = max(factor, 1.0)
    reach = support * stretch
    centres = ((np.arange(to.start, to.start + size) + 0.5) * factor - 0.5)[:, None]
    taps = np.floor(centres - reach).astype(np.int64) + np.arange(1, math.ceil(2 * reach) + 1)
    weights = np.where((taps >= 0) & (taps < source), weigh(np.abs(taps - centres) / stretch), 0)
    weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    taps = taps.clip(0, source - 1)
    shape = [-1 if n == axis else 1 for n in range(image.ndim)]
    total = np.zeros((*image.shape[:axis], size, *image.shape[axis + 1 :]), np.float32)
    for tap, weight in zip(taps.T, weights.T, strict=True):
        total += image.take(tap, axis=axis) * weight.reshape(shape)
    return total


def _nearest(axis: Axis) -> Int64Array:
    """Return the pixels of an axis that are kept, found by adding up, as in Pillow: halves round the same way."""
    step = axis.whole / axis.resized
    steps = np.full(int(axis.start) + axis.size, step)
    steps[0] = step * 0.5
    return np.cumsum(steps)[int(axis.start) :].astype(np.int64).clip(0, axis.whole - 1)


def resized(image: Array, size: Size, interpolation: str) -> Array:
    """Resize the first axes of an array, such as a volume (D, H, W, C), to `size`; the axis that shrinks most first.

    Only uint8 is rounded.
    """
    whole = image.dtype
    order = sorted(range(len(size)), key=lambda axis: size[axis] / image.shape[axis])
    for axis, n in ((axis, size[axis]) for axis in order if size[axis] != image.shape[axis]):
        to = Axis(image.shape[axis], n, 0, n)
        if interpolation == "nearest":
            image = image.take(_nearest(to), axis)
        else:
            image = _resample(image, axis, to, interpolation)
    return np.asarray(np.rint(image).clip(0, 255) if whole == np.uint8 else image, whole)


def resampled(photo: Numbers, rows: Axis, columns: Axis, interpolation: str) -> Numbers:
    """Resize a photo (H0, W0, C) and cut it, by any filter.

    Args:
        photo: uint8, or float32 of one channel.
        rows: The way of its rows, which is not padded.
        columns: The same of its columns.
        interpolation: See `Preprocessing`.

    Returns:
        (rows.size, columns.size, C) of the same type; only uint8 is rounded.
    """
    if interpolation in OPENCV:
        size = columns.size, rows.size  # of ways that cut nothing, see `BY_OPENCV`
        by_opencv = cv2.resize(photo, size, interpolation=OPENCV[interpolation])
        return np.asarray(by_opencv.reshape(rows.size, columns.size, -1), photo.dtype)
    if interpolation == "nearest":
        return np.ascontiguousarray(photo[_nearest(rows)[:, None], _nearest(columns)])
    # Averaging whole blocks first, down to 4 to 8 times the final size, bounds time and memory for large photos.
    height, width = (axis.whole // max(axis.whole // (4 * int(axis.resized)), 1) for axis in (rows, columns))
    seen: Array = photo
    if (height, width) != photo.shape[:2]:
        seen = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA).reshape(height, width, -1)
    # The axis that shrinks most goes first, or a sliver of a photo would be enlarged before it is cut.
    order = sorted(enumerate((rows, columns)), key=lambda a: a[1].size / seen.shape[a[0]])
    # Filters with negative weights leave the range. Pillow (to 12) clips the values after the columns, which go first.
    if interpolation != "bilinear" and height <= SLIVER * rows.size:
        order = [(1, columns), (0, rows)]
    whole = photo.dtype == np.uint8
    for number, axis in order:
        seen = _resample(seen, number, axis, interpolation)
        seen = np.rint(seen).clip(0, 255) if whole and interpolation != "bilinear" else seen
    return np.asarray(np.rint(seen).clip(0, 255) if whole else seen, photo.dtype)
