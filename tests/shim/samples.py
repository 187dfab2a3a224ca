"""Inputs of the kernels, from easy to nasty: one generator of arguments per kernel.

Sizes of the outputs that the inputs do not fix come along by name.
"""

import numpy as np

from fusioncam.kernels.specs.fuse import percentile
from fusioncam.kernels.specs.masks import BROKEN, CONSTANT, LIVE, ZERO, turning_points
from fusioncam.kernels.specs.reduce import ENDINGS

# (h, w, H, W): the usual, odd ones, one row or column, downsampling, the same size.
GEOMETRIES = (
    (7, 7, 224, 224), (1, 1, 8, 8), (2, 3, 24, 32), (13, 9, 55, 37), (5, 7, 13, 64), (1, 6, 3, 33), (6, 1, 40, 5),
    (9, 8, 4, 3), (8, 24, 8, 24), (3, 3, 299, 299), (17, 4, 17, 31),
)  # fmt: skip
SHAPES = ((2, 37), (1, 1), (1, 2), (1, 1024), (3, 1500), (1, 5000))


def maps_to_normalize(rng):
    """Yield activations of every kind: all zero, constant, nearly constant, negative, tiny, huge, NaN, infinite."""
    for h, w, height, width in GEOMETRIES:
        for positive in (0, 1):
            maps = rng.standard_normal((13, h, w)).astype(np.float32)
            maps[1], maps[2] = 0, 0.7
            maps[3] = 1000 + 1e-2 * maps[3]
            maps[4] = np.maximum(maps[4], 0)
            maps[5], maps[6], maps[7] = -abs(maps[5]), maps[6] * 1e-30, maps[7] * 1e30
            maps[8, -1, -1], maps[9, 0, 0] = np.nan, -np.inf
            maps[10] = np.sign(maps[10]) * np.finfo(np.float32).max
            maps[11], maps[12] = 1000 + 1e-4 * maps[11], -np.inf
            rows, columns = turning_points((h, w), (height, width))
            yield {"maps": maps, "rows": rows, "columns": columns, "H": height, "W": width, "positive": positive}


def pictures_to_mask(rng):
    """Yield chunks of one and of several pictures, with blank pictures among them."""
    for h, w, height, width in GEOMETRIES:
        maps = rng.random((5, h, w)).astype(np.float32)
        for count in (1, 6, 9):
            channels = rng.integers(-1, 5, count).astype(np.int32)
            image = rng.standard_normal((3, height, width)).astype(np.float32)
            yield {"maps": maps, "channels": channels, "image": image}


def small_maps(rng):
    """Yield scaled maps, some below zero, one with NaN, with the size of the output."""
    for h, w, height, width in GEOMETRIES:
        scaled = rng.uniform(-0.5, 1, (3, h, w)).astype(np.float32)
        scaled[1, 0, 0] = np.nan
        yield {"scaled": scaled, "H": height, "W": width}


def rows_of_numbers(rng):
    """Yield gradients, with a common offset that would spoil sums in float32, and with NaN."""
    for rows, count in ((1, 1), (5, 49), (3, 64), (4, 65), (2, 3000), (2048, 4)):
        values = (rng.standard_normal((rows, count)) + 100).astype(np.float32)
        values[rows // 2, -1] = np.nan if rows > 2 else 0
        yield {"values": values}


def weights_and_maps(rng):
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


def scores_of_channels(rng):
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


def rows_of_logits(rng):
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


def chunks_of_logits(rng):
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


def maps_to_denoise(rng):
    """Yield smooth maps, maps with many ties (above all at zero), constant maps, maps of both signs, maps with NaN."""
    for n, pixels in SHAPES:
        smooth = rng.random((n, pixels)).astype(np.float32)
        ties = np.round(smooth, 1)
        mostly_zero, constant = np.where(ties > 0.8, ties, 0).astype(np.float32), np.full_like(smooth, 0.5)
        signed, broken = smooth - np.float32(0.5), smooth.copy()
        broken[-1, -1], broken[1:2] = np.nan, np.nan
        for maps in (smooth, ties, mostly_zero, constant, signed, broken):
            for theta in (0, 10, 12.5, 50, 100):
                rank, fraction = percentile(theta, pixels)
                yield {"maps": maps, "rank": rank, "fraction": fraction}


def confidences(rng, count):
    """Yield confidences of the blank picture and gains: positive, negative, near zero, NaN."""
    blank = rng.uniform(0, 0.2, count)
    nothing, unknown = np.full(count, 1e-9), np.full(count, np.nan)
    for gain in (rng.uniform(0.1, 0.7, count), rng.uniform(-0.1, -0.05, count), nothing, unknown):
        yield blank, gain


def maps_to_unite(rng):
    """Yield gains of one sign, of mixed sign, near zero, and NaN; then maps with NaN."""
    for n, pixels in SHAPES:
        denoised, region = (rng.random((n, pixels)).astype(np.float32) for _ in range(2))
        for blank, gain in confidences(rng, n):
            of_region = blank + (0.3 if abs(gain[0]) > 1e-6 else 0)
            yield {
                "denoised": denoised, "region": region, "of_blank": blank, "of_denoised": blank + gain,
                "of_region": of_region,
            }  # fmt: skip
        zeros, broken = np.zeros_like(region), region.copy()
        broken[-1, -1] = np.nan
        for maps in ((broken, region), (denoised, broken)):
            given = dict(zip(("denoised", "region"), maps, strict=True))
            yield {**given, "of_blank": blank, "of_denoised": blank + 0.1, "of_region": blank + 0.3}
        yield {"denoised": zeros, "region": zeros, "of_blank": blank, "of_denoised": blank + 1, "of_region": blank + 1}


def maps_to_blend(rng):
    """Yield the gains of `maps_to_unite`, one step later."""
    for n, pixels in SHAPES:
        united, region = (rng.random((n, pixels)).astype(np.float32) for _ in range(2))
        for blank, gain in confidences(rng, n):
            share = np.where(abs(gain) > 1e-6, 0.6, 0.0)
            yield {
                "united": united, "region": region, "of_blank": blank, "of_united": blank + gain, "region_share": share
            }  # fmt: skip
        broken = united.copy()
        broken[-1, -1] = np.nan
        share = np.full(n, 0.6)
        yield {"united": broken, "region": region, "of_blank": blank, "of_united": blank + 0.1, "region_share": share}


def photo_and_map(rng):
    """Yield noise, under a map that leaves [0, 1] and holds NaN."""
    for pixels in (1, 16, 37, 3000):
        for opacity in (0.0, 0.7, 1.0):
            saliency = rng.uniform(-0.2, 1.2, pixels).astype(np.float32)
            saliency[0] = np.nan
            yield {
                "photo": rng.integers(0, 256, (pixels, 3), np.uint8),
                "map": saliency,
                "colors": rng.integers(0, 256, (256, 3), np.uint8),
                "opacity": opacity,
            }


SAMPLES = {
    "normalize_maps": maps_to_normalize,
    "mask_pictures_float": pictures_to_mask,
    "mask_pictures_half": pictures_to_mask,
    "expand_maps": small_maps,
    "row_means": rows_of_numbers,
    "weighted_sums": weights_and_maps,
    "score_weights": scores_of_channels,
    "gather_scores": chunks_of_logits,
    "read_classes": rows_of_logits,
    "denoise_maps": maps_to_denoise,
    "unite_maps": maps_to_unite,
    "blend_maps": maps_to_blend,
    "overlay_map": photo_and_map,
}
