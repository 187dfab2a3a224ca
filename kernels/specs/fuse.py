"""Specs of cuda/fuse.cu."""

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.spec import Parameter, Spec

DEGENERATE, MIXED = 1, 2


def percentile(theta: float, pixels: int) -> tuple[int, float]:
    """Return rank and fraction of a percentile among `pixels` values, with the linear interpolation of numpy."""
    place = (pixels - 1) * (theta / 100)
    rank = min(int(place), pixels - 1)
    return rank, place - rank


def denoise(maps: Array, rank: int, fraction: float) -> tuple[Array]:
    """Return D of every map (N, P); `rank` and `fraction` name the percentile."""
    theta = 100 * (rank + fraction) / max(maps.shape[1] - 1, 1)
    denoised = np.concatenate([reference.denoise(m.astype(np.float64)[None], theta) for m in maps])
    denoised[np.isnan(maps).any(axis=1)] = np.nan
    return (denoised,)


def shares(first: Array, second: Array) -> list[reference.Contributions]:
    """Return the shares of step 3 per map; NaN stays NaN, as the host looks for it in the maps only."""
    unknown = reference.Contributions(np.nan, np.nan, False, False)
    gains = zip(first.tolist(), second.tolist(), strict=True)
    return [unknown if np.isnan(a + b) else reference.contributions(a, b) for a, b in gains]


def flags_of(contributions: list[reference.Contributions]) -> Array:
    """Return the flags as the kernels write them."""
    return np.array([DEGENERATE * s.degenerate + MIXED * s.mixed for s in contributions], np.int32)


def unite(
    denoised: Array, region: Array, of_blank: Array, of_denoised: Array, of_region: Array
) -> tuple[Array, Array, Array]:
    """Return the region's shares (N,), the flags (N,) and U (N, P)."""
    contributions = shares(of_denoised - of_blank, of_region - of_blank)
    maps = zip(denoised.astype(np.float64), region.astype(np.float64), contributions, strict=True)
    out = np.concatenate([reference.unite(d[None], r[None], s) for d, r, s in maps])
    return np.array([s.second for s in contributions]), flags_of(contributions), out


def blend(united: Array, region: Array, of_blank: Array, of_united: Array, region_share: Array) -> tuple[Array, Array]:
    """Return the flags (N,) and F (N, P)."""
    contributions = shares(of_united - of_blank, region_share)
    maps = zip(united.astype(np.float64), region.astype(np.float64), contributions, strict=True)
    return flags_of(contributions), np.concatenate([reference.blend(u[None], r[None], s) for u, r, s in maps])


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
    tolerance=1e-5,
)
SPECS = (DENOISE, UNITE, BLEND)
