"""The way of a photo into the model's input, and back: resizing, cutting, and maps at the photo's own size."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from fusioncam.errors import ImageError, UsageError
from fusioncam.free_size import sides
from fusioncam.kernels.arrays import Array, Float32Array, Float64Array, Int64Array, Size, UInt8Array
from fusioncam.kernels.reference import Taps, interpolate, upsample
from fusioncam.manifest import Preprocessing


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

# Pixels made at a time, and the most of them in a row: bounds the memory of a large photo beside that of the result.
BAND, ACROSS = 1 << 20, 1 << 16
SLIVER = 64  # times: a photo higher than its visible part by this factor
SHOWN_SLIVER = 4  # longer over shorter side of a photo, from which on a panel shows the model's input instead


Numbers = TypeVar("Numbers", UInt8Array, Array)


class Axis(NamedTuple):
    """One axis of a photo: its `whole` pixels are resized to `resized`, of which `size` are kept, from `start` on.

    Where the photo is cut before it is resized, `resized` and `start` have the values they would have for the whole
    photo, and are no whole numbers.
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
        return slice(first, max(end, first + 1))

    def taps(self, pixels: slice) -> Taps:
        """Return the places of some of the photo's pixel centres between the pixels of the model's input."""
        centres = np.arange(pixels.start, pixels.stop) + 0.5
        at = np.clip(centres * self.resized / self.whole - 0.5 - self.start, 0, self.size - 1)
        low = np.floor(at).astype(np.intp)
        return Taps(low, np.minimum(low + 1, self.size - 1), at - low)


def axes(photo_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[Axis, Axis]:
    """Return the axes of a photo (H0, W0), rows and columns, rounded as the model's training code rounds them."""
    rows, columns = zip(photo_size, preprocessing.size, strict=True)
    scale = max(n / whole for whole, n in (rows, columns))
    if preprocessing.resize == "crop_first":
        return _cut_first(*rows, scale, preprocessing), _cut_first(*columns, scale, preprocessing)
    return _cut_last(*rows, scale, preprocessing), _cut_last(*columns, scale, preprocessing)


def _cut_last(whole: int, size: int, scale: float, preprocessing: Preprocessing) -> Axis:
    fraction = preprocessing.crop_fraction
    if preprocessing.resize == "squash":
        return Axis(whole, size, 0, size)
    if preprocessing.resize == "squash_crop":
        resized = round(size / fraction)
    else:
        # The small term keeps 255.99999 from becoming 255.
        resized = max(size, math.floor(whole * (scale / fraction) + 1e-6))
    return Axis(whole, resized, _half(resized - size, preprocessing), size)


def _cut_first(whole: int, size: int, scale: float, preprocessing: Preprocessing) -> Axis:
    length = max(math.floor(size / scale * preprocessing.crop_fraction + 1e-6), 1)
    first = _half(whole - length, preprocessing)
    return Axis(whole, size * whole / length, first * size / length, size)


def full_size(photo_size: Size, preprocessing: Preprocessing) -> Size:
    """Return the size (H, W) of input for which a photo (H0, W0) is cut, but its pixels stay as they are."""
    fraction = 1.0 if preprocessing.resize in ("squash", "none") else preprocessing.crop_fraction
    return tuple(max(math.floor(n * fraction + 1e-6), 1) for n in photo_size)


def _half(left: int, preprocessing: Preprocessing) -> int:
    return left // 2 if preprocessing.crop_rounding == "down" else round(left / 2)


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


def display_image(photo: Numbers, preprocessing: Preprocessing) -> Numbers:
    """Resize and cut a photo to the picture that the model sees; pixels of its maps are pixels of this picture.

    Args:
        photo: (H0, W0, 3) or (H0, W0, 1) uint8, or (H0, W0, C) float32, whose bands are resized one by one; a volume
            (D0, H0, W0, C) is resized along each axis.
        preprocessing: The model's own.

    Returns:
        (H, W, C) of the same type with (H, W) = `preprocessing.size`, channels in the photo's order; only uint8 is
        rounded.

    Raises:
        ImageError: A signal or a volume has another size, and is not resized.
    """
    if len(preprocessing.size) != 2:
        if preprocessing.resize == "none" and photo.shape[:-1] != preprocessing.size:
            raise ImageError(
                f"an array of {sides(photo.shape[:-1])} was given, and the model takes {preprocessing.kind} of "
                f"{sides(preprocessing.size)} only: cut or resample it first, or export the model with --resize squash"
            )
        return resized(photo, preprocessing.size, preprocessing.interpolation)
    if photo.dtype != np.uint8 and photo.shape[2] > 1:
        bands = (display_image(photo[..., c, None], preprocessing) for c in range(photo.shape[2]))
        return np.concatenate(list(bands), axis=2)
    if preprocessing.resize == "crop_first":
        photo = visible_part(photo, preprocessing)
        preprocessing = preprocessing.model_copy(update={"resize": "squash"})
    rows, columns = axes(_size(photo), preprocessing)
    interpolation = preprocessing.interpolation
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


def visible_slices(photo_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[slice, slice]:
    """Return the rows and columns of a photo (H0, W0) that the model sees: their pixel centres are in the cut."""
    rows, columns = axes(photo_size, preprocessing)
    return rows.seen, columns.seen


def visible_part(photo: Numbers, preprocessing: Preprocessing) -> Numbers:
    """Return the part of a photo (H0, W0, C) that the model sees, in the photo's own pixels and proportions."""
    return photo[visible_slices(_size(photo), preprocessing)]


def shown_part(photo: Array, preprocessing: Preprocessing) -> Array:
    """Return what a panel shows of a photo: the part that the model saw, or for a sliver the model's input.

    So does it of a volume: what it shows has the size of the maps.
    """
    if len(preprocessing.size) != 2:
        return display_image(photo, preprocessing)
    shown = visible_part(photo, preprocessing)
    if max(shown.shape[:2]) > SHOWN_SLIVER * min(shown.shape[:2]):
        return display_image(photo, preprocessing)
    return shown


def on_photo(saliency: Float32Array, photo_size: Size, preprocessing: Preprocessing) -> Float32Array:
    """Return a map at the photo's own resolution: resizing and cutting are undone.

    Every pixel gets the map's value at the place of the pixel's centre in the model's input, bilinear between pixel
    centres, clamped at the edges of the input. The result is made piece by piece, so 100 megapixels need little more
    memory than their result.

    Args:
        saliency: (H, W) float32 at the size of the model's input, of any range; (L,) of a signal, (D, H, W)
            of a volume.
        photo_size: (H0, W0) of the photo, in pixels; of a volume (D0, H0, W0).
        preprocessing: The model's own.

    Returns:
        (H0, W0) float32; 0 outside of `visible_slices`, where the model saw nothing.

    Raises:
        UsageError: The map is not of the size of the model's input, or the photo has no pixels.
    """
    if saliency.shape != tuple(preprocessing.size) or len(photo_size) != saliency.ndim or min(photo_size) < 1:
        raise UsageError(
            f"a map of {saliency.shape} cannot be put on a photo of {tuple(photo_size)}: "
            f"it must be of the model's input, {tuple(preprocessing.size)}, and the photo not empty"
        )
    if len(photo_size) != 2:
        return upsample(saliency.astype(np.float32, copy=False), photo_size)
    height, width = photo_size
    whole = np.zeros(photo_size, np.float32)
    rows, columns = axes((height, width), preprocessing)
    for across in _pieces(columns.seen, ACROSS):
        right = columns.taps(across)
        for down in _pieces(rows.seen, BAND // len(right.low)):
            low, high, weight = rows.taps(down)
            band = saliency[low[0] : high[-1] + 1].astype(np.float32, copy=False)
            whole[down, across] = interpolate(band, Taps(low - low[0], high - low[0], weight), right)
    return whole


def _pieces(part: slice, most: int) -> list[slice]:
    return [slice(first, min(first + most, part.stop)) for first in range(part.start, part.stop, most)]


def _size(photo: Array) -> tuple[int, int]:
    return photo.shape[0], photo.shape[1]
