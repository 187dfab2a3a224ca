"""Specs of cuda/reduce.cu."""

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.spec import Parameter, Spec, blocks
from fusioncam.kernels.specs.masks import CONSTANT, ZERO


def weighted(weights: Array, maps: Array, positive: int) -> tuple[Array]:
    """Return sum_k w_nk A_k (N, P), cut off at zero where `positive`; values that are not finite become NaN."""
    exact = maps.astype(np.float64)[:, None]
    sums = np.stack([reference.weighted_sum(row, exact)[0] for row in weights.astype(np.float64)])
    sums[~np.isfinite(sums)] = np.nan
    return (reference.relu(sums) if positive else sums,)


def softmax_of_scores(scores: Array, blank: Array, kinds: Array) -> tuple[Array]:
    """Return the weights (N, K): zero for channels of zeros; constant channels have the score of the blank picture."""
    exact = np.where(kinds == CONSTANT, blank.astype(np.float64)[:, None], scores.astype(np.float64))
    weights, live = np.zeros_like(exact), kinds != ZERO
    if live.any():
        weights[:, live] = reference.softmax(exact[:, live])
    return (weights,)


def trusted(logits: Array) -> Array:
    """Return the logits in float64; all those of a picture become NaN where one is not finite."""
    return np.where(np.isfinite(logits).all(axis=1, keepdims=True), logits, np.nan).astype(np.float64)


SOFTMAX_ENDING, SIGMOID_ENDING, VALUE_ENDING = ENDINGS = range(3)  # how logits become probabilities


def classes_read(logits: Array, rows: Array, classes: Array, ending: int) -> tuple[Array, Array]:
    """Return the logits and the probabilities (M,) of `classes` in `rows`."""
    exact = probabilities = trusted(logits)[rows]
    with np.errstate(over="ignore"):
        if ending == SIGMOID_ENDING:
            probabilities = 1 / (1 + np.exp(-exact))
        elif ending == SOFTMAX_ENDING:
            probabilities = reference.softmax(exact)
    index = np.arange(len(rows))
    return exact[index, classes], probabilities[index, classes]


def gathered(logits: Array, channels: Array, classes: Array, scores: Array) -> tuple[Array]:
    """Return the scores (N, K) with those of `channels` set from the logits; channel -1 is a blank picture."""
    updated = scores.copy()
    for row, channel in zip(trusted(logits), channels, strict=True):
        if channel >= 0:
            updated[:, channel] = row[classes]
    return (updated,)


MEANS = Spec(
    name="row_means",
    arrays={
        "values": Parameter(np.float32, ("rows", "count")),
        "means": Parameter(np.float32, ("rows",), out=True),
    },
    sizes=("rows", "count"),
    grid=lambda s: (s["rows"], 1, 1),
    block=64,
    reference=lambda values: (values.mean(axis=1, dtype=np.float64),),
    tolerance=1e-5,
)
WEIGHTED = Spec(
    name="weighted_sums",
    arrays={
        "weights": Parameter(np.float32, ("N", "K")),
        "maps": Parameter(np.float32, ("K", "P")),
        "sums": Parameter(np.float32, ("N", "P"), out=True),
    },
    sizes=("N", "K", "P"),
    scalars={"positive": np.int32},
    grid=lambda s: (blocks(s["P"], 32), s["N"], 1),
    block=512,
    reference=weighted,
    tolerance=1e-6,
)
SOFTMAX = Spec(
    name="score_weights",
    arrays={
        "scores": Parameter(np.float32, ("N", "K")),
        "blank": Parameter(np.float32, ("N",)),
        "kinds": Parameter(np.int32, ("K",)),
        "weights": Parameter(np.float32, ("N", "K"), out=True),
    },
    sizes=("N", "K"),
    grid=lambda s: (s["N"], 1, 1),
    block=256,
    reference=softmax_of_scores,
    tolerance=1e-6,
)
GATHER = Spec(
    name="gather_scores",
    arrays={
        "logits": Parameter(np.float32, ("B", "C")),
        "channels": Parameter(np.int32, ("B",)),
        "classes": Parameter(np.int32, ("N",)),
        "scores": Parameter(np.float32, ("N", "K"), out=True, kept=True),
    },
    sizes=("B", "C", "N", "K"),
    grid=lambda s: (s["B"], 1, 1),
    block=128,
    reference=gathered,
    tolerance=0,
)
READ = Spec(
    name="read_classes",
    arrays={
        "logits": Parameter(np.float32, ("B", "C")),
        "rows": Parameter(np.int32, ("M",)),
        "classes": Parameter(np.int32, ("M",)),
        "scores": Parameter(np.float32, ("M",), out=True),
        "confidences": Parameter(np.float64, ("M",), out=True),
    },
    sizes=("B", "C", "M"),
    scalars={"ending": np.int32},
    grid=lambda s: (s["M"], 1, 1),
    block=256,
    reference=classes_read,
    tolerance=1e-12,
)
SPECS = (MEANS, WEIGHTED, SOFTMAX, GATHER, READ)
