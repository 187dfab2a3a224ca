"""Targets to try a model with: some classes of the whole picture, or vectors at random."""

from collections.abc import Iterator

import numpy as np

from fusioncam.forms import SIDES, Form
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Ending

Targets = dict[str, Array]

TRIED = 4  # classes or references


def probe_targets(form: Form, count: int) -> Iterator[Targets]:
    """Yield targets for `count` pictures, the same one for each: the top class first, then some classes.

    Of an embedding, they are likeness to some random vectors.
    """
    rng = np.random.default_rng(0)
    if form.detector is not None:
        yield from _probe_anchors(form, count, rng)
        return
    for c in (-1, *range(min(form.output.shape[0], TRIED))):
        targets = form.placeholders(count)
        if "class_index" in targets:
            targets["class_index"][:] = c
        if "reference" in targets:
            targets["reference"][:] = rng.normal(size=form.output.shape)
        yield targets


def _probe_anchors(form: Form, count: int, rng: np.random.Generator) -> Iterator[Targets]:
    """Yield some classes and edges at anchors far apart, which lie on all levels."""
    anchors = form.output.shape[0]
    for anchor in np.linspace(0, anchors - 1, min(anchors, 2 * TRIED)).round().astype(np.int64):
        targets = form.placeholders(count)
        targets["anchor"][:], targets["class_index"][:] = anchor, rng.integers(form.classes)
        targets["weights"][:, :SIDES] = rng.normal(size=SIDES)
        yield targets


def checked_targets(form: Form, output: Array) -> Iterator[tuple[str, Targets, Targets]]:
    """Yield one target of each kind for a picture: words for it, the target, and the same by the number of its class.

    It is of the top class, -1, which another picture may not share; of an embedding, likeness to a random vector.

    Args:
        form: The tensors of targets.
        output: The normal form of the picture, (C,), (C, h, w) or (D,).
    """
    rng, targets = np.random.default_rng(0), form.placeholders(1)
    if form.detector is not None:
        targets |= box_at(form, output, int(output[:, SIDES : SIDES + form.classes].max(axis=1).argmax()))
        yield " of a class at an anchor", targets, targets
        edges = {**targets, "weights": np.array([[-1, -1, 1, 1, 0]], np.float32)}
        yield " of the edges of a box", edges, edges
        return
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


def box_at(form: Form, output: Array, anchor: int) -> Targets:
    """Return the target of the best class at an anchor and of its box, of one row.

    Args:
        form: The tensors of targets.
        output: The normal form of the picture, (A, columns).
        anchor: The anchor.
    """
    assert form.detector is not None
    numbers = output[anchor, SIDES : SIDES + form.classes].copy()
    if form.detector.background is not None and form.detector.background < form.classes:
        numbers[form.detector.background] = -np.inf
    targets = form.placeholders(1)
    targets["class_index"][0], targets["anchor"][0] = numbers.argmax(), anchor
    targets["box"][0] = output[anchor, :SIDES]
    return targets


def _clear_peak(values: Array) -> Array:
    """Return the places of a map's lower half and of one maximum: beside places that are about as high it has kinks."""
    kept: Array = values <= np.median(values)
    kept.flat[values.argmax()] = True
    return kept


def best_scores(form: Form, output: Array, ending: Ending) -> Array:
    """Return the score (A,) of the best class at each anchor, the background left out."""
    assert form.detector is not None
    numbers = output[:, SIDES : SIDES + form.detector.numbers(form.classes)]
    scores = probabilities(numbers, ending)[:, : form.classes]
    if form.detector.background is not None and form.detector.background < form.classes:
        scores[:, form.detector.background] = 0
    return np.asarray(scores.max(axis=1))


def usual_target(form: Form, output: Array, mirrored: Array, ending: Ending) -> Targets:
    """Return the target that maps of a picture are compared for, of one row.

    It is the top class, of maps the one that wins the largest part of the picture, there; of boxes, the detection of
    the highest score; of an embedding, likeness to the mirrored picture: likeness to the picture itself is at its
    maximum, and has no gradient.

    Args:
        form: The tensors of targets.
        output: The normal form of the picture, (C,), (C, h, w) or (D,).
        mirrored: The same of the mirrored picture.
        ending: The function that makes confidences of logits.
    """
    targets = form.placeholders(1)
    if form.kind == "embedding":
        return {"reference": mirrored[None]}
    if form.detector is not None:
        return box_at(form, output, int(best_scores(form, output, ending).argmax()))
    if form.kind == "vector":
        targets["class_index"][0] = output.argmax()
        return targets
    won = output.argmax(axis=0) if ending != "value" else np.full(output.shape[1:], output.mean(axis=(1, 2)).argmax())
    targets["class_index"][0] = top = np.bincount(won.ravel()).argmax()
    targets["region"][0] = won == top
    return targets
