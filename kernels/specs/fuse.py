"""Specs of cuda/fuse.cu."""

from collections.abc import Iterator

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.spec import Arguments, Parameter, Spec

DEGENERATE, MIXED = 1, 2
SHAPES = ((2, 37), (1, 1), (1, 2), (1, 1024), (3, 1500), (1, 5000))


def percentile(theta: float, pixels: int) -> tuple[int, float]:
    """Return rank and fraction of a percentile among `pixels` values, with the linear interpolation of numpy."""
    place = (pixels - 1) * (theta / 100)
    rank = min(int(place), pixels - 1)
    return rank, place - rank


def denoise(maps: Array, rank: int, fraction: float) -> tuple[Array]:
    """Return D of every map (N, P); `rank` and `fraction` name the percentile."""
    theta = 100 * (rank + fraction) / max(maps.shape[1] - 1, 1)
    made = np.concatenate([reference.denoise(m.astype(np.float64)[None], theta) for m in maps])
    made[np.isnan(maps).any(axis=1)] = np.nan
    return (made,)


def maps_to_denoise(rng: np.random.Generator) -> Iterator[Arguments]:
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


def shares(first: Array, second: Array) -> list[reference.Contributions]:
    """Return the shares of step 3 per map; NaN stays NaN, as the host looks for it in the maps only."""
    unknown = reference.Contributions(np.nan, np.nan, False, False)
    gains = zip(first.tolist(), second.tolist(), strict=True)
    return [unknown if np.isnan(a + b) else reference.contributions(a, b) for a, b in gains]


def flags_of(every: list[reference.Contributions]) -> Array:
    """Return the flags as the kernels write them."""
    return np.array([DEGENERATE * s.degenerate + MIXED * s.mixed for s in every], np.int32)


def unite(
    denoised: Array, region: Array, of_blank: Array, of_denoised: Array, of_region: Array
) -> tuple[Array, Array, Array]:
    """Return the region's shares (N,), the flags (N,) and U (N, P)."""
    every = shares(of_denoised - of_blank, of_region - of_blank)
    maps = zip(denoised.astype(np.float64), region.astype(np.float64), every, strict=True)
    out = np.concatenate([reference.unite(d[None], r[None], s) for d, r, s in maps])
    return np.array([s.second for s in every]), flags_of(every), out


def blend(united: Array, region: Array, of_blank: Array, of_united: Array, region_share: Array) -> tuple[Array, Array]:
    """Return the flags (N,) and F (N, P)."""
    every = shares(of_united - of_blank, region_share)
    maps = zip(united.astype(np.float64), region.astype(np.float64), every, strict=True)
    return flags_of(every), np.concatenate([reference.blend(u[None], r[None], s) for u, r, s in maps])


def confidences(rng: np.random.Generator, count: int) -> Iterator[tuple[Array, Array]]:
    """Yield confidences of the blank picture and gains: positive, negative, near zero, NaN."""
    blank = rng.uniform(0, 0.2, count)
    nothing, unknown = np.full(count, 1e-9), np.full(count, np.nan)
    for gain in (rng.uniform(0.1, 0.7, count), rng.uniform(-0.1, -0.05, count), nothing, unknown):
        yield blank, gain


def maps_to_unite(rng: np.random.Generator) -> Iterator[Arguments]:
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


def maps_to_blend(rng: np.random.Generator) -> Iterator[Arguments]:
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


MAPS = Parameter(np.float32, ("N", "P"))
MADE = Parameter(np.float32, ("N", "P"), out=True)
NUMBERS = Parameter(np.float64, ("N",))
FLAGS = Parameter(np.int32, ("N",), out=True)

DENOISE = Spec(
    name="denoise_maps",
    arrays={"maps": MAPS, "out": MADE},
    sizes=("N", "P"),
    scalars={"rank": np.int32, "fraction": np.float64},
    grid=lambda s: (s["N"], 1, 1),
    block=1024,
    reference=denoise,
    sample=maps_to_denoise,
    tolerance=1e-6,
    rules={"rank must be at least 0 and less than P": lambda v: 0 <= v["rank"] < v["P"]},
)
UNITE = Spec(
    name="unite_maps",
    arrays={
        "denoised": MAPS,
        "region": MAPS,
        "of_blank": NUMBERS,
        "of_denoised": NUMBERS,
        "of_region": NUMBERS,
        "region_share": Parameter(np.float64, ("N",), out=True),
        "flags": FLAGS,
        "out": MADE,
    },
    sizes=("N", "P"),
    grid=lambda s: (s["N"], 1, 1),
    block=1024,
    reference=unite,
    sample=maps_to_unite,
    tolerance=1e-5,
)
BLEND = Spec(
    name="blend_maps",
    arrays={
        "united": MAPS,
        "region": MAPS,
        "of_blank": NUMBERS,
        "of_united": NUMBERS,
        "region_share": NUMBERS,
        "flags": FLAGS,
        "out": MADE,
    },
    sizes=("N", "P"),
    grid=lambda s: (s["N"], 1, 1),
    block=1024,
    reference=blend,
    sample=maps_to_blend,
    tolerance=1e-5,
)
SPECS = (DENOISE, UNITE, BLEND)
