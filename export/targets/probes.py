"""Targets to try a model with: some classes of the whole picture, or vectors at random."""

from collections.abc import Iterator

import numpy as np

from fusioncam.forms import Form
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Ending

Targets = dict[str, Array]

TRIED = 4  # classes or references


def probe_targets(form: Form, count: int) -> Iterator[Targets]:
    """Yield targets for `count` pictures, the same one for each: the top class first, then some classes.

    Of an embedding, they are likeness to some random vectors.
    """
    rng = np.random.default_rng(0)
    for c in (-1, *range(min(form.output.shape[0], TRIED))):
        targets = form.placeholders(count)
        if "class_index" in targets:
            targets["class_index"][:] = c
        if "reference" in targets:
            targets["reference"][:] = rng.normal(size=form.output.shape)
        yield targets


def checked_targets(form: Form, output: Array) -> Iterator[tuple[str, Targets, Targets]]:
    """Yield one target of each kind for a picture: words for it, the target, and the same by the number of its class.

    It is of the top class, -1, which another picture may not share; of an embedding, likeness to a random vector.

    Args:
        form: The tensors of targets.
        output: The normal form of the picture, (C,), (C, h, w) or (D,).
    """
    rng, targets = np.random.default_rng(0), form.placeholders(1)
    if form.kind == "embedding":
        targets["reference"][0] = rng.normal(size=output.shape)
        yield " of a likeness", targets, targets
        return
    region = rng.random(output.shape[1:]).astype(np.float32)
    top = {"class_index": np.array([(output * region).reshape(len(output), -1).sum(axis=1).argmax()])}
    if form.kind == "vector":
        yield "", targets, {**targets, **top}
        return
    targets["region"][0] = region
    yield " of a mean over a region", targets, {**targets, **top}
    clear = region * _clear_peak(output[top["class_index"][0]])
    targets = {**targets, **top, "peak": np.array([True]), "region": clear[None]}  # there another class may be on top
    yield " of a maximum in a region", targets, targets


def _clear_peak(values: Array) -> Array:
    """Return the places of a map's lower half and of one maximum: beside places that are about as high it has kinks."""
    kept: Array = values <= np.median(values)
    kept.flat[values.argmax()] = True
    return kept


def usual_target(form: Form, output: Array, mirrored: Array, ending: Ending) -> Targets:
    """Return the target that maps of a picture are compared for, of one row.

    It is the top class, of maps the one that wins the largest part of the picture, there; of an embedding, likeness to
    the mirrored picture: likeness to the picture itself is at its maximum, and has no gradient.

    Args:
        form: The tensors of targets.
        output: The normal form of the picture, (C,), (C, h, w) or (D,).
        mirrored: The same of the mirrored picture.
        ending: The function that makes confidences of logits.
    """
    targets = form.placeholders(1)
    if form.kind == "embedding":
        return {"reference": mirrored[None]}
    if form.kind == "vector":
        targets["class_index"][0] = output.argmax()
        return targets
    won = output.argmax(axis=0) if ending != "value" else np.full(output.shape[1:], output.mean(axis=(1, 2)).argmax())
    targets["class_index"][0] = top = np.bincount(won.ravel()).argmax()
    targets["region"][0] = won == top
    return targets
