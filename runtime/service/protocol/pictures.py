"""The pictures of a request, as the model takes them, and the size that they get."""

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from fusioncam.errors import DeadlineError, ImageError, UsageError
from fusioncam.free_size import PHOTO, PHOTO_PIXELS, sides
from fusioncam.kernels.arrays import Array
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.arguments import checked_size, quote
from fusioncam.runtime.engine import SizeChoice
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.prepared import PreparedPicture, prepare, size_of_photo
from fusioncam.runtime.service.protocol.request_parser import opened_pictures, picture_input
from fusioncam.runtime.service.protocol.tensors import Tensor
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

FAR = 1e4  # times the largest number of a picture: such numbers overflow within the model


def requested_size(parameter: Any, model: ServedModel) -> SizeChoice:
    """Return the size of the input that a request asks for; None for the model's own.

    Args:
        parameter: `photo`, a text such as `320x240`, or a list [H, W]; None where the request names none.
        model: The model.

    Raises:
        UsageError: It is no size, none that the model takes, or a larger one than the service makes.
    """
    given = parameter
    if isinstance(given, str) and given != PHOTO:
        given = [int(n) if n.isdecimal() else n for n in given.replace("x", ",").split(",")]
    if any(isinstance(n, str) for n in given or () if given != PHOTO):
        raise UsageError(f"the parameter size is 320x240 (H x W) or {PHOTO}, not {quote(parameter)}")
    size = checked_size(given, [model.manifest])
    if isinstance(size, tuple) and math.prod(size) > max(PHOTO_PIXELS, math.prod(model.size)):
        raise UsageError(f"a size of {sides(size)} is more than the {PHOTO_PIXELS} pixels that the service explains")
    return size


def pictures_of(
    tensors: Mapping[str, Tensor],
    model: ServedModel,
    size: SizeChoice,
    settings: Settings,
    begun: float,
    timeout: float,
) -> list[tuple[Array, PreparedPicture | None]]:
    """Return the pictures of a request as the model takes them, (C, H, W) float32; look at the time before each.

    With each comes its photo, where targets may lie in the photo's pixels.

    Args:
        tensors: Those of the request, by name.
        model: The model.
        size: See `requested_size`.
        settings: Limits.
        begun: Time of the request, in seconds of `time.monotonic()`.
        timeout: Seconds that it may take.

    Raises:
        UsageError: There is none, or both kinds; there are too many, or they are of another shape or of several sizes.
        ImageError: One cannot be decoded, has too many pixels, or holds numbers that no picture has.
        DeadlineError: The time is up before the last is begun.
    """
    name = picture_input(tensors)
    tensor, preprocessing = tensors[name], model.manifest.preprocessing
    of_photos = None
    if size == PHOTO:
        if name == "image":
            raise UsageError("a preprocessed picture has a size, not that of a photo: give it as `size`, as 320x240")
        of_photos = partial(size_of_photo, manifest=model.manifest)
    elif size is not None:
        preprocessing = preprocessing.model_copy(update={"size": size})
    _check_shape(name, tensor.shape, preprocessing.shape)
    values = list(np.reshape(tensor.values, (-1, *preprocessing.shape)) if name == "image" else tensor.values)
    if not 1 <= len(values) <= settings.max_pictures:
        raise UsageError(f"a request holds 1 to {settings.max_pictures} pictures, not {len(values)}")
    opened = opened_pictures({name: values}, preprocessing, settings.max_pixels, tensor.from_json, of_photos)
    pictures: list[tuple[Array, PreparedPicture | None]] = []
    while len(pictures) < len(values):
        if time.monotonic() >= begun + timeout:
            raise DeadlineError(
                f"{len(pictures)} of {len(values)} pictures were prepared within {timeout:g} seconds; send fewer or "
                "smaller ones, allow more time, or ask again when there is less to do"
            )
        given, own = next(opened)
        photo = prepare(given, own) if model.manifest.form.scored else None
        x = as_input(given, own)[1] if photo is None else photo.x
        if name == "image":
            _check_range(x, preprocessing)
        pictures.append((x, photo))
        if x.shape != pictures[0][0].shape:
            raise UsageError("the photos have several sizes, and their maps would be one array: send one a request")
    if size is not None:
        model.batcher.derive(pictures[0][0].shape[1:])  # here, so that the batcher's thread goes on with other requests
    return pictures


def _check_shape(name: str, shape: tuple[int, ...], of_picture: tuple[int, ...]) -> None:
    if name == "image" and shape not in (of_picture, (shape[0], *of_picture)):
        raise UsageError(f"input 'image' must be of shape {(1, *of_picture)}, or with more pictures, not {shape}")
    if name == "image_bytes" and shape[1:] not in ((), (1,)):
        raise UsageError(f"input 'image_bytes' must be of shape (1,), or (N,) for N pictures, not {shape}")


def _check_range(x: Array, preprocessing: Preprocessing) -> None:
    if preprocessing.extremes is None:
        return
    low, high = preprocessing.extremes
    if max(-x.min(), x.max()) > FAR * max(-low, high):
        raise ImageError(
            f"the input array reaches from {x.min():.3g} to {x.max():.3g}, but pictures lie between {low:.3g} and "
            f"{high:.3g} for this model: check how it was preprocessed"
        )
