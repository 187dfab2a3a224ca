"""The pictures of a request: photos decoded and prepared, or what came prepared checked."""

import base64
import binascii
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from fusioncam.errors import DeadlineError, ImageError
from fusioncam.runtime.engine.scheduler import Array
from fusioncam.runtime.photos.decode import as_input, decode_image
from fusioncam.runtime.service.protocol.tensors import Tensor
from fusioncam.runtime.service.refusals import bad
from fusioncam.runtime.service.served import Served
from fusioncam.runtime.service.settings import Settings

FAR = 1e4  # times what a picture can reach: such numbers overflow within the model


def pictures_of(
    tensors: Mapping[str, Tensor], served: Served, settings: Settings, begun: float, timeout: float
) -> list[Array]:
    """The pictures of a request as the model takes them, each (3, H, W) float32.

    Args:
        tensors: The inputs; one of `image` and `image_bytes` is among them.
        served: The model.
        settings: Limits.
        begun: When the request came, in seconds of `time.monotonic()`.
        timeout: Seconds it may take from then on; looked at before each picture.

    Raises:
        RefusedError: There is none, or both; there are too many, or they are of another shape.
        ImageError: One cannot be decoded, has too many pixels, or holds numbers that no picture has.
        DeadlineError: The time is up before the last is begun.
    """
    if ("image" in tensors) == ("image_bytes" in tensors):
        raise bad("give the picture once: as input 'image', preprocessed, or as input 'image_bytes', a file")
    height, width = served.size
    tensor = tensors.get("image") or tensors["image_bytes"]
    if "image" in tensors:
        if tensor.shape not in ((3, height, width), (tensor.shape[0], 3, height, width)):
            raise bad(
                f"input 'image' must be of shape (1, 3, {height}, {width}), or with more pictures, not {tensor.shape}"
            )
        given: Sequence[Any] = list(np.asarray(tensor.values).reshape(-1, 3, height, width))
    else:
        if len(tensor.shape) > 2 or tensor.shape[1:] not in ((), (1,)):
            raise bad(f"input 'image_bytes' must be of shape (1,), or (N,) for N pictures, not {tensor.shape}")
        given = list(tensor.values)
    if not 1 <= len(given) <= settings.max_pictures:
        raise bad(f"a request holds 1 to {settings.max_pictures} pictures, not {len(given)}")
    in_turn = _in_time(given, begun, timeout)
    if "image" in tensors:
        return [_prepared(served, x) for _, x in in_turn]
    named = (("the picture" if len(given) == 1 else f"picture {n}", data) for n, data in in_turn)
    return [_photo(served, settings, name, data, tensor.from_json) for name, data in named]


def _in_time(given: Sequence[Any], begun: float, timeout: float) -> Iterator[tuple[int, Any]]:
    for n, picture in enumerate(given):
        if time.monotonic() >= begun + timeout:
            raise DeadlineError(
                f"{n} of {len(given)} pictures were prepared within {timeout:g} seconds; send fewer or smaller ones, "
                "allow more time, or ask again when there is less to do"
            )
        yield n, picture


def _prepared(served: Served, given: Array) -> Array:
    x = as_input(given, served.explainer.manifest.preprocessing)[1]
    low, high = served.explainer.manifest.preprocessing.extremes
    if max(-x.min(), x.max()) > FAR * max(-low, high):
        raise ImageError(
            f"the input array reaches from {x.min():.3g} to {x.max():.3g}, but pictures lie between {low:.3g} and "
            f"{high:.3g} for this model: check how it was preprocessed"
        )
    return x


def _photo(served: Served, settings: Settings, name: str, data: bytes, in_base64: bool) -> Array:
    if in_base64:
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise ImageError(f"{name} is not base64: in JSON, a picture is a file in base64") from None
    photo = decode_image(data, name, settings.max_pixels, declared=True)
    return as_input(photo, served.explainer.manifest.preprocessing)[1]
