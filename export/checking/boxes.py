"""Boxes of a bundle, and the scores of targets of them, computed in NumPy."""

import numpy as np

from fusioncam.export.readers.boxes import decode
from fusioncam.export.row_order import in_order_of
from fusioncam.forms import SIDES, Form
from fusioncam.kernels.arrays import Array, Float64Array
from fusioncam.kernels.boxes import overlaps
from fusioncam.manifest import Manifest

Targets = dict[str, Array]


def random_boxes(form: Form, output: Array) -> Targets:
    """Return a target for each picture of a normal form (N, A, columns): a box near that of an anchor drawn at random.

    The last explains the box alone.
    """
    rng, targets = np.random.default_rng(0), form.placeholders(len(output))
    anchors = rng.integers(output.shape[1], size=len(output))
    boxes = output[np.arange(len(output)), anchors, :SIDES]
    sizes = np.abs(boxes[:, 2:] - boxes[:, :2]).repeat(2, axis=0).reshape(-1, SIDES)
    targets["class_index"] = rng.integers(form.classes, size=len(output))
    targets["anchor"] = anchors
    targets["box"] = (boxes + 0.1 * sizes * rng.normal(size=boxes.shape)).astype(np.float32)
    targets["weights"] = rng.normal(size=targets["weights"].shape).astype(np.float32)
    targets["weights"][-1, SIDES] = 0
    return targets


def score_boxes(manifest: Manifest, output: Array, targets: Targets) -> tuple[Float64Array, Float64Array]:
    """Return scores, of the anchors, and confidences, the similarity, (N, T) of T targets on N normal forms."""
    detector = manifest.detector
    assert detector is not None
    exact, read = output.astype(np.float64), decode(output, detector, manifest.classes, manifest.ending)
    classes, anchors = SIDES + targets["class_index"], targets["anchor"]
    shares = np.stack([overlaps(box, exact[..., :SIDES]) for box in targets["box"]], axis=1)
    gains = shares * read[..., classes].swapaxes(1, 2)
    rows = np.arange(len(anchors))
    own = shares[:, rows, anchors]
    weights = targets["weights"].astype(np.float64)
    at = exact[:, anchors]
    scores = (weights[:, :SIDES] * at[..., :SIDES]).sum(axis=2) + weights[:, SIDES] * at[:, rows, classes]
    return scores, np.where(weights[:, SIDES] == 0, own, gains.max(axis=2))


def off_boxes(output: Array, manifest: Manifest, source: Array) -> float:
    """Return how far boxes and scores are from those of the source: boxes relative to the longer side of the input.

    Queries, which need no search for duplicates, may have another order than in the source.

    Args:
        output: The normal form (N, A, columns).
        manifest: The bundle's.
        source: What `read_raw` makes of the source's tensors.
    """
    assert manifest.detector is not None
    mine = decode(output, manifest.detector, manifest.classes, manifest.ending)
    if mine.shape != source.shape:
        return float("inf")
    if not manifest.detector.nms:
        mine = np.stack([in_order_of(rows, there) for rows, there in zip(mine, source, strict=True)])
    off = np.abs(mine - source)
    classes = slice(SIDES, SIDES + manifest.detector.numbers(manifest.classes))
    sides, extras = off[..., :SIDES].max() / max(manifest.preprocessing.size), off[..., classes.stop :]
    scale = np.abs(source[..., classes.stop :]).max(initial=0) or 1.0
    return float(max(sides, off[..., classes].max(), extras.max(initial=0) / scale))
