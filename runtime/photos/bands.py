"""Arrays as a model of bands takes them: their numbers stay as they are, whatever their type."""

import numpy as np

from fusioncam.errors import ImageError
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.photos.arrays import described
from fusioncam.runtime.photos.formats.npy import KINDS


def bands_of(
    array: Array, preprocessing: Preprocessing, name: str | None = None, axis: int | None = None
) -> Float32Array:
    """Return the bands that a model takes, in its order.

    Args:
        array: (H, W, bands) or (bands, H, W) of whole numbers or floats, or (H, W) of one band.
        preprocessing: The model's own, of a `channel_order` of bands.
        name: The name of the file in errors; None for an array in memory.
        axis: The axis of the bands; by default it follows from their number.

    Returns:
        (H, W, C) float32.

    Raises:
        ImageError: The array has another number of bands, either end may hold them, or it holds no finite numbers.
    """
    called = f"{name} holds {described(array)}" if name else f"cannot explain {described(array)}"
    if array.dtype.kind not in KINDS or array.ndim not in (2, 3) or not array.size:
        raise ImageError(f"{called}: {_wanted(preprocessing)}")
    if array.ndim == 2:
        array, axis = array[..., None], 2
    if axis is None:
        axis = _axis_of_bands(array.shape, preprocessing, called)
    bands, order = np.moveaxis(array, axis, -1), preprocessing.channel_order
    if not _fits(bands.shape[-1], preprocessing):
        has = f"{bands.shape[-1]} band{'s' * (bands.shape[-1] > 1)}"
        raise ImageError(f"{name or 'the array'} has {has}: {_wanted(preprocessing)}")
    if isinstance(order, tuple):
        bands = bands[..., [number - 1 for number in order]]
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(bands, np.float32)
    if not np.isfinite(values).all():
        raise ImageError(
            f"{name or 'the array'} holds NaN or infinity, which may stand for missing data: fill them first, as "
            "numpy.nan_to_num does"
        )
    return values


def _fits(bands: int, preprocessing: Preprocessing) -> bool:
    order = preprocessing.channel_order
    return bands >= max(order) if isinstance(order, tuple) else bands == preprocessing.channels


def _axis_of_bands(shape: tuple[int, ...], preprocessing: Preprocessing, called: str) -> int:
    """Return the first axis or the last: the one of as many bands as the model takes; of chosen bands the shorter."""
    chosen = isinstance(preprocessing.channel_order, tuple)
    bands = min(shape[0], shape[2]) if chosen else preprocessing.channels
    ends = [axis for axis in (0, 2) if shape[axis] == bands]
    if not ends:
        raise ImageError(f"{called}: {_wanted(preprocessing)}")
    if len(ends) == 2:
        raise ImageError(
            f"{called}, whose first axis can hold the bands as well as its last: cut or pad its rows and columns"
        )
    return ends[0]


def _wanted(preprocessing: Preprocessing) -> str:
    """Return what the model takes, for errors."""
    order, count = preprocessing.channel_order, preprocessing.channels
    if isinstance(order, tuple):
        numbers = f"band{'s' * (count > 1)} {', '.join(map(str, order))}"
        return f"the model takes {numbers} of an array (H, W, bands) or (bands, H, W) of {max(order)} or more"
    if count == 1:
        return "the model takes one band, an array (H, W), (H, W, 1) or (1, H, W)"
    return f"the model takes {count} bands, an array (H, W, {count}) or ({count}, H, W)"
