"""The pictures of a request: photos decoded and prepared, or what came prepared checked."""

import time
from collections.abc import Mapping

import numpy as np

from fusioncam.errors import DeadlineError, ImageError, UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.service.protocol.request_parser import picture_input, prepared_pictures
from fusioncam.runtime.service.protocol.tensors import Tensor
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

FAR = 1e4  # times what a picture can reach: such numbers overflow within the model


def pictures_of(
    tensors: Mapping[str, Tensor], served: ServedModel, settings: Settings, begun: float, timeout: float
) -> list[Array]:
    """The pictures of a request as the model takes them, each (3, H, W) float32.

    Args:
        tensors: The inputs; one of `image` and `image_bytes` is among them.
        served: The model.
        settings: Limits.
        begun: When the request came, in seconds of `time.monotonic()`.
        timeout: Seconds it may take from then on; looked at before each picture.

    Raises:
        UsageError: There is none, or both; there are too many, or they are of another shape.
        ImageError: One cannot be decoded, has too many pixels, or holds numbers that no picture has.
        DeadlineError: The time is up before the last is begun.
    """
    name = picture_input(tensors)
    tensor, preprocessing = tensors[name], served.explainer.manifest.preprocessing
    _check_shape(name, tensor.shape, served.size)
    values = list(np.reshape(tensor.values, (-1, 3, *served.size)) if name == "image" else tensor.values)
    if not 1 <= len(values) <= settings.max_pictures:
        raise UsageError(f"a request holds 1 to {settings.max_pictures} pictures, not {len(values)}")
    preparing = prepared_pictures({name: values}, preprocessing, settings.max_pixels, tensor.from_json)
    pictures: list[Array] = []
    while len(pictures) < len(values):
        if time.monotonic() >= begun + timeout:
            raise DeadlineError(
                f"{len(pictures)} of {len(values)} pictures were prepared within {timeout:g} seconds; send fewer or "
                "smaller ones, allow more time, or ask again when there is less to do"
            )
        x = next(preparing)
        if name == "image":
            _check_range(x, preprocessing)
        pictures.append(x)
    return pictures


def _check_shape(name: str, shape: tuple[int, ...], size: tuple[int, int]) -> None:
    height, width = size
    if name == "image" and shape not in ((3, height, width), (shape[0], 3, height, width)):
        raise UsageError(
            f"input 'image' must be of shape (1, 3, {height}, {width}), or with more pictures, not {shape}"
        )
    if name == "image_bytes" and shape[1:] not in ((), (1,)):
        raise UsageError(f"input 'image_bytes' must be of shape (1,), or (N,) for N pictures, not {shape}")


def _check_range(x: Array, preprocessing: Preprocessing) -> None:
    low, high = preprocessing.extremes
    if max(-x.min(), x.max()) > FAR * max(-low, high):
        raise ImageError(
            f"the input array reaches from {x.min():.3g} to {x.max():.3g}, but pictures lie between {low:.3g} and "
            f"{high:.3g} for this model: check how it was preprocessed"
        )
