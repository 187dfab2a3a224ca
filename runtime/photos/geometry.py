"""The way of a photo into the model's input, and back: resizing, cutting, maps at the photo's own size, and boxes."""

from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from fusioncam.errors import ImageError, UsageError
from fusioncam.free_size import sides
from fusioncam.kernels.arrays import Array, BoolArray, Float32Array, Float64Array, Size
from fusioncam.kernels.reference import Taps, interpolate, upsample
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.axes import Axis, axes
from fusioncam.runtime.photos.resampling import Numbers, resampled, resized

# Pixels made at a time, and the most of them in a row: bounds the memory of a large photo beside that of the result.
BAND, ACROSS = 1 << 20, 1 << 16
SHOWN_SLIVER = 4  # longer over shorter side of a photo, from which on a panel shows the model's input instead

Pixels = TypeVar("Pixels", Float32Array, BoolArray)


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
    rows, columns = axes(_size(photo), preprocessing)
    if preprocessing.resize == "letterbox":
        fields = {"resize": "squash", "size": (int(rows.resized), int(columns.resized))}
        return _padded(display_image(photo, preprocessing.model_copy(update=fields)), rows, columns, preprocessing)
    if photo.dtype != np.uint8 and photo.shape[2] > 1:
        bands = (display_image(photo[..., c, None], preprocessing) for c in range(photo.shape[2]))
        return np.concatenate(list(bands), axis=2)
    if preprocessing.resize == "crop_first":
        photo = visible_part(photo, preprocessing)
        preprocessing = preprocessing.model_copy(update={"resize": "squash"})
        rows, columns = axes(_size(photo), preprocessing)
    return resampled(photo, rows, columns, preprocessing.interpolation)


def _padded(inside: Numbers, rows: Axis, columns: Axis, preprocessing: Preprocessing) -> Numbers:
    """Return the resized photo in a letterbox."""
    pad = np.array(preprocessing.pad, np.float32)[:: -1 if preprocessing.channel_order == "bgr" else 1]
    whole = np.empty((rows.size, columns.size, inside.shape[2]), inside.dtype)
    whole[...] = np.rint(pad) if inside.dtype == np.uint8 else pad
    whole[rows.filled, columns.filled] = inside
    return whole


def visible_slices(photo_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[slice, slice]:
    """Return the rows and columns of a photo (H0, W0) that the model sees: their pixel centres are in the cut."""
    rows, columns = axes(photo_size, preprocessing)
    return rows.seen, columns.seen


def visible_part(photo: Numbers, preprocessing: Preprocessing) -> Numbers:
    """Return the part of a photo (H0, W0, C) that the model sees, in the photo's own pixels and proportions."""
    return photo[visible_slices(_size(photo), preprocessing)]


def shown_part(photo: Array, preprocessing: Preprocessing) -> Array:
    """Return what a panel shows of a photo: the part that the model saw, or for a sliver the model's input.

    So does it of a volume: what it shows has the size of the maps. It never shows the padding of a letterbox, so a
    sliver is squashed instead. `on_shown` is the way of maps.
    """
    if len(preprocessing.size) != 2:
        return display_image(photo, preprocessing)
    shown = visible_part(photo, preprocessing)
    if max(shown.shape[:2]) > SHOWN_SLIVER * min(shown.shape[:2]):
        squashed = {"resize": "squash"} if preprocessing.resize == "letterbox" else {}
        return display_image(photo, preprocessing.model_copy(update=squashed))
    return shown


def on_shown(saliency: Pixels, photo_size: Size | None, preprocessing: Preprocessing) -> Pixels:
    """Return the part of a map that lies on what `shown_part` returns: a view of all but the padding of a letterbox.

    Args:
        saliency: (H, W) at the size of the model's input.
        photo_size: (H0, W0) of the photo; None for a preprocessed picture, which is shown with its padding.
        preprocessing: The model's own.
    """
    if photo_size is None or preprocessing.resize != "letterbox":
        return saliency
    height, width = photo_size
    rows, columns = axes((height, width), preprocessing)
    return saliency[rows.filled, columns.filled]


def on_photo(saliency: Float32Array, photo_size: Size, preprocessing: Preprocessing) -> Float32Array:
    """Return a map at the photo's own resolution: resizing and cutting are undone.

    Every pixel gets the map's value at the place of the pixel's centre in the model's input, bilinear between pixel
    centres, clamped at the edges of the input, or of the photo in a letterbox. The result is made piece by piece, so
    100 megapixels need little more memory than their result.

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
    for down, across, values in sampled(saliency, rows, columns, (rows.seen, columns.seen)):
        whole[down, across] = values
    return whole


def sampled(
    saliency: Float32Array, rows: Axis, columns: Axis, part: tuple[slice, slice]
) -> Iterator[tuple[slice, slice, Float32Array]]:
    """Yield the values of a map at the pixels of a photo, piece by piece, each with its rows and columns.

    Args:
        saliency: (H, W) at the size of the model's input.
        rows: The rows of the photo and the input.
        columns: Its columns.
        part: The rows and columns that are wanted, of those that the model sees.
    """
    for across in _pieces(part[1], ACROSS):
        right = columns.taps(across)
        for down in _pieces(part[0], BAND // len(right.low)):
            low, high, weight = rows.taps(down)
            band = saliency[low[0] : high[-1] + 1].astype(np.float32, copy=False)
            yield down, across, interpolate(band, Taps(low - low[0], high - low[0], weight), right)


def boxes_on_input(boxes: Array, photo_size: tuple[int, int], preprocessing: Preprocessing) -> Float64Array:
    """Return boxes of a photo in pixels of the model's input; parts that the model does not see reach beyond it.

    Args:
        boxes: (n, 4) x1, y1, x2, y2 in pixels of the photo, whose edges are 0 and W0, 0 and H0.
        photo_size: (H0, W0) of the photo.
        preprocessing: The model's own.

    Returns:
        (n, 4) float64.
    """
    scale, start = _scale_and_start(photo_size, preprocessing)
    return np.asarray(boxes, np.float64).reshape(-1, 4) * scale - start


def boxes_on_photo(boxes: Array, photo_size: tuple[int, int], preprocessing: Preprocessing) -> Float64Array:
    """Return boxes of the model's input in pixels of the photo, clipped to the photo: the inverse of `boxes_on_input`.

    For a letterbox these are the numbers of Ultralytics' `scale_boxes`.

    Args:
        boxes: (n, 4) x1, y1, x2, y2 in pixels of the input.
        photo_size: (H0, W0) of the photo.
        preprocessing: The model's own.

    Returns:
        (n, 4) float64.
    """
    scale, start = _scale_and_start(photo_size, preprocessing)
    edges = np.array([photo_size[1], photo_size[0]] * 2, np.float64)
    return ((np.asarray(boxes, np.float64).reshape(-1, 4) + start) / scale).clip(0, edges)


def _scale_and_start(photo_size: tuple[int, int], preprocessing: Preprocessing) -> tuple[Float64Array, Float64Array]:
    """Return the factor of x1, y1, x2, y2 on their way to the input, and what is cut before it, (4,) each."""
    rows, columns = axes(photo_size, preprocessing)
    both = [columns, rows] * 2
    return np.array([a.resized / a.whole for a in both]), np.array([a.start for a in both], np.float64)


def _pieces(part: slice, most: int) -> list[slice]:
    return [slice(first, min(first + most, part.stop)) for first in range(part.start, part.stop, most)]


def _size(photo: Array) -> tuple[int, int]:
    return photo.shape[0], photo.shape[1]
