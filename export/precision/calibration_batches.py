"""Batches to calibrate on, like those of the score graph: photos, and photos under masks of their activations."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ImageError, UsageError
from fusioncam.export.reading.further_inputs import further_inputs
from fusioncam.export.sessions import session
from fusioncam.forms import Form
from fusioncam.further_inputs import drawn
from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.kernels.masks import MaskMaker
from fusioncam.kernels.reference import places_of

MASKS = 6  # of each photo, besides itself and the blank picture; 14 gave no better maps


def masked_pictures(
    explain: ir.Model, form: Form, photos: Iterable[Array | tuple[str, Array]]
) -> Iterator[Float32Array]:
    """Yield one batch per photo x: x, x * 0, and x * M_k for a few channels, from the weakest to the strongest.

    Args:
        explain: The explain graph.
        form: The tensors of its targets.
        photos: Preprocessed photos (C, H, W), with names or without, read one at a time.

    Yields:
        (B, C, H, W) float32, B at most `MASKS` + 2.

    Raises:
        ImageError: A photo is not of the model's size, or not finite.
        UsageError: There is none.
    """
    model = session(explain)
    shape = [d for d in list(explain.graph.inputs[0].shape or ())[1:] if isinstance(d, int)]
    others = {**form.placeholders(1), **drawn(further_inputs(explain), 1)}
    for _, x in checked_photos(photos, shape):
        feeds = {"image": x[None], **others}
        yield _batch(x, np.asarray(model.run(["activations"], feeds)[0][0]))


class Photo(NamedTuple):
    """A photo x (C, H, W), preprocessed, and its name."""

    name: str
    x: Float32Array


def checked_photos(photos: Iterable[Array | tuple[str, Array]], shape: Sequence[int]) -> Iterator[Photo]:
    """Yield the photos as float32 (C, H, W) with their names; those without a name are numbered from 1.

    Raises:
        ImageError: A photo is not of `shape` (C, H, W), or not finite.
        UsageError: There is none.
    """
    shape, x = tuple(shape), None
    for number, photo in enumerate(photos, start=1):
        name, pixels = photo if isinstance(photo, tuple) else (f"photo {number}", photo)
        x = np.asarray(pixels, np.float32)
        if x.shape != shape:
            raise ImageError(f"a photo has shape {x.shape}; preprocess it to {shape}")
        if not np.isfinite(x).all():
            raise ImageError("a photo holds NaN or infinity; leave it out")
        yield Photo(name, x)
    if x is None:
        raise UsageError("there is no photo; give a few like those to be explained")


def _batch(x: Float32Array, activations: Float32Array) -> Float32Array:
    masks = MaskMaker(activations, x)
    live = np.flatnonzero(~masks.zero & ~masks.constant)
    live = live[np.argsort(activations[live].sum(axis=places_of(activations)))]
    channels = live[np.unique(np.linspace(0, len(live) - 1, MASKS).round().astype(np.intp))] if len(live) else live
    batch = np.zeros((len(channels) + 2, *x.shape), np.float32)
    batch[0] = x
    masks.fill(channels, batch[2:])
    return batch
