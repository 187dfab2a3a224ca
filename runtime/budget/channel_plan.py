"""Which channels get a masked pass: all that matter, or as many as it takes to draw the same map."""

from typing import Protocol

import numpy as np

from fusioncam.kernels.arrays import Float64Array, IndexArray
from fusioncam.runtime.budget.posterior import ScorePosterior

FIRST = 16  # pictures before the first guess
PATIENCE = 0.5  # share of the channels from which on the rest is scored, too: guessing no longer pays
MOST_GUESSED_FROM = 512  # scores: a guess costs about their number times that of the channels


class ChannelPlan(Protocol):
    """Says which channels to score next, and what the scores of the others are taken to be."""

    @property
    def total(self) -> int:
        """Channels that will be scored, as far as is known."""

    @property
    def missing(self) -> float:
        """Share of the softmax weight that rests on guesses, 0..1; the largest of all classes."""

    @property
    def settled(self) -> bool:
        """Whether more passes would hardly change the map."""

    def next(self, riding: int) -> IndexArray:
        """Channels to score now, none when it is enough; so many other pictures will ride along."""

    def update(self, scores: Float64Array, blank: Float64Array) -> None:
        """The scores (s, classes) of these channels, and those of x * 0 (classes,)."""

    def scores(self) -> Float64Array:
        """Of all live channels (n, classes)."""


class ExhaustivePlan:
    """Scores every live channel.

    Args:
        live: Which channels.
    """

    missing, settled = 0.0, True

    def __init__(self, live: IndexArray) -> None:
        self.total, self._left = len(live), live
        self._scores = np.empty((0, 0))

    def next(self, riding: int) -> IndexArray:
        """All, and no more."""
        left, self._left = self._left, self._left[:0]
        return left

    def update(self, scores: Float64Array, blank: Float64Array) -> None:
        """Kept as they are."""
        self._scores = scores

    def scores(self) -> Float64Array:
        """As measured."""
        return self._scores


class AdaptivePlan:
    """Scores the channels that decide what the map looks like, and guesses the rest.

    Args:
        live: Which channels, n of them.
        posteriors: One per class.
        most: Channels to score at most.
        stop_early: Whether to stop as soon as the map is settled.
        grain: Pictures that are passed at a time.
    """

    def __init__(
        self, live: IndexArray, posteriors: list[ScorePosterior], most: int, stop_early: bool, grain: int
    ) -> None:
        self._live, self._posteriors, self._stop_early, self._grain = live, posteriors, stop_early, grain
        self._most = min(most, len(live))
        self._asked = np.empty(0, np.intp)  # positions among the live channels
        self._waiting = np.ones(len(live), bool)

    @property
    def total(self) -> int:
        """At most."""
        return self._most

    @property
    def _scored(self) -> int:
        return len(self._live) - int(self._waiting.sum())

    @property
    def missing(self) -> float:
        """Of the class with most."""
        return max((g.missing for g in self._posteriors), default=0.0) if self._waiting.any() else 0.0

    @property
    def settled(self) -> bool:
        """For every class."""
        return not self._waiting.any() or all(g.settled for g in self._posteriors)

    def next(self, riding: int) -> IndexArray:
        """The channels that the maps may owe most to, as far as can be told."""
        scored = self._scored
        if scored >= self._most or (self._stop_early and scored and self.settled):
            return self._live[:0]
        # The first guess needs some channels, however many pictures ride along.
        wanted = scored // 4 if scored else -(-max(FIRST, FIRST // 2 + riding) // self._grain) * self._grain
        rows = max(wanted // self._grain, 1) * self._grain
        count = min(max(rows - riding, 1), self._most - scored)
        if scored > PATIENCE * len(self._live) or scored >= MOST_GUESSED_FROM:
            count = self._most - scored
        if count >= self._waiting.sum():
            self._asked = np.flatnonzero(self._waiting)
        else:
            self._asked = self._first(count) if not scored else self._worst(count)
        self._waiting[self._asked] = False
        return self._live[self._asked]

    def update(self, scores: Float64Array, blank: Float64Array) -> None:
        """Learn from them, if there is anything left to guess."""
        for posterior, column, nothing in zip(self._posteriors, scores.T, blank, strict=True):
            posterior.update(self._asked, column, nothing, last=not self._waiting.any())

    def scores(self) -> Float64Array:
        """Measured or expected."""
        return np.stack([g.scores for g in self._posteriors], axis=1)

    def _first(self, count: int) -> IndexArray:
        """Half of them those with most evidence, the others spread over the rest: a guess must know both."""
        ranked = np.argsort(-np.max([g.evidence for g in self._posteriors], axis=0), kind="stable")
        best, rest = ranked[: count // 2], ranked[count // 2 :]
        return np.concatenate([best, rest[np.linspace(0, len(rest) - 1, count - len(best)).astype(np.intp)]])

    def _expected_gain(self) -> Float64Array:
        """What each channel may still do to the maps; -1 for those that are scored."""
        return np.where(self._waiting, np.sum([g.expected_gain() for g in self._posteriors], axis=0), -1.0)

    def _worst(self, count: int) -> IndexArray:
        """One after the other, as if those before were measured: alike masks need not all be passed."""
        if self._scored >= MOST_GUESSED_FROM:
            return np.argsort(-self._expected_gain(), kind="stable")[:count]
        chosen: list[int] = []
        for _ in range(count):
            point = int(np.argmax(self._expected_gain()))
            self._waiting[point] = False
            chosen.append(point)
            for posterior in self._posteriors:
                posterior.count_as_measured(point)
        return np.array(chosen, np.intp)
