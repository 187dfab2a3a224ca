"""Plans that choose the channels to score: all that matter, or as many as the same map takes."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from fusioncam.kernels.arrays import Float64Array, IndexArray
from fusioncam.runtime.budget.posterior import UNLIKE, ScorePosterior
from fusioncam.runtime.budget.selection import most_effective, spread
from fusioncam.runtime.budget.surrogate import TINY
from fusioncam.runtime.explanation import TOLERANCE, Passes

FIRST = 16  # pictures before the first prediction
PATIENCE = 0.65  # share of the channels from which on the rest is scored too: predictions no longer pay
# Checks are scored to learn how wrong predictions are: this many, as so large a share of the channels that are scored
# together, and afterwards a smaller share. Their chance is the weight to a power: nearly all predictions get some.
CHECKS, CHECKED_FIRST, CHECKED_LATER, EVENNESS = 8, 3 / 8, 1 / 8, 0.6
MOST_GUESSED_FROM = 512  # scores: the cost of a prediction grows with their number times that of the channels


class TimeLeft(Protocol):
    """The time that is left, in channels."""

    def fits(self, riding: int) -> int:
        """Return the number of channels that can be scored in time; `riding` other pictures share their runs."""

    def step(self, riding: int) -> int:
        """Return the number of channels to score before the next look at the clock."""


class ChannelPlan(Protocol):
    """A choice of the channels to score next, with predicted scores of the others."""

    @property
    def total(self) -> int:
        """Return the number of channels that will be scored, as far as is known."""

    @property
    def missing(self) -> float:
        """Return the share of the softmax weight on predicted scores, 0..1; the largest of all classes."""

    @property
    def error(self) -> float:
        """Return the estimated error 1 - r^2 of the map, r its correlation with the exact one; the largest."""

    @property
    def surprise(self) -> float:
        """Return the root mean square of prediction errors, relative to their expected deviation."""

    @property
    def tolerance(self) -> float:
        """Return the error that the map may have."""

    def next(self, riding: int) -> IndexArray:
        """Return the channels to score now, none at the end; `riding` other pictures share their run."""

    def update(self, scores: Float64Array, blank: Float64Array) -> None:
        """Take the scores (s, classes) of these channels, and those of the baseline input (classes,)."""

    def scores(self) -> Float64Array:
        """Return the scores of all live channels (n, classes)."""


class ExhaustivePlan:
    """The plan that scores every live channel.

    Args:
        live: The channels.
    """

    surprise, tolerance = 0.0, TOLERANCE

    def __init__(self, live: IndexArray) -> None:
        self.missing = self.error = float(len(live) > 0)  # until they are scored
        self.total, self._left = len(live), live
        self._scores = np.empty((0, 0))

    def next(self, riding: int) -> IndexArray:
        """Return all channels at first, then none."""
        left, self._left = self._left, self._left[:0]
        return left

    def update(self, scores: Float64Array, blank: Float64Array) -> None:
        """Keep the scores as measured."""
        self._scores, self.missing, self.error = scores, 0.0, 0.0

    def scores(self) -> Float64Array:
        """Return the measured scores (n, classes)."""
        return self._scores


class AdaptivePlan:
    """The plan that scores the channels with most influence on the map, and predicts the other scores.

    Args:
        live: The channels (n,).
        posteriors: One per class.
        most: Channels to score at most.
        tolerance: The error that the map may have.
        stop_early: Whether to stop as soon as the map is settled.
        grain: Pictures that are passed at a time.
        time: The time that is left, where that ends the plan.
    """

    def __init__(
        self,
        live: IndexArray,
        posteriors: list[ScorePosterior],
        most: int,
        tolerance: float,
        stop_early: bool,
        grain: int,
        time: TimeLeft | None = None,
    ) -> None:
        self._time = time
        self._live, self._posteriors, self._stop_early, self._grain = live, posteriors, stop_early, grain
        self._most, self.tolerance = min(most, len(live)), tolerance
        self._asked = np.empty(0, np.intp)  # positions among the live channels
        self._checks = 0  # of them, the last so many
        self._waiting = np.ones(len(live), bool)

    @property
    def total(self) -> int:
        """Return the largest number of channels that may be scored."""
        return self._most if self._time is None else min(self._most, self._scored + self._time.fits(0))

    @property
    def _scored(self) -> int:
        return len(self._live) - int(self._waiting.sum())

    @property
    def missing(self) -> float:
        """Return the share of the class that misses most."""
        return max((g.missing for g in self._posteriors), default=0.0) if self._waiting.any() else 0.0

    @property
    def error(self) -> float:
        """Return the error of the class whose map has the largest; large before enough predictions were checked."""
        if not self._waiting.any():
            return 0.0
        return max(0.0 if self._checked else UNLIKE, *(g.error for g in self._posteriors))

    @property
    def _checked(self) -> bool:
        return all(g.checks >= CHECKS for g in self._posteriors)

    @property
    def surprise(self) -> float:
        """Return the surprise of the class that surprised most."""
        return max((g.surprise for g in self._posteriors), default=0.0)

    def next(self, riding: int) -> IndexArray:
        """Return the channels with the largest expected gain."""
        scored = self._scored
        settled = self._stop_early and self._checked and all(g.within(self.tolerance) for g in self._posteriors)
        if settled or scored >= self._most:
            return self._live[:0]
        # The first prediction needs some channels, however many other pictures share the run.
        pictures = scored // 4 if scored else -(-max(FIRST, FIRST // 2 + riding) // self._grain) * self._grain
        rows = max(pictures // self._grain, 1) * self._grain
        count = min(max(rows - riding, 1), self._most - scored)
        if scored > PATIENCE * len(self._live) or scored >= MOST_GUESSED_FROM:
            count = self._most - scored
        if self._time is not None:
            count = min(count, self._time.step(riding))
        self._checks = 0
        if count >= self._waiting.sum():
            self._asked = np.flatnonzero(self._waiting)
        elif not scored:
            self._asked = self._first(count)
        else:
            self._asked = self._chosen(count)
        self._waiting[self._asked] = False
        return self._live[self._asked]

    def update(self, scores: Float64Array, blank: Float64Array) -> None:
        """Update the posterior of each class."""
        for posterior, column, of_blank in zip(self._posteriors, scores.T, blank, strict=True):
            posterior.update(self._asked, column, of_blank, self._checks, last=not self._waiting.any())

    def scores(self) -> Float64Array:
        """Return the scores, measured or predicted."""
        return np.stack([g.scores for g in self._posteriors], axis=1)

    def _first(self, count: int) -> IndexArray:
        """Return the first channels: half those with most evidence, half spread over the rest, as examples of both."""
        ranked = np.argsort(-np.max([g.evidence for g in self._posteriors], axis=0), kind="stable")
        best, rest = ranked[: count // 2], ranked[count // 2 :]
        return np.concatenate([best, rest[np.linspace(0, len(rest) - 1, count - len(best)).astype(np.intp)]])

    def _chosen(self, count: int) -> IndexArray:
        """Return the channels to score next: those with most effect, then some others as checks of predictions."""
        missing = max(CHECKS - min(g.checks for g in self._posteriors), 0)
        wanted = max(min(int(CHECKED_FIRST * count), missing), int(CHECKED_LATER * count))
        weights = np.max([g.weights for g in self._posteriors], axis=0)
        checks = spread(np.where(self._waiting, weights**EVENNESS + TINY, 0), wanted)
        self._checks = len(checks)
        free = self._waiting.copy()
        free[checks] = False
        return np.concatenate([most_effective(self._posteriors, free, count - self._checks), checks])


def passes_of(run: int, channels: int, plans: Sequence[ChannelPlan]) -> Passes:
    """Return the passes run for a picture with so many channels, and the worst of what its plans estimate."""
    if not plans:
        return Passes(run, channels)
    worst = {name: max(getattr(plan, name) for plan in plans) for name in ("missing", "error", "tolerance", "surprise")}
    return Passes(run, channels, **worst)
