"""The surrogate of the model: a Gaussian process over masks, fitted to measured scores, that predicts the others."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Float64Array, IndexArray

OFFSET = 4.0  # prior variance of the mean score, relative to that of the scores
TINY = 1e-12


class Prior(NamedTuple):
    """A covariance of scores: k(m, m') = OFFSET + slope <phi, phi'> + rough Matern32(d(m, m') / reach) + noise.

    All relative to the variance of the scores; `reach` is relative to the median of the squared distances d.
    """

    slope: float
    reach: float
    rough: float
    noise: float


PRIORS = tuple(Prior(*values) for values in product((0.1, 1.0), (1.0, 4.0), (1.0, 4.0), (0.003, 0.03, 0.15)))


class Masks:
    """The points of the process: one per mask, and two more of known scores, the whole picture and the baseline input.

    Args:
        masks: M (n, h, w) in [0, 1], at the layer's own resolution.
        evidence: sum_k g_k A_k (h, w): to first order, the share of each place in the logit.
        activity: sum_k A_k (h, w).

    Attributes:
        features: phi (n + 2, f), of mean 0 and deviation 1 over the masks.
    """

    def __init__(self, masks: Float64Array, evidence: Float64Array, activity: Float64Array) -> None:
        everything, nothing = np.ones((1, *evidence.shape)), np.zeros((1, *evidence.shape))
        points = np.concatenate([masks, everything, nothing]).clip(0, 1)
        positive = np.maximum(evidence, 0)

        def kept(of: Float64Array, masks: Float64Array = points) -> Float64Array:
            return np.asarray(np.einsum("nhw,hw->n", masks, of))

        features = np.stack(
            [
                kept(evidence),
                kept(np.ones_like(evidence)),
                kept(activity),
                kept(positive),
                kept(positive, points**2),
                kept(positive, np.sqrt(points)),
                kept(positive) ** 2,
            ],
            axis=1,
        )
        mean, deviation = features[:-2].mean(0), features[:-2].std(0)
        self.features = (features - mean) / np.where(deviation > TINY * np.abs(mean), deviation, np.inf)
        # Two masks differ where it matters: near positive evidence twice as much as elsewhere.
        weight = 1 + _blurred(positive) / (positive.mean() + TINY)
        places = (points * np.sqrt(weight / weight.sum())).reshape(len(points), -1)
        self._set_places(places)
        sample = np.linspace(0, len(masks) - 1, min(len(masks), 64)).astype(np.intp)
        apart = self.alike(sample, sample)[1][~np.eye(len(sample), dtype=bool)]
        if apart.size and np.median(apart) > TINY:
            self._set_places(places / np.sqrt(np.median(apart)))

    def __len__(self) -> int:
        return len(self.features)

    def _set_places(self, places: Float64Array) -> None:
        self._places, self._norms = places, np.einsum("np,np->n", places, places)

    def alike(self, points: IndexArray, others: IndexArray) -> tuple[Float64Array, Float64Array]:
        """Return <phi, phi'> and d(m, m') between some masks and others, two arrays (s, o)."""
        slopes = np.einsum("if,jf->ij", self.features[points], self.features[others])
        products = np.einsum("ip,jp->ij", self._places[points], self._places[others])
        return slopes, np.maximum(self._norms[points, None] + self._norms[others] - 2 * products, 0)

    def like(self, point: int) -> tuple[Float64Array, Float64Array]:
        """Return <phi, phi'> and d(m, m') between all masks and one of them, two arrays (n + 2,)."""
        slopes = np.einsum("nf,f->n", self.features, self.features[point])
        products = np.einsum("np,p->n", self._places, self._places[point])
        return slopes, np.maximum(self._norms + self._norms[point] - 2 * products, 0)


class Surrogate:
    """The process for the scores of one class, once some are measured.

    All is computed by einsum, one row at a time: BLAS would wake a pool of threads beside onnxruntime's, which halves
    the speed of the passes.

    Args:
        masks: The points.

    Attributes:
        at: The points that count as measured, in order.
        variance: The remaining variance (n + 2,), relative to that of the scores, without the noise.
    """

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self.prior = PRIORS[0]
        self._begin()

    def _begin(self) -> None:
        self.at: list[int] = []
        self._pivots: list[float] = []
        self._factor = np.empty((16, len(self._masks)))
        slope = np.einsum("nf,nf->n", self._masks.features, self._masks.features)
        self.variance = OFFSET + self.prior.slope * slope + self.prior.rough

    def learn(self, sample: Sequence[int], at: Sequence[int], scores: Float64Array) -> None:
        """Choose the prior under which measured scores are most likely, and observe all points under it.

        Args:
            sample: Points to choose by.
            at: All measured points, first those that count as measured already.
            scores: The scores (n + 2,), of which only the measured ones are read.
        """
        places = np.array(sample, np.intp)
        slopes, apart = self._masks.alike(places, places)
        grams = np.stack([_covariance(p, slopes, apart) + p.noise * np.eye(len(sample)) for p in PRIORS])
        logs, misfits = _likelihoods(grams, _standard(scores[places])[2])
        likeliest = PRIORS[int(np.argmin(0.5 * len(sample) * np.log(misfits + TINY) + logs))]
        if likeliest != self.prior:
            self.prior = likeliest
            self._begin()
        for point in at[len(self.at) :]:
            self.observe(point)

    def observe(self, point: int) -> None:
        """Count a point as measured: the variance depends on the point alone, not on its score."""
        n = len(self.at)
        if n == len(self._factor):
            self._factor = np.concatenate([self._factor, np.empty_like(self._factor)])
        row = _covariance(self.prior, *self._masks.like(point))
        row -= np.einsum("rn,r->n", self._factor[:n], self._factor[:n, point])
        pivot = float(np.sqrt(max(row[point], 0.0) + self.prior.noise))
        row /= pivot
        self._factor[n] = row
        self.at.append(point)
        self._pivots.append(pivot)
        self.variance = np.maximum(self.variance - row**2, 0)

    def predict(self, scores: Float64Array) -> tuple[Float64Array, float]:
        """Return the expected scores of all points (n + 2,), and the factor from relative variances to variances.

        Args:
            scores: Measured at the points `at`.
        """
        n = len(self.at)
        mean, deviation, z = _standard(scores)
        rows = self._factor[:n]
        lower = rows[:, self.at].T.copy()
        lower[np.diag_indices(n)] = self._pivots
        solved = _solved(lower, z)
        expected = mean + deviation * np.einsum("rn,r->n", rows, solved)
        return expected, deviation**2 * float(np.square(solved).sum()) / n

    def covariance(self, points: IndexArray) -> Float64Array:
        """Return the remaining covariance of some points (s, s), relative to the variance of the scores, with noise."""
        slopes, apart = self._masks.alike(points, points)
        rows = self._factor[: len(self.at), points]
        explained = np.einsum("ri,rj->ij", rows, rows)
        return np.asarray(_covariance(self.prior, slopes, apart) - explained + self.prior.noise * np.eye(len(points)))


def _standard(scores: Float64Array) -> tuple[float, float, Float64Array]:
    mean, deviation = float(scores.mean()), float(scores.std()) + TINY
    return mean, deviation, (scores - mean) / deviation


def _covariance(prior: Prior, slopes: Float64Array, apart: Float64Array) -> Float64Array:
    far = np.sqrt(3 * apart / prior.reach)
    return np.asarray(OFFSET + prior.slope * slopes + prior.rough * (1 + far) * np.exp(-far))


def _blurred(places: Float64Array) -> Float64Array:
    """Return the mean over 3 x 3 neighbours."""
    (height, width), padded = places.shape, np.pad(places, 1, mode="edge")
    shifted = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return np.asarray(np.mean(shifted, axis=0))


def _likelihoods(grams: Float64Array, z: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return half the log determinants of covariances C (g, n, n), and z' C^-1 z, by Cholesky's factors."""
    count, n, _ = grams.shape
    # z is appended as a row: the factorisation turns it into C^-1/2 z.
    rows = np.concatenate([grams, np.broadcast_to(z, (count, 1, n))], axis=1)
    logs = np.zeros(count)
    for j in range(n):
        column = rows[:, j:, j] - np.einsum("gir,gr->gi", rows[:, j:, :j], rows[:, j, :j])
        pivot = np.sqrt(np.maximum(column[:, :1], TINY))
        rows[:, j:, j] = column / pivot
        logs += np.log(pivot[:, 0])
    return logs, np.square(rows[:, n]).sum(axis=1)


def _solved(lower: Float64Array, right: Float64Array) -> Float64Array:
    """Return lower^-1 right, by forward substitution."""
    solved = np.empty_like(right)
    for i, row in enumerate(lower):
        solved[i] = (right[i] - np.dot(row[:i], solved[:i])) / row[i]  # too short for threads
    return solved
