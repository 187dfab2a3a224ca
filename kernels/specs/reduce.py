"""Specs of cuda/reduce.cu."""

from collections.abc import Iterator

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.spec import Arguments, Parameter, Spec, blocks
from fusioncam.kernels.specs.masks import BROKEN, CONSTANT, ITEM, LIVE, ZERO


def rows_of_numbers(rng: np.random.Generator) -> Iterator[Arguments]:
    """Gradients, with a common offset that float32 sums would suffer from, and with NaN."""
    for rows, count in ((1, 1), (5, 49), (3, 64), (4, 65), (2, 3000), (2048, 4)):
        values = (rng.standard_normal((rows, count)) + 100).astype(np.float32)
        values[rows // 2, -1] = np.nan if rows > 2 else 0
        yield {"values": values}


AS_MANY_ROWS_FOR_EACH = {"N must be a multiple of I": lambda v: v["N"] % v["I"] == 0}


def image_of(rows: int, images: int) -> Array:
    """Which image each row is of: as many rows for each, in order."""
    return np.repeat(np.arange(images), rows // images)


def weighted(weights: Array, maps: Array, positive: int) -> tuple[Array]:
    """The definition; what is not finite becomes NaN, which relu does not hide."""
    exact = maps.astype(np.float64)[:, :, None]
    pairs = zip(weights.astype(np.float64), exact[image_of(len(weights), len(maps))], strict=True)
    sums = np.stack([reference.weighted_sum(w, m)[0] for w, m in pairs])
    sums[~np.isfinite(sums)] = np.nan
    return (reference.relu(sums) if positive else sums,)


def weights_and_maps(rng: np.random.Generator) -> Iterator[Arguments]:
    """Weights of both signs, so that the sums cancel; NaN among them and in a map; one image and several."""
    for n, images, channels, points in (
        (1, 1, 1, 1), (1, 1, 12, 49), (3, 3, 16, 32), (6, 2, 5, 40), (2, 1, 17, 33), (1, 1, 4096, 9), (2, 2, 100, 1000)
    ):  # fmt: skip
        for positive in (0, 1):
            weights = (rng.standard_normal((n, channels)) / channels).astype(np.float32)
            maps = rng.random((images, channels, points)).astype(np.float32)
            if n > 1:
                weights[-1, -1], weights[0, 0], maps[0, 0, 0] = np.nan, -np.inf, np.nan
            yield {"weights": weights, "maps": maps, "positive": positive}


def softmax_of_scores(scores: Array, blank: Array, kinds: Array) -> tuple[Array]:
    """The definition: channels of zeros are left out, constant ones have the blank picture's score."""
    every = kinds[image_of(len(scores), len(kinds))]
    exact = np.where(every == CONSTANT, blank.astype(np.float64)[:, None], scores.astype(np.float64))
    weights = np.zeros_like(exact)
    for row, given, kind in zip(weights, exact, every, strict=True):
        if (kind != ZERO).any():
            row[kind != ZERO] = reference.softmax(given[kind != ZERO])
    return (weights,)


def scores_of_channels(rng: np.random.Generator) -> Iterator[Arguments]:
    """Scores of all sizes and NaN; what stands at channels of zeros is never written, so it may be anything."""
    for n, images, channels in ((1, 1, 1), (1, 1, 12), (3, 1, 256), (6, 3, 40), (2, 2, 257), (1, 1, 4096)):
        for scale in (1, 1000):
            kinds = rng.choice([LIVE, ZERO, CONSTANT], (images, channels), p=[0.6, 0.2, 0.2]).astype(np.int32)
            scores = (scale * rng.standard_normal((n, channels))).astype(np.float32)
            scores[kinds[image_of(n, images)] == ZERO] = np.nan
            blank = (scale * rng.standard_normal(n)).astype(np.float32)
            if n > 1:
                scores[1], blank[0] = np.nan, np.nan
            yield {"scores": scores, "blank": blank, "kinds": kinds}
    zeros = np.zeros((2, 5), np.float32)
    yield {"scores": zeros * np.nan, "blank": zeros[:, 0], "kinds": np.full((1, 5), ZERO, np.int32)}
    yield {"scores": zeros, "blank": zeros[:, 0], "kinds": np.full((1, 5), BROKEN, np.int32)}


def trusted(logits: Array) -> Array:
    """The logits in float64; all those of a picture are NaN where one is not finite."""
    return np.where(np.isfinite(logits).all(axis=1, keepdims=True), logits, np.nan).astype(np.float64)


SOFTMAX_ENDING, SIGMOID_ENDING, VALUE_ENDING = ENDINGS = range(3)  # how logits become probabilities


def classes_read(logits: Array, rows: Array, classes: Array, ending: int) -> tuple[Array, Array]:
    """The definition."""
    exact = every = trusted(logits)[rows]
    with np.errstate(over="ignore"):
        if ending == SIGMOID_ENDING:
            every = 1 / (1 + np.exp(-exact))
        elif ending == SOFTMAX_ENDING:
            every = reference.softmax(exact)
    each = np.arange(len(rows))
    return exact[each, classes], every[each, classes]


def rows_of_logits(rng: np.random.Generator) -> Iterator[Arguments]:
    """Logits of few and many classes, small and far from zero, with NaN and infinity."""
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


def gathered(logits: Array, items: Array, classes: Array, scores: Array, I: int) -> tuple[Array]:  # noqa: E741, N803
    """The definition; scores of channels that are not among the items stay."""
    found, (n, channels) = scores.copy(), scores.shape
    for row, item in zip(trusted(logits), items["map"], strict=True):
        if item >= 0:
            mine = image_of(n, I) == item // channels
            found[mine, item % channels] = row[classes[mine]]
    return (found,)


def chunks_of_logits(rng: np.random.Generator) -> Iterator[Arguments]:
    """Chunks with blank pictures behind, each channel at most once; of one image and of several."""
    for pictures, every, n, images, channels in (
        (1, 1, 1, 1, 1), (8, 10, 3, 1, 20), (130, 4, 1, 1, 200), (64, 1000, 2, 1, 70), (20, 9, 6, 3, 15)
    ):  # fmt: skip
        items = np.zeros(pictures, ITEM)
        items["map"] = rng.permutation(images * channels)[:pictures]
        items["map"][pictures - pictures // 4 :] = -1
        logits = rng.standard_normal((pictures, every)).astype(np.float32)
        if pictures > 8:
            logits[:3, -1] = np.nan, np.inf, -np.inf
        yield {
            "logits": logits,
            "items": items,
            "classes": rng.integers(0, every, n).astype(np.int32),
            "scores": rng.standard_normal((n, channels)).astype(np.float32),
            "I": images,
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
        "maps": Parameter(np.float32, ("I", "K", "P")),
        "sums": Parameter(np.float32, ("N", "P"), out=True),
    },
    sizes=("N", "I", "K", "P"),
    scalars={"positive": np.int32},
    grid=lambda s: (blocks(s["P"], 32), s["N"], 1),
    block=512,
    reference=weighted,
    sample=weights_and_maps,
    tolerance=1e-6,
    rules=AS_MANY_ROWS_FOR_EACH,
)
SOFTMAX = Spec(
    name="score_weights",
    arrays={
        "scores": Parameter(np.float32, ("N", "K")),
        "blank": Parameter(np.float32, ("N",)),
        "kinds": Parameter(np.int32, ("I", "K")),
        "weights": Parameter(np.float32, ("N", "K"), out=True),
    },
    sizes=("N", "I", "K"),
    grid=lambda s: (s["N"], 1, 1),
    block=256,
    reference=softmax_of_scores,
    sample=scores_of_channels,
    tolerance=1e-6,
    rules=AS_MANY_ROWS_FOR_EACH,
)
GATHER = Spec(
    name="gather_scores",
    arrays={
        "logits": Parameter(np.float32, ("B", "C")),
        "items": Parameter(ITEM, ("B",)),
        "classes": Parameter(np.int32, ("N",)),
        "scores": Parameter(np.float32, ("N", "K"), out=True, kept=True),
    },
    sizes=("B", "C", "N", "I", "K"),
    grid=lambda s: (s["B"], 1, 1),
    block=128,
    reference=gathered,
    sample=chunks_of_logits,
    tolerance=0,
    rules=AS_MANY_ROWS_FOR_EACH,
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
