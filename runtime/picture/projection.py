"""Maps of signals and volumes as flat pictures: behind the chart of a signal, over some slices of a volume."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, UInt8Array
from fusioncam.kernels.reference import interpolate, taps
from fusioncam.runtime.picture.chart import chart

SLICES = 5  # of a volume that are shown
BETWEEN = 1 / 32  # of a slice's width, left white between two
PICTURE_SIDES, SLICES_SIDES, CHART_SIDES = (256, 400), (900, 1430), (600, 700)


class Projection(NamedTuple):
    """An input and maps of it, ready to be drawn.

    Attributes:
        picture: (h, w, 3) uint8 RGB.
        maps: Maps (h', w') that cover the picture, by method.
        caption: What the picture is.
        is_chart: Whether maps lie behind the lines of the picture.
        sides: Range of the picture's longer side on a panel, in pixels.
        slices: Number of slices side by side.
    """

    picture: UInt8Array
    maps: dict[str, Float32Array]
    caption: str = "Input"
    is_chart: bool = False
    sides: tuple[int, int] = PICTURE_SIDES
    slices: int = 1

    def parted(self, picture: UInt8Array) -> UInt8Array:
        """Return a picture of the slices, of any size, with white between them, over which no colours run."""
        width = picture.shape[1]
        slices = self.slices + (self.slices - 1) * BETWEEN  # widths of a slice
        for n in range(1, self.slices):
            start, end = ((n * (1 + BETWEEN) - edge) * width / slices for edge in (BETWEEN, 0))
            picture[:, math.floor(start) : math.ceil(end)] = 255
        return picture


def project(shown: Array, maps: Mapping[str, Float32Array]) -> Projection:
    """Return what is drawn of an input and its maps.

    Args:
        shown: The pixels (h, w, 3) of a photo, the numbers (L, C) of a signal, the slices (D, h, w, 3) of a volume.
        maps: Maps (H, W), (L,) or (D, H, W) by method. The first one chooses the slices of a volume.
    """
    if shown.ndim == 2:
        picture = chart(shown)
        height, width = picture.shape[:2]
        rows = {name: interpolate(m, taps(len(m), width)) for name, m in maps.items()}
        flat = {name: np.broadcast_to(row, (height, width)) for name, row in rows.items()}
        return Projection(picture, flat, f"Input, samples 0 to {len(shown) - 1}", True, CHART_SIDES)
    if shown.ndim == 4:
        first = next(iter(maps.values()), np.zeros(shown.shape[:3], np.float32))
        slices = strongest_slices(first)
        numbers = ", ".join(map(str, slices))
        caption = f"Input, slices {numbers} of 0 to {len(shown) - 1}"
        flat = {name: _side_by_side(m[slices], 0) for name, m in maps.items()}
        return Projection(_side_by_side(shown[slices], 255), flat, caption, False, SLICES_SIDES, len(slices))
    return Projection(shown, dict(maps))


def strongest_slices(saliency: Float32Array, count: int = SLICES) -> list[int]:
    """Return the slices that show most of a map (D, H, W), in order; of a blank map slices at even distances.

    Slices are picked by the sum of their saliency, the strongest first. Those near a picked one are left out, as
    neighbours look alike.
    """
    depth = len(saliency)
    count = min(count, depth)
    sums = np.abs(saliency).reshape(depth, -1).sum(axis=1, dtype=np.float64)
    if not sums.any():
        return [round(n) for n in np.linspace(0, depth - 1, count).tolist()]
    apart = max(depth // (2 * count), 1)
    picked: list[int] = []
    for n in np.argsort(-sums, kind="stable").tolist():
        if len(picked) < count and all(abs(n - other) >= apart for other in picked):
            picked.append(n)
    return sorted(picked)


def _side_by_side(slices: Array, blank: int) -> Array:
    """Join slices (n, h, w, ...) to one picture (h, n w and gaps, ...)."""
    gap = np.full((slices.shape[1], max(round(slices.shape[2] * BETWEEN), 1), *slices.shape[3:]), blank, slices.dtype)
    pieces = [piece for part in slices for piece in (gap, part)][1:]
    return np.concatenate(pieces, axis=1)
