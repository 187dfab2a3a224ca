"""The posterior of the scores of one class, and the expected error of the Score-CAM map that follows from them."""

import numpy as np

from fusioncam.kernels.arrays import Float64Array, IndexArray
from fusioncam.runtime.budget.surrogate import TINY, Masks, Surrogate, product

SUSPECTS = 64  # channels whose joint errors are computed
# Squared errors of predictions relative to the surrogate's variance: the value assumed beforehand, and its weight as a
# number of predictions. Those of channels that were chosen for their effect are above 1: the highest predictions decide
# the map, and they tend to be too high. Those of checks tell how wrong the many are that will not be measured.
DOUBT, DOUBT_WEIGHT = 2.0, 8.0
CHECKED_DOUBT, CHECKED_WEIGHT = 1.0, 4.0
MOST_VARIANCE = 4.0  # of a score whose weight is expected: the weight is an exponential, which overflows
MOST_JOINT = 1.0  # covariance of two scores, where the error of the map is estimated
# The expected error times this is exceeded by one map in ten at most, and five times as much by one in a hundred:
# chosen on the fitted half of `benchmarks/promise.py`, shown on the other half.
SAFETY = 4.0
# Among hundreds of predictions one may be far too low, alone. Where more than so many would each cause this error
# (r = 0.98), the map counts as that wrong.
UNLIKE, OUTLIERS = 0.04, 0.4
HOPELESS = 4.0  # times the tolerance: an error of the channels one by one above this is not looked at jointly
LEARNED_UNTIL = 1024  # scores from which on the surrogate stays: its cost grows with their square


class Squares:
    """Squared errors of predictions, relative to their variance; only their number and their sum are kept."""

    def __init__(self) -> None:
        self.count, self._sum = 0, 0.0

    def add(self, squares: Float64Array) -> None:
        """Add the squares of some more predictions."""
        self.count, self._sum = self.count + len(squares), self._sum + float(squares.sum())

    def mean(self, before: float, weight: float) -> float:
        """Return the mean, with a value assumed beforehand that counts as so many."""
        return (before * weight + self._sum) / (weight + self.count)


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
        weights: Their softmax (n,).
        missing: Share of the weight on predicted scores.
        effect: Squared change of the map (n,), relative to its own square, by a weight that is off by its own size.
    """

    def __init__(self, masks: Masks, maps: Float64Array, full: float) -> None:
        n = len(maps)
        self._maps, self._surrogate = maps, Surrogate(masks)
        self._squares = np.einsum("np,np->n", maps, maps)
        self._values = np.append(np.full(n + 1, np.nan), 0.0)
        self._values[n] = full
        self._learned = 0
        self._misses, self._checks = Squares(), Squares()
        self.evidence = masks.features[:n, 0]
        self.scores, self.weights, self.effect, self.missing = np.zeros(n), np.full(n, 1 / n), np.ones(n), 1.0
        self._expected, self._variance, self._uncertain, self._factor = np.zeros(n), np.ones(n), np.ones(n), 1.0
        self._error: float | None = 1.0

    @property
    def surprise(self) -> float:
        """Return the root mean square of measured less predicted scores, relative to their predicted deviation."""
        return float(np.sqrt(self._misses.mean(0.0, TINY)))

    @property
    def checks(self) -> int:
        """Return the number of predictions that were measured as a check."""
        return self._checks.count

    def update(self, at: IndexArray, scores: Float64Array, blank: float, checks: int, last: bool) -> None:
        """Take measured scores into account.

        Args:
            at: The live channels that were measured (s,).
            scores: Their scores (s,).
            blank: f_c of the baseline input.
            checks: How many of them, the last ones, were measured as a check and not for their effect.
            last: Whether all channels are measured now.
        """
        n, surrogate = len(self._maps), self._surrogate
        if self._learned:
            misses = np.square(scores - self._expected[at]) / self._variance[at]
            self._misses.add(misses)
            self._checks.add(misses[len(misses) - checks :])
        self._values[at], self._values[n + 1] = scores, blank
        if last:
            self.scores, self.missing, self._error = self._values[:n].copy(), 0.0, 0.0
            return
        new = at if self._learned else np.concatenate([at, [n, n + 1]])
        known = np.concatenate([surrogate.at, new])
        if not self._learned or 2 * self._learned <= len(known) <= LEARNED_UNTIL:
            self._learned = len(known)
            surrogate.learn(known, self._values[known])
        elif len(known) <= LEARNED_UNTIL:
            surrogate.observe(new, self._values[new])
        self._predict()

    def covariance(self, points: IndexArray) -> Float64Array:
        """Return the covariance of the scores of some channels (s, s), as far as they are in doubt."""
        return self._factor * self._surrogate.covariance(points)

    def expected_gain(self) -> Float64Array:
        """Return the expected squared change of the map by each channel (n,), relative to the map's own square."""
        return gain_of(self.effect, self._uncertain)

    def within(self, tolerance: float) -> bool:
        """Return whether the error is at most the tolerance; most often the channels one by one tell that it is not."""
        return SAFETY * float(self._alone().sum()) <= HOPELESS * tolerance and self.error <= tolerance

    @property
    def error(self) -> float:
        """Return the error 1 - r^2 of the map, r its correlation with the exact one, that one map in ten exceeds."""
        if self._error is None:
            self._error = min(SAFETY * self._joint_error(), 1.0)
            if self._outliers(UNLIKE) > OUTLIERS:
                self._error = max(self._error, UNLIKE)
        return self._error

    def _alone(self) -> Float64Array:
        """Return the expected error by each channel (n,), relative to the map's own square."""
        return np.asarray(self.effect * np.expm1(np.minimum(self._uncertain, MOST_JOINT)))

    def _joint_error(self) -> float:
        """Return the expected error, in which errors of similar masks add up: neither they nor their maps cancel."""
        alone = self._alone()
        top = np.argsort(-alone)[:SUSPECTS]
        maps, along, pulls = self._maps[top], self._along[top], np.where(self.effect[top] > 0, self.weights[top], 0)
        moves = product(maps, maps.T.copy()) - np.outer(along, along) / self._size
        together = np.expm1(np.minimum(self.covariance(top), MOST_JOINT))
        joint = float((together * moves * np.outer(pulls, pulls)).sum()) / self._size
        return max(joint, 0.0) + float(alone.sum() - alone[top].sum())

    def _outliers(self, error: float) -> float:
        """Return the expected number of predicted scores each of which causes this error alone, by being too low."""
        at = np.flatnonzero(self.effect > 0)
        uncertain = self._uncertain[at]
        needed = np.log1p(np.sqrt(error / self.effect[at])) + np.minimum(uncertain, MOST_VARIANCE) / 2
        return float(_beyond(needed / np.sqrt(uncertain)).sum())

    def _predict(self) -> None:
        """Predict the scores that are not measured, and the map's change by their errors."""
        n, surrogate = len(self._maps), self._surrogate
        expected, scale = surrogate.predict()
        self._expected = expected[:n]
        self._variance = scale * (surrogate.variance[:n] + surrogate.prior.noise)
        doubt = max(self._misses.mean(DOUBT, DOUBT_WEIGHT), self._checks.mean(CHECKED_DOUBT, CHECKED_WEIGHT), 1.0)
        self._factor, self._uncertain = scale * doubt, doubt * self._variance
        predicted = np.isnan(self._values[:n])
        # The mean of an exponential. Errs high: overestimated channels get measured.
        likely = self._expected + np.minimum(self._uncertain, MOST_VARIANCE) / 2
        self.scores = np.where(predicted, likely, self._values[:n])
        weights = np.exp(self.scores - self.scores.max())
        self.weights = weights / weights.sum()
        self.missing = float(self.weights[predicted].sum())
        drawn = np.einsum("n,np->p", self.weights, self._maps)
        self._along = np.einsum("np,p->n", self._maps, drawn)
        self._size = max(float(np.square(drawn).sum()), TINY)
        # A change of the map's scale alone does no harm.
        away = np.maximum(self._squares - self._along**2 / self._size, 0)
        self.effect = np.where(predicted, self.weights**2 * away / self._size, 0)
        self._error = None


def _beyond(t: Float64Array) -> Float64Array:
    """Return the chance that a variable of Student's distribution with 4 degrees of freedom is above t >= 0."""
    u = 1 / (1 + t**2 / 4)
    return np.asarray(0.5 - 0.375 * t * np.sqrt(u) * (1 - t**2 * u / 12))


def gain_of(effect: Float64Array, variance: Float64Array) -> Float64Array:
    """Return the expected squared change of the map by channels whose scores have these variances."""
    return np.asarray(effect * np.expm1(np.minimum(variance, MOST_VARIANCE)))
