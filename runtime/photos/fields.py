"""Signals and volumes: arrays that become the model's input, and maps at the array's own size."""

import numpy as np

from fusioncam.errors import ImageError
from fusioncam.kernels.arrays import Array, Float32Array, Size
from fusioncam.manifest import PLACES
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.photos.arrays import described
from fusioncam.runtime.photos.formats.npy import KINDS


def field_of(array: Array, preprocessing: Preprocessing, name: str | None = None) -> Float32Array:
    """Return a signal or a volume, its channels last.

    Args:
        array: Whole numbers or floats: (C, L) or (L, C); (C, D, H, W), (D, H, W, C) or the pictures of a video,
            (D, C, H, W). Of one channel also (L,) or (D, H, W). The axis of the channels follows from their number;
            where several axes have it, from the size of the model's input.
        preprocessing: The model's own.
        name: The name of the file in errors; None for an array in memory.

    Returns:
        (L, C) or (D, H, W, C) float32.

    Raises:
        ImageError: The array has another shape, does not say which axis holds the channels, or holds no finite numbers.
    """
    called = f"{name} holds {described(array)}" if name else f"cannot explain {described(array)}"
    if array.dtype.kind not in KINDS or not array.size:
        raise ImageError(f"{called}: {_wanted(preprocessing)}")
    with np.errstate(over="ignore"):
        values = np.ascontiguousarray(_channels_last(array, preprocessing, called), np.float32)
    if not np.isfinite(values).all():
        raise ImageError(f"{name or 'the array'} holds NaN or infinity: fill them first, as numpy.nan_to_num does")
    return values


def _channels_last(array: Array, preprocessing: Preprocessing, called: str) -> Array:
    rank, channels = len(preprocessing.size), preprocessing.channels
    if array.ndim == rank and channels == 1:
        return array[..., None]
    ends = (0, rank, 1) if rank == 3 else (0, rank)
    fitting = [axis for axis in ends if array.ndim == rank + 1 and array.shape[axis] == channels]
    if len(fitting) > 1:
        fitting = [axis for axis in fitting if _without(array.shape, axis) == preprocessing.size] or fitting
    if not fitting:
        raise ImageError(f"{called}: {_wanted(preprocessing)}")
    if len(fitting) > 1:
        raise ImageError(f"{called}, which does not say which axis holds the channels: {_wanted(preprocessing)}")
    return np.moveaxis(array, fitting[0], -1)


def _without(shape: Size, axis: int) -> Size:
    return (*shape[:axis], *shape[axis + 1 :])


def _wanted(preprocessing: Preprocessing) -> str:
    """Return what the model takes, for errors."""
    letters, numbers = ", ".join(PLACES[len(preprocessing.size)]), ", ".join(map(str, preprocessing.shape))
    alone = f", or ({letters})" if preprocessing.channels == 1 else ""
    kind, channels = preprocessing.kind, f"channel{'s' * (preprocessing.channels > 1)}"
    return f"the model takes {kind} of {preprocessing.channels} {channels}, ({numbers}) as (C, {letters}){alone}"
