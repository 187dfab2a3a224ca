"""Specs of cuda/reduce.cu."""

from collections.abc import Iterator

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.spec import Arguments, Parameter, Spec, blocks
from fusioncam.kernels.specs.masks import BROKEN, CONSTANT, LIVE, ZERO


def rows_of_numbers(rng: np.random.Generator) -> Iterator[Arguments]:
    """Yield gradients, with a common offset that would spoil sums in float32, and with NaN."""
    for rows, count in ((1, 1), (5, 49), (3, 64), (4, 65), (2, 3000), (2048, 4)):
        values = (rng.standard_normal((rows, count)) + 100).astype(np.float32)
        values[rows // 2, -1] = np.nan if rows > 2 else 0
        yield {"values": values}


def weighted(weights: Array, maps: Array, positive: int) -> tuple[Array]:
    """Return sum_k w_nk A_k (N, P), cut off at zero where `positive`; values that are not finite become NaN."""
    exact = maps.astype(np.float64)[:, None]
    sums = np.stack([reference.weighted_sum(row, exact)[0] for row in weights.astype(np.float64)])
    sums[~np.isfinite(sums)] = np.nan
    return (reference.relu(sums) if positive else sums,)


def weights_and_maps(rng: np.random.Generator) -> Iterator[Arguments]:
    """Yield weights of both signs, so that the sums cancel; NaN among the weights and in a map."""
    for n, channels, points in (
        (1, 1, 1), (1, 12, 49), (3, 16, 32), (6, 5, 40), (2, 17, 33), (1, 4096, 9), (2, 100, 1000)
    ):  # fmt: skip
        for positive in (0, 1):
            weights = (rng.standard_normal((n, channels)) / channels).astype(np.float32)
            maps = rng.random((channels, points)).astype(np.float32)
            if n > 1:
                weights[-1, -1], weights[0, 0], maps[0, 0] = np.nan, -np.inf, np.nan
            yield {"weights": weights, "maps": maps, "positive": positive}


def softmax_of_scores(scores: Array, blank: Array, kinds: Array) -> tuple[Array]:
    """Return the weights (N, K): zero for channels of zeros; constant channels have the score of the blank picture."""
    exact = np.where(kinds == CONSTANT, blank.astype(np.float64)[:, None], scores.astype(np.float64))
    weights, live = np.zeros_like(exact), kinds != ZERO
    if live.any():
        weights[:, live] = reference.softmax(exact[:, live])
    return (weights,)


def scores_of_channels(rng: np.random.Generator) -> Iterator[Arguments]:
    """Yield scores of all sizes and NaN; those of channels of zeros are never written, so they may be anything."""
    for n, channels in ((1, 1), (1, 12), (3, 256), (6, 40), (2, 257), (1, 4096)):
        for scale in (1, 1000):
            kinds = rng.choice([LIVE, ZERO, CONSTANT], channels, p=[0.6, 0.2, 0.2]).astype(np.int32)
            scores = (scale * rng.standard_normal((n, channels))).astype(np.float32)
            scores[:, kinds == ZERO] = np.nan
            blank = (scale * rng.standard_normal(n)).astype(np.float32)
            if n > 1:
                scores[1], blank[0] = np.nan, np.nan
            yield {"scores": scores, "blank": blank, "kinds": kinds}
    zeros = np.zeros((2, 5), np.float32)
    yield {"scores": zeros * np.nan, "blank": zeros[:, 0], "kinds": np.full(5, ZERO, np.int32)}
    yield {"scores": zeros, "blank": zeros[:, 0], "kinds": np.full(5, BROKEN, np.int32)}


def trusted(logits: Array) -> Array:
    """Return the logits in float64; all those of a picture become NaN where one is not finite."""
    return np.where(np.isfinite(logits).all(axis=1, keepdims=True), logits, np.nan).astype(np.float64)


SOFTMAX_ENDING, SIGMOID_ENDING, VALUE_ENDING = ENDINGS = range(3)  # how logits become probabilities


def classes_read(logits: Array, rows: Array, classes: Array, ending: int) -> tuple[Array, Array]:
    """Return the logits and the probabilities (M,) of `classes` in `rows`."""
    exact = every = trusted(logits)[rows]
    with np.errstate(over="ignore"):
        if ending == SIGMOID_ENDING:
            every = 1 / (1 + np.exp(-exact))
        elif ending == SOFTMAX_ENDING:
            every = reference.softmax(exact)
    each = np.arange(len(rows))
    return exact[each, classes], every[each, classes]


def rows_of_logits(rng: np.random.Generator) -> Iterator[Arguments]:
    """Yield logits of few and many classes, small and far from zero, with NaN and infinity."""
    for pictures, every, count in ((1, 1, 1), (4, 2, 3), (8, 1000, 5), (3, 257, 7)):
        for ending in ENDINGS:
            for scale in (1, 50, 1000):
                logits = (scale * rng.standard_normal((pictures, every))).astype(np.float32)
                if every > 1:
                    logits[0, 0], logits[1, 0] = -np.inf, np.nan
                yield {
                    "logits": logits,
                    "rows": rng.integers(0, pictures, count).astype(np.int32),
                    "classes": rng.integers(0, every, count).astype(np.int32),
                    "ending": ending,
                }


def gathered(logits: Array, channels: Array, classes: Array, scores: Array) -> tuple[Array]:
    """Return the scores (N, K) with those of `channels` set from the logits; channel -1 is a blank picture."""
    updated = scores.copy()
    for row, channel in zip(trusted(logits), channels, strict=True):
        if channel >= 0:
            updated[:, channel] = row[classes]
    return (updated,)


def chunks_of_logits(rng: np.random.Generator) -> Iterator[Arguments]:
    """Yield chunks with blank pictures at the end, each channel at most once."""
    for pictures, every, n, count in (
        (1, 1, 1, 1), (8, 10, 3, 20), (130, 4, 1, 200), (64, 1000, 2, 70), (20, 9, 6, 45)
    ):  # fmt: skip
        channels = rng.permutation(count)[:pictures].astype(np.int32)
        channels[pictures - pictures // 4 :] = -1
        logits = rng.standard_normal((pictures, every)).astype(np.float32)
        if pictures > 8:
            logits[:3, -1] = np.nan, np.inf, -np.inf
        yield {
            "logits": logits,
            "channels": channels,
            "classes": rng.integers(0, every, n).astype(np.int32),
            "scores": rng.standard_normal((n, count)).astype(np.float32),
        }


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
    sample=rows_of_numbers,
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
    sample=weights_and_maps,
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
    sample=scores_of_channels,
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
    sample=chunks_of_logits,
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
    sample=rows_of_logits,
    tolerance=1e-12,
)
SPECS = (MEANS, WEIGHTED, SOFTMAX, GATHER, READ)
