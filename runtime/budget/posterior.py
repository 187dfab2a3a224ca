"""The posterior of the scores of one class, and the expected error of the Score-CAM map that follows from them."""

import numpy as np

from fusioncam.kernels.arrays import Float64Array, IndexArray
from fusioncam.runtime.budget.surrogate import TINY, Masks, Surrogate

SUSPECTS = 96  # channels whose joint errors are computed
# Squared errors of predictions relative to the surrogate's variance: the value assumed beforehand, and its weight as a
# number of predictions. It is above 1: the highest predictions decide the map, and they tend to be too high.
DOUBT, DOUBT_WEIGHT = 2.0, 8.0
MOST_VARIANCE = 4.0  # of a score: its weight is an exponential, which overflows
LEARNED_FROM = 96  # most scores that a prior is chosen by
LEARNED_UNTIL = 1024  # scores from which on the prior stays


class ScorePosterior:
    """The posterior of s_k = f_c(x * M_k) for all live channels k and one class c, once some are measured.

    The map is sum_k w_k A_k, w the softmax of the scores (Score-CAM, arXiv 1910.01279), up to scale and offset. An
    error of s_k moves the map by w_k (A_k - map). The expected square of that move is the expected gain of a pass.

    Args:
        masks: M of the live channels.
        maps: A of the live channels (n, p), each of mean 0.
        full: f_c(x).

    Attributes:
        evidence: The evidence (n,) that each mask keeps, to first order.
        scores: The scores (n,), measured, or the logarithm of the expected weight.
        missing: Share of the weight on predicted scores.
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
    def surprise(self) -> float:
        """Return the root mean square of measured less predicted scores, relative to their predicted deviation."""
        return float(np.sqrt(np.mean(self._misses))) if self._misses else 0.0

    def update(self, at: IndexArray, scores: Float64Array, blank: float, last: bool) -> None:
        """Take measured scores into account.

        Args:
            at: The live channels that were measured (s,).
            scores: Their scores (s,).
            blank: f_c of the baseline input.
            last: Whether all channels are measured now.
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
            sample = np.linspace(0, len(known) - 1, min(len(known), LEARNED_FROM)).astype(np.intp)
            self._surrogate.learn([known[i] for i in sample], known, self._values)
        self._predict()

    def count_as_measured(self, point: int) -> None:
        """Count a channel as measured: the variance of the others shrinks."""
        self._surrogate.observe(point)

    def expected_gain(self) -> Float64Array:
        """Return the expected squared change of the map by each channel (n,), relative to the map's own square."""
        return np.asarray(self._effect * np.expm1(self._uncertain()))

    def _uncertain(self) -> Float64Array:
        variance = self._surrogate.variance[: len(self._maps)] + self._surrogate.prior.noise
        return np.asarray(np.minimum(self._factor * variance, MOST_VARIANCE))

    def _predict(self) -> None:
        """Predict the scores that are not measured, and the error of the map."""
        n, surrogate = len(self._maps), self._surrogate
        known = self._values[surrogate.at]
        expected, scale = surrogate.predict(known)
        scale = max(scale, TINY * (1 + float(np.square(known).max())))  # equal scores leave no variance
        self._expected = expected[:n]
        self._variance = scale * (surrogate.variance[:n] + surrogate.prior.noise)
        doubt = (DOUBT * DOUBT_WEIGHT + sum(self._misses)) / (DOUBT_WEIGHT + len(self._misses))
        self._factor = scale * max(doubt, 1.0)
        predicted = np.isnan(self._values[:n])
        # The mean of an exponential. Errs high: overestimated channels get measured.
        likely = self._expected + self._uncertain() / 2
        self.scores = np.where(predicted, likely, self._values[:n])
        weights = np.exp(self.scores - self.scores.max())
        weights /= weights.sum()
        self.missing = float(weights[predicted].sum())
        drawn = np.einsum("n,np->p", weights, self._maps)
        size = max(float(np.einsum("p,p->", drawn, drawn)), TINY)
        away = self._maps - drawn
        away -= np.einsum("np,p->n", away, drawn)[:, None] / size * drawn  # a change of scale alone does no harm
        self._effect = weights**2 * np.einsum("np,np->n", away, away) / size
        self.error = self._expected_error(
            np.where(predicted, self.expected_gain(), 0), weights[:, None] * away / np.sqrt(size)
        )

    def _expected_error(self, gains: Float64Array, pulls: Float64Array) -> float:
        """Return the expected error, in which errors of similar masks add up: neither they nor their maps cancel."""
        top = np.argsort(-gains)[:SUSPECTS]
        top = top[gains[top] > 0]
        alone = float(gains.sum() - gains[top].sum())
        if not len(top):
            return alone
        together = self._factor * self._surrogate.covariance(top)
        shrink = np.sqrt(np.minimum(MOST_VARIANCE / np.diagonal(together), 1))
        moves = np.einsum("ip,jp->ij", pulls[top], pulls[top])
        return alone + max(float((np.expm1(together * np.outer(shrink, shrink)) * moves).sum()), 0.0)
