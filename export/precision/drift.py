"""The drift of Score-CAM's map where the masked passes are computed in another type than the explain pass."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from onnxruntime import InferenceSession

from fusioncam.kernels.arrays import Array, IndexArray
from fusioncam.kernels.masks import MaskMaker
from fusioncam.kernels.reference import score_cam
from fusioncam.manifest import Manifest

CHANNELS, CHUNK = 32, 8
# Relative to the largest value compared; float16 carries three digits. That of int8 is of the root mean square
# relative to the deviation: twice the worst seen with real models, whose photos patchwork exceeds.
LOGIT_TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "int8": 0.8}
MEASURES = ("largest difference", "1 - correlation")
# Of float16, four and ten times the worst seen with real models and photos; of int8, twice and three times. A map in
# 256 colours shows steps of 0.004.
LIMITS = {"float16": (0.03, 5e-4), "int8": (0.15, 0.015)}


@dataclass(frozen=True)
class Finding:
    """A comparison: `error` must not exceed `limit`."""

    what: str
    error: float
    limit: float

    @property
    def ok(self) -> bool:
        """Return whether the bundle passes."""
        return self.error <= self.limit  # NaN does not


def logits_of(graph: InferenceSession, images: Array) -> Array:
    """Return the logits (N, classes) of pictures (N, 3, H, W), by either graph of a bundle."""
    half = graph.get_inputs()[0].type == "tensor(float16)"
    with np.errstate(over="ignore"):  # infinity makes NaN, which does not pass
        feeds = {"image": images.astype(np.float16 if half else np.float32)}
    if len(graph.get_inputs()) > 1:
        feeds["class_index"] = np.full(len(images), -1, np.int64)
    return np.asarray(graph.run(["logits"], feeds)[0])


def masked_scores(graph: InferenceSession, masks: MaskMaker, channels: IndexArray, image: Array, c: int) -> Array:
    """Return f_c(x * M_k) (n,) float64 of n channels k, for x (3, H, W), by either graph of a bundle."""
    scores = np.empty(len(channels))
    for start in range(0, len(channels), CHUNK):
        block = slice(start, start + CHUNK)
        pictures = np.empty((len(channels[block]), *image.shape), np.float32)
        masks.fill(channels[block], pictures)
        scores[block] = logits_of(graph, pictures)[:, c]
    return scores


def compare_maps(
    explain: InferenceSession, score: InferenceSession, manifest: Manifest, images: Iterable[Array]
) -> list[Finding]:
    """Compare Score-CAM by the scores of the score graph with Score-CAM by those of the explain graph.

    On each picture (3, H, W), for its top class, by the channels that respond most; of several pictures the median
    counts. The scores go through a softmax, so one that is off by d changes the weight of its channel by
    the factor e^d.
    """
    drifts = np.asarray([_drift(explain, score, image) for image in images])
    what = f"Score-CAM by {manifest.score_precision} scores is that by {manifest.precision} ones"
    limits = LIMITS[manifest.score_precision]
    middle = zip(MEASURES, np.median(drifts, axis=0), limits, strict=True)
    return [Finding(f"{what}: {name}", float(drift), limit) for name, drift, limit in middle]


def _drift(explain: InferenceSession, score: InferenceSession, image: Array) -> tuple[float, float]:
    """Return the largest difference of the two maps, and 1 - their correlation."""
    feeds: dict[str, Array] = {"image": image[None], "class_index": np.full(1, -1, np.int64)}
    logits, activations = (array[0] for array in explain.run(["logits", "activations"], feeds))
    activations = activations[np.argsort(-np.abs(activations).sum(axis=(1, 2)))[:CHANNELS]]
    masks, channels, c = MaskMaker(activations, image), np.arange(len(activations)), int(logits.argmax())
    exact = activations.astype(np.float64)
    with np.errstate(all="ignore"):  # as in `logits_of`
        scores = [masked_scores(graph, masks, channels, image, c) for graph in (explain, score)]
        maps = [score_cam(exact, s, image.shape[1:]) for s in scores]
        return float(np.abs(maps[1] - maps[0]).max()), _decorrelation(*maps)


def _decorrelation(one: Array, two: Array) -> float:
    """Return 1 - Pearson's correlation of two maps; 0 for equal ones, and 1 where only one of them is flat."""
    if np.array_equal(one, two):
        return 0.0
    if not (one.std() and two.std()):
        return 1.0
    return 1 - float(np.corrcoef(one.ravel(), two.ravel())[0, 1])
