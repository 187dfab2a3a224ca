"""How sure a mean over pictures is: bootstrap intervals, and differences between methods on the same pictures.

Percentile bootstrap (Efron and Tibshirani, 1993): 2000 resamples of the pictures, 95 %.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, BoolArray, Float64Array

RESAMPLES = 2000
LEVEL = 0.95
BLOCK = 1 << 22  # numbers drawn at a time: bounds the memory


class Mean(NamedTuple):
    """A mean over pictures.

    Attributes:
        mean: NaN where there is no picture.
        low: Lower end of its interval; NaN where there are fewer than two pictures.
        high: Upper end.
        n: Pictures that count.
        left_out: Pictures without a value.
    """

    mean: float
    low: float
    high: float
    n: int
    left_out: int


class Paired(NamedTuple):
    """One method against another, on the pictures that both have a value for.

    Attributes:
        first: A method.
        second: The other.
        difference: Mean of the first's value less the second's, with its interval.
        won: Share of the pictures on which the first is better, 0..1.
        tied: Share on which both are equal.
    """

    first: str
    second: str
    difference: Mean
    won: float
    tied: float

    @property
    def settled(self) -> bool:
        """Whether the interval leaves no doubt about the sign."""
        return self.difference.low > 0 or self.difference.high < 0


def means(
    columns: Mapping[str, Array], seed: int = 0, resamples: int = RESAMPLES, level: float = LEVEL
) -> dict[str, Mean]:
    """The mean of every column (pictures,), which may hold NaN, with its bootstrap interval.

    Args:
        columns: By name; all of the same pictures.
        seed: Of the resampling. Columns with values for the same pictures share the resamples.
        resamples: How many.
        level: Of the interval.
    """
    if not columns:
        return {}
    table = np.stack([np.asarray(c, np.float64) for c in columns.values()], axis=1)
    found: dict[int, Mean] = {}
    for there, alike in _patterns(np.isfinite(table)):
        some = table[np.ix_(there, alike)]
        low, high = intervals(some, seed, resamples, level)
        middle = some.mean(axis=0) if len(some) else np.full(len(alike), np.nan)
        for at, k in enumerate(alike):
            facts = float(middle[at]), float(low[at]), float(high[at])
            found[int(k)] = Mean(*facts, len(some), len(table) - len(some))
    return {name: found[k] for k, name in enumerate(columns)}


def paired(
    columns: Mapping[str, Array],
    better: Literal["higher", "lower"],
    pairs: Sequence[tuple[str, str]] | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> list[Paired]:
    """Differences between methods, picture by picture.

    Args:
        columns: One metric's values (pictures,) by method; NaN where there is none.
        better: Which values of it are good.
        pairs: Which methods to compare; by default all, in their order.
        seed: As for `means`.
        resamples: As for `means`.
        level: As for `means`.
    """
    pairs = list(combinations(columns, 2)) if pairs is None else pairs
    gaps = {str(k): np.asarray(columns[a]) - np.asarray(columns[b]) for k, (a, b) in enumerate(pairs)}
    found = means(gaps, seed, resamples, level)
    sign = 1 if better == "higher" else -1
    return [
        Paired(a, b, found[k], _share(sign * gap, np.greater), _share(gap, np.equal))
        for (a, b), (k, gap) in zip(pairs, gaps.items(), strict=True)
    ]


def _share(gap: Array, holds: np.ufunc) -> float:
    valid = gap[np.isfinite(gap)]
    return float(holds(valid, 0).mean()) if len(valid) else float("nan")


def intervals(values: Float64Array, seed: int, resamples: int, level: float) -> tuple[Float64Array, Float64Array]:
    """Ends (m,) of the bootstrap intervals of the means of values (n, m); NaN for n < 2, which says nothing."""
    count, columns = values.shape
    if count < 2:
        return np.full(columns, np.nan), np.full(columns, np.nan)
    draw = np.random.default_rng(seed)
    drawn = []
    block = max(1, BLOCK // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        rows = draw.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        often = np.bincount(rows.ravel(), minlength=size * count).reshape(size, count)
        drawn.append(often.astype(np.float64) @ values / count)
    low, high = np.percentile(np.concatenate(drawn), [50 * (1 - level), 50 * (1 + level)], axis=0)
    return low, high


def _patterns(there: BoolArray) -> Iterator[tuple[Array, Array]]:
    """Columns (n, m) that have values in the same rows: pairs of rows and columns."""
    patterns, group = np.unique(there, axis=1, return_inverse=True)
    for k in range(patterns.shape[1]):
        yield np.flatnonzero(patterns[:, k]), np.flatnonzero(group.ravel() == k)
