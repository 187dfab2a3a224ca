"""The scores of one class, measured or expected, and by how much its Score-CAM map may still be off."""

import numpy as np

from fusioncam.kernels.arrays import Float64Array, IndexArray
from fusioncam.runtime.budget.surrogate import TINY, Masks, Surrogate

TOLERANCE = 1e-3  # expected squared error of a map, relative to its own square, that counts as settled
SUSPECTS = 96  # channels whose errors are looked at together
# Squared errors of guesses relative to what the surrogate expects: what is assumed beforehand, and how many guesses
# that weighs. The channels that matter are the highest guesses, so they disappoint.
DOUBT, DOUBT_WEIGHT = 2.0, 8.0
MOST_VARIANCE = 4.0  # of a score: its weight is the exponential, which would run away
LEARNED_FROM = 96  # scores, at most, that a prior is chosen by
LEARNED_UNTIL = 1024  # scores from which on nothing more is learned


class ScorePosterior:
    """What is known of s_k = f_c(x * M_k) for all live channels k and one class c, once some are measured.

    The map is sum_k w_k A_k, w the softmax of the scores (Score-CAM, arXiv 1910.01279), up to scale and offset. An
    error of s_k moves it by w_k (A_k - map): that, squared, is what a channel may still do to it.

    Args:
        masks: M of the live channels.
        maps: A of the live channels (n, p), each of mean 0.
        full: f_c(x).

    Attributes:
        evidence: (n,) what a mask keeps of the evidence, to first order.
        scores: (n,) measured, or the logarithm of the expected weight.
        missing: Share of the weight that is guessed.
        error: Expected squared error of the map, relative to its own square.
    """

    def __init__(self, masks: Masks, maps: Float64Array, full: float) -> None:
        n = len(maps)
        self._maps, self._surrogate = maps, Surrogate(masks)
        self._values = np.append(np.full(n + 1, np.nan), 0.0)
        self._values[n] = full
        self._learned = 0
        self._misses: list[float] = []
        self.evidence = masks.features[:n, 0]
        self.scores, self.missing, self.error = np.zeros(n), 1.0, np.inf
        self._expected, self._variance = np.zeros(n), np.ones(n)
        self._effect = np.ones(n)

    @property
    def settled(self) -> bool:
        """Whether the map is as good as drawn."""
        return self.error < TOLERANCE

    def update(self, at: IndexArray, scores: Float64Array, blank: float, last: bool) -> None:
        """Learn measured scores.

        Args:
            at: Of which live channels.
            scores: As many.
            blank: f_c(x * 0).
            last: Whether there is nothing left to guess.
        """
        n = len(self._maps)
        if self._learned:
            self._misses += (np.square(scores - self._expected[at]) / self._variance[at]).tolist()
        self._values[at], self._values[n + 1] = scores, blank
        if last:
            self.scores, self.missing, self.error = self._values[:n].copy(), 0.0, 0.0
            return
        known = list(dict.fromkeys([*self._surrogate.at, *at.tolist(), n, n + 1]))
        if 2 * self._learned <= len(known) <= LEARNED_UNTIL or not self._learned:
            self._learned = len(known)
            some = np.linspace(0, len(known) - 1, min(len(known), LEARNED_FROM)).astype(np.intp)
            self._surrogate.learn([known[i] for i in some], known, self._values)
        self._look()

    def count_as_measured(self, point: int) -> None:
        """What is not known about the others shrinks."""
        self._surrogate.observe(point)

    def expected_gain(self) -> Float64Array:
        """(n,) what each channel may still do to the map: expected square, relative to the map's own."""
        return np.asarray(self._effect * np.expm1(self._uncertain()))

    def _uncertain(self) -> Float64Array:
        variance = self._surrogate.variance[: len(self._maps)] + self._surrogate.prior.noise
        return np.asarray(np.minimum(self._factor * variance, MOST_VARIANCE))

    def _look(self) -> None:
        """Expect the scores that are not measured, and the error of the map."""
        n, surrogate = len(self._maps), self._surrogate
        known = self._values[surrogate.at]
        expected, scale = surrogate.predict(known)
        scale = max(scale, TINY * (1 + float(np.square(known).max())))  # scores that are all the same leave no doubt
        self._expected = expected[:n]
        self._variance = scale * (surrogate.variance[:n] + surrogate.prior.noise)
        doubt = (DOUBT * DOUBT_WEIGHT + sum(self._misses)) / (DOUBT_WEIGHT + len(self._misses))
        self._factor = scale * max(doubt, 1.0)
        guessed = np.isnan(self._values[:n])
        # The mean of an exponential. In doubt a guess rather counts too much: its channel will then be measured.
        likely = self._expected + self._uncertain() / 2
        self.scores = np.where(guessed, likely, self._values[:n])
        weights = np.exp(self.scores - self.scores.max())
        weights /= weights.sum()
        self.missing = float(weights[guessed].sum())
        drawn = np.einsum("n,np->p", weights, self._maps)
        size = max(float(np.einsum("p,p->", drawn, drawn)), TINY)
        away = self._maps - drawn
        away -= np.einsum("np,p->n", away, drawn)[:, None] / size * drawn  # what only scales the map does no harm
        self._effect = weights**2 * np.einsum("np,np->n", away, away) / size
        self.error = self._expected_error(
            np.where(guessed, self.expected_gain(), 0), weights[:, None] * away / np.sqrt(size)
        )

    def _expected_error(self, gains: Float64Array, pulls: Float64Array) -> float:
        """Errors of alike masks go together, and so do the maps of their channels: they do not cancel."""
        some = np.argsort(-gains)[:SUSPECTS]
        some = some[gains[some] > 0]
        alone = float(gains.sum() - gains[some].sum())
        if not len(some):
            return alone
        together = self._factor * self._surrogate.covariance(some)
        shrink = np.sqrt(np.minimum(MOST_VARIANCE / np.diagonal(together), 1))
        moves = np.einsum("ip,jp->ij", pulls[some], pulls[some])
        return alone + max(float((np.expm1(together * np.outer(shrink, shrink)) * moves).sum()), 0.0)
