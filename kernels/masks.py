"""Masked pictures on the CPU, written straight into the session's input, with no other full-size array kept."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from fusioncam.kernels.reference import interpolate, is_constant, taps

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

BLOCK = 1 << 14  # points at which extremes are sought at a time: bounds the memory


class MaskMaker:
    """Makes the masked pictures x * M_k of one picture x, M_k = unit(up(A_k)).

    Args:
        activations: A (K, h, w) float32.
        image: x (3, H, W) float32.

    Attributes:
        zero: (K,) channels that are zero everywhere: they add nothing to Score-CAM, whatever their score.
        constant: (K,) other channels that are constant: their mask is zero, so all have the score of x * 0.
    """

    def __init__(self, activations: Floats, image: Floats) -> None:
        self._image = image
        low, high = extremes(activations, (image.shape[1], image.shape[2]))
        flat = is_constant(low, high)
        self.zero = ~activations.any(axis=(1, 2))
        self.constant = flat.ravel() & ~self.zero
        # up is linear and keeps constants, so scaling the small map to the extremes of the large one is enough.
        scale = np.where(flat, 0, 1 / np.where(flat, 1, high - low))
        self._scaled = ((activations - low) * scale).astype(np.float32)

    def fill(self, channels: Indices, out: Floats) -> None:
        """Write x * M_k of some channels into `out` (B, 3, H, W)."""
        height, width = self._image.shape[1:]
        for picture, k in zip(out, channels, strict=True):
            mask = cv2.resize(self._scaled[k], (width, height), interpolation=cv2.INTER_LINEAR)
            np.multiply(self._image, mask, out=picture)


def extremes(maps: Floats, size: tuple[int, int]) -> tuple[Doubles, Doubles]:
    """Least and greatest value of up(A_k) at `size` (H, W), for maps A (K, h, w): two arrays (K, 1, 1).

    In float64: where a map varies little around a large value, float32 would lose the mask in rounding.
    """
    rows, columns = (taps(n, m).some(turns(n, m)) for n, m in zip(maps.shape[1:], size, strict=True))
    low, high = (np.empty((len(maps), 1, 1)) for _ in range(2))
    block = max(1, BLOCK // (len(rows.low) * len(columns.low)))
    for start in range(0, len(maps), block):
        some = slice(start, start + block)
        coarse = interpolate(maps[some].astype(np.float64), rows, columns)
        low[some], high[some] = (f(coarse, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    return low, high


def turns(small: int, large: int) -> Indices:
    """The at most 2 small + 2 outputs between which the interpolation is linear.

    An upsampled map takes its extremes there, so they need not be sought at all H * W pixels.
    """
    bends = np.flatnonzero(np.diff(np.floor((np.arange(large) + 0.5) * small / large - 0.5)))
    return np.unique(np.concatenate([[0, large - 1], bends, bends + 1])).astype(np.intp)


def fill_with(maps: Sequence[npt.NDArray[Any]], image: Floats, out: Floats) -> None:
    """Write x * m of full-size maps m (H, W) into `out` (B, 3, H, W)."""
    for picture, mask in zip(out, maps, strict=True):
        np.multiply(image, mask.astype(np.float32, copy=False), out=picture)
