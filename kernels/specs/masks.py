"""Specs of cuda/masks.cu."""

from collections.abc import Iterator

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import Grid
from fusioncam.kernels.masks import turns
from fusioncam.kernels.spec import Arguments, Parameter, Sizes, Spec, blocks

LIVE, ZERO, CONSTANT, BROKEN = range(4)
PICTURES_PER_THREAD = 4

# (h, w, H, W): the usual, odd ones, one row or column, downsampling, the same size.
GEOMETRIES = (
    (7, 7, 224, 224), (1, 1, 8, 8), (2, 3, 24, 32), (13, 9, 55, 37), (5, 7, 13, 64), (1, 6, 3, 33), (6, 1, 40, 5),
    (9, 8, 4, 3), (8, 24, 8, 24), (3, 3, 299, 299), (17, 4, 17, 31),
)  # fmt: skip


def normalize(maps: Array, rows: Array, columns: Array, H: int, W: int, positive: int) -> tuple[Array, Array]:  # noqa: N803
    """Return scaled maps and their kinds; the extremes are sought at every pixel."""
    finite = np.asarray(np.isfinite(maps).all(axis=(1, 2)))
    exact = np.where(finite[:, None, None], maps, 0).astype(np.float64)
    wide = reference.upsample(exact, (H, W))
    low, high = (f(wide, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    if positive:
        low, high = np.maximum(low, 0), np.maximum(high, 0)
    flat = reference.is_constant(low, high)
    kinds = np.where(flat.ravel(), CONSTANT, LIVE)
    kinds[~maps.any(axis=(1, 2))] = ZERO
    scaled = (exact - low) * np.where(flat, 0, 1 / np.where(flat, 1, high - low))
    scaled[~finite] = np.nan
    return scaled, np.where(finite, kinds, BROKEN).astype(np.int32)


def turning_points(small: tuple[int, int], large: tuple[int, int]) -> tuple[Array, Array]:
    """Return rows and columns of an upsampled map that hold its extremes, as `normalize_maps` takes them."""
    rows, columns = (turns(n, m) for n, m in zip(small, large, strict=True))
    return rows.astype(np.int32), columns.astype(np.int32)


def maps_to_normalize(rng: np.random.Generator) -> Iterator[Arguments]:
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


def mask(maps: Array, channels: Array, image: Array) -> tuple[Array]:
    """Return up(map) * image (B, 3, H, W), for maps that are scaled already; channel -1 is a blank picture."""
    wide = reference.upsample(maps.astype(np.float64), (image.shape[-2], image.shape[-1]))
    masks = np.where(channels[:, None, None] < 0, 0, wide[channels])
    return (masks[:, None] * image.astype(np.float64),)


def pictures_to_mask(rng: np.random.Generator) -> Iterator[Arguments]:
    """Yield chunks of one and of several pictures, with blank pictures among them."""
    for h, w, height, width in GEOMETRIES:
        maps = rng.random((5, h, w)).astype(np.float32)
        for count in (1, 6, 9):
            channels = rng.integers(-1, 5, count).astype(np.int32)
            image = rng.standard_normal((3, height, width)).astype(np.float32)
            yield {"maps": maps, "channels": channels, "image": image}


def masking(name: str, dtype: type[np.generic], tolerance: float) -> Spec:
    """Return the spec of the mask kernel for one type of picture."""
    together = 16 // np.dtype(dtype).itemsize

    def grid(s: Sizes) -> Grid:
        # Either a thread per 16 bytes, or 32 threads per run of 32 times as many pixels; the kernel uses what it needs.
        per_row = max(s["W"] // together, 32 * blocks(s["W"], 32 * together))
        return blocks(s["H"] * per_row, 256), blocks(s["B"], PICTURES_PER_THREAD), 1

    return Spec(
        name=name,
        arrays={
            "maps": Parameter(np.float32, ("K", "h", "w")),
            "channels": Parameter(np.int32, ("B",)),
            "image": Parameter(np.float32, (3, "H", "W")),
            "out": Parameter(dtype, ("B", 3, "H", "W"), out=True),
        },
        sizes=("B", "h", "w", "H", "W"),
        grid=grid,
        block=256,
        reference=mask,
        sample=pictures_to_mask,
        tolerance=tolerance,
    )


def small_maps(rng: np.random.Generator) -> Iterator[Arguments]:
    """Yield scaled maps, some below zero, one with NaN, with the size of the output."""
    for h, w, height, width in GEOMETRIES:
        scaled = rng.uniform(-0.5, 1, (3, h, w)).astype(np.float32)
        scaled[1, 0, 0] = np.nan
        yield {"scaled": scaled, "H": height, "W": width}


NORMALIZE = Spec(
    name="normalize_maps",
    arrays={
        "maps": Parameter(np.float32, ("K", "h", "w")),
        "rows": Parameter(np.int32, ("R",)),
        "columns": Parameter(np.int32, ("C",)),
        "scaled": Parameter(np.float32, ("K", "h", "w"), out=True),
        "kinds": Parameter(np.int32, ("K",), out=True),
    },
    sizes=("K", "h", "w", "R", "C", "H", "W"),
    scalars={"positive": np.int32},
    grid=lambda s: (s["K"], 1, 1),
    block=128,
    reference=normalize,
    sample=maps_to_normalize,
    tolerance=1e-6,
)
MASK = {
    np.dtype(np.float32): masking("mask_pictures_float", np.float32, 4e-6),
    np.dtype(np.float16): masking("mask_pictures_half", np.float16, 3e-3),
}
EXPAND = Spec(
    name="expand_maps",
    arrays={
        "scaled": Parameter(np.float32, ("N", "h", "w")),
        "out": Parameter(np.float32, ("N", "H", "W"), out=True),
    },
    sizes=("N", "h", "w", "H", "W"),
    grid=lambda s: (blocks(s["H"] * s["W"], 4 * 256), s["N"], 1),
    block=256,
    reference=lambda scaled, H, W: (reference.relu(reference.upsample(scaled.astype(np.float64), (H, W))),),  # noqa: N803
    sample=small_maps,
    tolerance=1e-6,
)
SPECS = (NORMALIZE, *MASK.values(), EXPAND)
