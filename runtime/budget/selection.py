"""The selection of channels to score next: by their effect on the map, or spread over all."""

from collections.abc import Sequence

import numpy as np

from fusioncam.kernels.arrays import BoolArray, Float64Array, IndexArray
from fusioncam.runtime.budget.posterior import ScorePosterior, gain_of

SPARE = 64  # candidates beyond the number to select, at most three times as many
MOST_TOGETHER = 128  # channels that are selected one by one: the cost grows with their square


def spread(chances: Float64Array, count: int) -> IndexArray:
    """Return positions (count,) or fewer at even steps of the cumulated chances (n,): a systematic sample."""
    whole = np.cumsum(chances)
    steps = (np.arange(count) + 0.5) / max(count, 1) * whole[-1]
    return np.unique(np.searchsorted(whole, steps, side="right"))


def most_effective(posteriors: Sequence[ScorePosterior], free: BoolArray, count: int) -> IndexArray:
    """Select channels with the largest expected gain over all classes, each as if those before it were measured.

    So channels whose masks are nearly the same are not all selected.

    Args:
        posteriors: One per class.
        free: The channels to select from (n,).
        count: How many.
    """
    gains = np.where(free, np.sum([g.expected_gain() for g in posteriors], axis=0), -1)
    ranked = np.argsort(-gains, kind="stable")[: int(free.sum())]
    if count > MOST_TOGETHER:
        return ranked[:count]
    candidates = ranked[: count + min(3 * count, SPARE)]
    effects = np.stack([g.effect[candidates] for g in posteriors])
    left = np.stack([g.covariance(candidates) for g in posteriors])
    variances = np.einsum("cii->ci", left)
    selected: list[int] = []
    for _ in range(min(count, len(candidates))):
        gains = gain_of(effects, variances).sum(axis=0)
        gains[selected] = -1
        best = int(gains.argmax())
        selected.append(best)
        rows = left[:, best] / np.sqrt(left[:, best, best, None])
        left -= rows[:, :, None] * rows[:, None]
    return candidates[selected]
