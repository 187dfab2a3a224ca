"""RISE (arXiv 1806.07421) and D-RISE (arXiv 2006.03204): random masks, each made by its number alone, and their mean.

A mask is a grid of cells, each 1 with probability 1/2, enlarged linearly and cut out at a random shift. Masks come out
of Philox, a generator whose n-th word is a function of n: neither their order nor their number changes any of them.
"""

from typing import Any, NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, Float64Array, Size
from fusioncam.kernels.masks import enlarged
from fusioncam.kernels.reference import is_constant, places_of

CHANCE = 0.5  # that a cell shows its part of the picture
WORDS = 64  # words of Philox lie so many bits of its counter apart from those of the next mask
POINTS = 32  # along each axis, at most, at which the standard error is taken: masks bend less often


class Sampling(NamedTuple):
    """The masks of a map.

    Attributes:
        cells: Cells along each axis of the picture, at most its pixels.
        most: Number of masks, at most.
    """

    cells: int
    most: int


FEWEST = 2  # masks: one alone says nothing
PICTURES, DETECTIONS = Sampling(8, 4000), Sampling(16, 5000)  # of RISE, and of D-RISE


class RandomMasks:
    """The random masks of one size.

    Args:
        size: (H, W) of the picture; (L,) of a signal, (D, H, W) of a volume.
        cells: Cells along each axis.
        seed: Another seed gives other masks.
    """

    def __init__(self, size: Size, cells: int, seed: int = 0) -> None:
        self._size, self._seed = size, seed
        self._grid = tuple(min(cells, length) for length in size)
        self._cell = tuple(-(-length // n) for length, n in zip(size, self._grid, strict=True))  # pixels

    def drawn(self, index: int) -> tuple[Float32Array, tuple[int, ...]]:
        """Return the cells (h, w) of a mask, 0 or 1, and its shift, 0 .. pixels of a cell - 1 along each axis.

        Raw words of the generator are the same in every version of NumPy; its distributions are not.
        """
        count = int(np.prod(self._grid)) + len(self._grid)
        words = np.random.Philox(key=self._seed, counter=index << WORDS).random_raw(count)
        shift, cells = np.split(words, [len(self._grid)])
        pixels = tuple(int(word) * c >> 64 for word, c in zip(shift, self._cell, strict=True))
        return (cells >> np.uint64(63)).astype(np.float32).reshape(self._grid), pixels

    def mask(self, index: int) -> Float32Array:
        """Return the mask M_i (H, W): the cells enlarged to the pixels of one more cell per axis, cut at the shift."""
        cells, shift = self.drawn(index)
        whole = tuple((n + 1) * c for n, c in zip(self._grid, self._cell, strict=True))
        cut = tuple(slice(s, s + length) for s, length in zip(shift, self._size, strict=True))
        return enlarged(cells, whole)[cut]


class MaskedMeans:
    """The maps of RISE by the masks so far, and their standard error.

    A map is the mean of s_i M_i / E[M] (RISE, section 3.1): large at a pixel where scores are high when it shows.
    The mean of M_i / E[M] is 1 but for chance. Its deviation from 1, times the mean score, is subtracted as a control
    variate: the expectation stays, and most of the noise goes.

    Args:
        size: (H, W).
        targets: T, the number of maps.

    Attributes:
        count: Masks so far.
    """

    def __init__(self, size: Size, targets: int) -> None:
        self.count = 0
        self._points: Any = (..., *(slice(None, None, -(-length // POINTS)) for length in size))
        self._total = np.zeros(targets)  # sum of s
        self._shown, self._scored = np.zeros((1, *size)), np.zeros((targets, *size))  # sums of m = M - E[M], and of s m
        points = self._shown[self._points].shape[1:]
        self._squares = [np.zeros((n, *points)) for n in (1, targets, targets)]  # sums of m^2, s m^2 and s^2 m^2

    def add(self, masks: Float32Array, scores: Float64Array) -> None:
        """Take masks (n, H, W), and the scores (n, T) of the pictures under them."""
        self.count += len(masks)
        self._total += scores.sum(axis=0)
        masks, one = masks - np.float32(CHANCE), np.ones((len(masks), 1))
        squares = masks[self._points].astype(np.float64) ** 2
        self._shown += _weighted(one, masks)
        self._scored += _weighted(scores, masks)
        for sums, weights in zip(self._squares, (one, scores, scores**2), strict=True):
            sums += _weighted(weights, squares)

    def maps(self) -> Float64Array:
        """Return the maps (T, H, W)."""
        return np.asarray(self._mean + self._covariance() / CHANCE)

    def errors(self) -> Float64Array:
        """Return the standard error of each map, the root of its mean square, as a share of the map's range (T,)."""
        mean, maps, (shown, scored, squared) = self._mean, self.maps(), self._squares
        expected = self._covariance()[self._points] ** 2
        variance = np.maximum((squared - 2 * mean * scored + mean**2 * shown) / self.count - expected, 0)
        places = places_of(maps)
        error = np.sqrt(variance.mean(axis=places) / self.count) / CHANCE
        low, high = maps.min(axis=places), maps.max(axis=places)
        return np.asarray(np.divide(error, high - low, out=np.zeros_like(error), where=~is_constant(low, high)))

    @property
    def _mean(self) -> Float64Array:
        """Return the mean scores (T, 1, 1)."""
        return np.expand_dims(self._total / self.count, places_of(self._scored))

    def _covariance(self) -> Float64Array:
        """Return the covariance of the scores with the mask at each pixel, (T, H, W)."""
        return (self._scored - self._mean * self._shown) / self.count


def _weighted(weights: Array, maps: Array) -> Array:
    """Return sum_i w_it m_i (T, H, W) for weights (n, T); see `weighted_sum`."""
    return np.asarray(np.einsum("nt,n...->t...", weights, maps))
