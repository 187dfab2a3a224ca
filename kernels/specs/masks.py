"""Specs of cuda/masks.cu."""

import numpy as np

from fusioncam.kernels import reference
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.device import Grid
from fusioncam.kernels.masks import turns
from fusioncam.kernels.spec import Parameter, Sizes, Spec, blocks

LIVE, ZERO, CONSTANT, BROKEN = range(4)
PICTURES_PER_THREAD = 4


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


def mask(maps: Array, channels: Array, image: Array) -> tuple[Array]:
    """Return up(map) * image (B, C, H, W), for maps that are scaled already; channel -1 is a blank picture."""
    wide = reference.upsample(maps.astype(np.float64), (image.shape[-2], image.shape[-1]))
    masks = np.where(channels[:, None, None] < 0, 0, wide[channels])
    return (masks[:, None] * image.astype(np.float64),)


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
        tolerance=tolerance,
    )


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
    tolerance=1e-6,
)
SPECS = (NORMALIZE, *MASK.values(), EXPAND)
