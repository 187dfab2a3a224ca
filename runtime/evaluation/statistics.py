"""The certainty of means over pictures: bootstrap intervals, and differences between methods on the same pictures.

Percentile bootstrap (Efron and Tibshirani, 1993): 2000 resamples of the pictures, 95 %.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from fusioncam.kernels.arrays import Array, BoolArray, Float64Array

Name = TypeVar("Name", bound=Hashable)

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0  # of the resampling: the same rows give the same intervals
BLOCK = 1 << 22  # numbers drawn at a time: bounds the memory


class Mean(NamedTuple):
    """A mean over pictures.

    Attributes:
        mean: NaN without any picture.
        low: Lower end of its interval; NaN for fewer than two pictures.
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
    """One method against another, on the pictures for which both have a value.

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
        """Return whether the interval leaves no doubt about the sign."""
        return self.difference.low > 0 or self.difference.high < 0


def means(columns: Mapping[Name, Array], resamples: int = RESAMPLES) -> dict[Name, Mean]:
    """Return the mean of every column (pictures,), which may hold NaN, with its bootstrap interval.

    Args:
        columns: By name; all of the same pictures. Columns with values for the same pictures share the resamples.
        resamples: The number of resamples.
    """
    if not columns:
        return {}
    table = np.stack([np.asarray(c, np.float64) for c in columns.values()], axis=1)
    mean_of: dict[int, Mean] = {}
    for rows, alike in _patterns(np.isfinite(table)):
        values = table[np.ix_(rows, alike)]
        low, high = intervals(values, resamples)
        middle = values.mean(axis=0) if len(values) else np.full(len(alike), np.nan)
        for at, k in enumerate(alike):
            facts = float(middle[at]), float(low[at]), float(high[at])
            mean_of[int(k)] = Mean(*facts, len(values), len(table) - len(values))
    return {name: mean_of[k] for k, name in enumerate(columns)}


def paired(
    columns: Mapping[str, Array], better: Literal["higher", "lower"], pairs: Sequence[tuple[str, str]]
) -> list[Paired]:
    """Return the differences between pairs of methods, picture by picture.

    Args:
        columns: The values (pictures,) of one metric by method; NaN for a missing value.
        better: The good values of the metric.
        pairs: The methods to compare.
    """
    gaps = {(a, b): np.asarray(columns[a]) - np.asarray(columns[b]) for a, b in pairs}
    mean_of = means(gaps)
    sign = 1 if better == "higher" else -1
    return [
        Paired(*pair, mean_of[pair], _share(sign * gap, np.greater), _share(gap, np.equal))
        for pair, gap in gaps.items()
    ]


def _share(gap: Array, holds: np.ufunc) -> float:
    valid = gap[np.isfinite(gap)]
    return float(holds(valid, 0).mean()) if len(valid) else float("nan")


def intervals(values: Float64Array, resamples: int) -> tuple[Float64Array, Float64Array]:
    """Return the ends (m,) of the bootstrap intervals of the means of values (n, m); NaN for n < 2."""
    count, columns = values.shape
    if count < 2:
        return np.full(columns, np.nan), np.full(columns, np.nan)
    draw = np.random.default_rng(SEED)
    drawn = []
    block = max(1, BLOCK // count)
    for start in range(0, resamples, block):
        size = min(block, resamples - start)
        rows = draw.integers(0, count, (size, count)) + np.arange(size)[:, None] * count
        often = np.bincount(rows.ravel(), minlength=size * count).reshape(size, count)
        drawn.append(often.astype(np.float64) @ values / count)
    low, high = np.percentile(np.concatenate(drawn), [50 * (1 - LEVEL), 50 * (1 + LEVEL)], axis=0)
    return low, high


def _patterns(there: BoolArray) -> Iterator[tuple[Array, Array]]:
    """Yield the columns of (n, m) that have values in the same rows: pairs of rows and columns."""
    patterns, group = np.unique(there, axis=1, return_inverse=True)
    for k in range(patterns.shape[1]):
        yield np.flatnonzero(patterns[:, k]), np.flatnonzero(group.ravel() == k)
