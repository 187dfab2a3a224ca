"""Masked pictures on the CPU: written into the input of the session, or left to a graph of the model."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from fusioncam.kernels.arrays import Float32Array, Float64Array, IndexArray, ObjectArray, Size
from fusioncam.kernels.reference import interpolate, is_constant, places, places_of, taps

Blocks = Mapping[Size, tuple[slice, ...]]

BLOCK = 1 << 14  # points at which extremes are sought at a time: bounds the memory


def blocks_of(grids: Iterable[Size]) -> tuple[Blocks, Size]:
    """Return the place of masks of each grid in a larger one, and the size of that: (h, w), the sum of all grids.

    The grids lie corner to corner along the diagonal, so one product of matrices enlarges masks of any of them.
    """
    blocks: dict[Size, tuple[slice, ...]] = {}
    ends: Size = ()
    for grid in dict.fromkeys(map(tuple, grids)):
        starts = ends or (0,) * len(grid)
        ends = tuple(start + side for start, side in zip(starts, grid, strict=True))
        blocks[grid] = tuple(map(slice, starts, ends))
    return blocks, ends


class Deferred:
    """Masked pictures x * up(s) that a graph will make from x and s, so that no full-size array is needed here.

    Args:
        pictures: (B,) references to pictures x (C, H, W).
        masks: s (B, 1, h, w) float32.
        blocks: The place of each grid of masks in s, see `blocks_of`.
    """

    def __init__(self, pictures: ObjectArray, masks: Float32Array, blocks: Blocks) -> None:
        self.pictures, self.masks, self._blocks = pictures, masks, blocks

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, rows: slice) -> "Deferred":
        """Return a part that shares the memory, so that it can be written to."""
        return Deferred(self.pictures[rows], self.masks[rows], self._blocks)

    def put(self, pictures: Sequence[Float32Array], masks: Float32Array | float) -> None:
        """Set every picture x, and every mask, of one of the grids; a number is that of all places of a mask."""
        for at, picture in enumerate(pictures):
            self.pictures[at] = picture
        block = self._blocks[np.shape(masks)[1:]] if np.ndim(masks) else next(iter(self._blocks.values()))
        self.masks[:] = 0
        self.masks[:, 0][(slice(None), *block)] = masks


class MaskMaker:
    """Maker of the masked pictures x * M_k of one picture x, M_k = unit(up(A_k)).

    Args:
        activations: A (K, h, w) float32; (K, l) of a signal, (K, d, h, w) of a volume.
        image: x (C, H, W) float32, of as many axes.
        corners: Whether up(.) keeps the centres of the corner pixels where they are, instead of their edges.

    Attributes:
        zero: (K,) channels that are zero everywhere: they add nothing to Score-CAM, whatever their score.
        constant: (K,) other channels that are constant: their mask is zero, so all have the score of x * 0.
        scaled: (K, h, w) maps that become M_k when they are upsampled.
    """

    def __init__(self, activations: Float32Array, image: Float32Array, corners: bool = False) -> None:
        self._image, self._corners = image, corners
        low, high = extremes(activations, image.shape[1:], corners)
        flat = is_constant(low, high)
        self.zero = ~activations.any(axis=places_of(activations))
        self.constant = flat.ravel() & ~self.zero
        # up is linear and keeps constants, so scaling the small map to the extremes of the large one is enough.
        scale = np.where(flat, 0, 1 / np.where(flat, 1, high - low))
        self.scaled = ((activations - low) * scale).astype(np.float32)

    def fill(self, channels: IndexArray, out: Float32Array | Deferred) -> None:
        """Write x * M_k of a selection of channels into `out` (B, C, H, W)."""
        if isinstance(out, Deferred) and not self._corners:
            out.put([self._image] * len(channels), self.scaled[channels])
        else:
            write((self._image * self.full(k) for k in channels), out)

    def full(self, k: int) -> Float32Array:
        """Return the mask M_k (H, W)."""
        return enlarged(self.scaled[k], self._image.shape[1:], self._corners)


def enlarged(small: Float32Array, size: Size, corners: bool = False) -> Float32Array:
    """Return up(m) (H, W) of one map m (h, w)."""
    if len(size) == 2 and not corners:
        import cv2  # here: a model can be inspected where OpenCV does not load

        return np.asarray(cv2.resize(small, size[::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    return interpolate(small, *(taps(n, m, corners) for n, m in zip(small.shape, size, strict=True)))


def extremes(maps: Float32Array, size: Size, corners: bool = False) -> tuple[Float64Array, Float64Array]:
    """Return the least and the greatest value of up(A_k) at `size` (H, W), for maps A (K, h, w): two arrays (K, 1, 1).

    In float64: where a map varies little around a large value, float32 would lose the mask in rounding.
    """
    sides, axes = zip(maps.shape[1:], size, strict=True), places_of(maps)
    bends = [taps(n, m, corners).select(turns(n, m, corners)) for n, m in sides]
    low, high = (np.empty((len(maps), *[1] * len(size))) for _ in range(2))
    block = max(1, BLOCK // math.prod(len(b.low) for b in bends))
    for start in range(0, len(maps), block):
        part = slice(start, start + block)
        coarse = interpolate(maps[part].astype(np.float64), *bends)
        low[part], high[part] = (f(coarse, axis=axes, keepdims=True) for f in (np.min, np.max))
    return low, high


def turns(small: int, large: int, corners: bool = False) -> IndexArray:
    """Return the at most 2 small + 2 outputs between which the interpolation is linear.

    An upsampled map takes its extremes there, so they need not be sought at all H * W pixels.
    """
    bends = np.flatnonzero(np.diff(np.floor(places(small, large, corners))))
    return np.unique(np.concatenate([[0, large - 1], bends, bends + 1])).astype(np.intp)


def interpolation_matrix(small: int, large: int) -> Float64Array:
    """Return U (large, small), for up(A) = U_rows A U_columns^T."""
    low, high, weight = taps(small, large)
    one, share = np.eye(small), weight[:, None]
    return np.asarray(one[low] * (1 - share) + one[high] * share)


def write(pictures: Iterable[Float32Array], out: Float32Array | Deferred) -> None:
    """Write pictures (C, H, W) into `out` (B, C, H, W)."""
    if isinstance(out, Deferred):
        out.put(list(pictures), 1)  # up of one is one
        return
    for place, picture in zip(out, pictures, strict=True):
        place[:] = picture
