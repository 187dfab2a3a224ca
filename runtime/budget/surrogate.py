"""The surrogate of the model: a Gaussian process over masks, fitted to measured scores, that predicts the others."""

import itertools
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Float64Array, IndexArray

OFFSET = 4.0  # prior variance of the mean score, relative to that of the scores
TINY = 1e-12
LEARNED_FROM = 40  # most scores that a prior is chosen by
BLOCK = 16  # most points that are observed at a time
ONE_THREAD = 1 << 18  # multiplications of a product that BLAS does not share between threads


class Prior(NamedTuple):
    """A covariance of scores: k(m, m') = OFFSET + slope <phi, phi'> + rough Matern32(d(m, m') / reach) + noise.

    All relative to the variance of the scores; `reach` is relative to the median of the squared distances d.
    """

    slope: float
    reach: float
    rough: float
    noise: float


PRIORS = tuple(Prior(*values) for values in itertools.product((0.1, 1.0), (1.0, 4.0), (1.0,), (0.003, 0.03, 0.15)))


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
            return np.asarray(np.einsum("np,p->n", masks.reshape(len(masks), -1), of.ravel()))

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

    def alike(self, points: IndexArray, others: IndexArray | slice) -> tuple[Float64Array, Float64Array]:
        """Return <phi, phi'> and d(m, m') between some masks and others, two arrays (s, o)."""
        slopes = product(self.features[points], self.features[others].T)
        products = product(self._places[points], self._places[others].T)
        return slopes, np.maximum(self._norms[points, None] + self._norms[others] - 2 * products, 0)


class Surrogate:
    """The process for the scores of one class, once some are measured.

    Args:
        masks: The points.

    Attributes:
        at: The measured points, in order.
        variance: The remaining variance (n + 2,), relative to that of the scores, without the noise.
    """

    def __init__(self, masks: Masks) -> None:
        self._masks = masks
        self.prior = PRIORS[0]
        self._begin()

    def _begin(self) -> None:
        self.at, self._scores = np.empty(0, np.intp), np.empty(0)
        # With L L' the covariance of the measured points, noise included: L^-1 of their covariance with all points,
        # of their scores, and of ones.
        self._rows = np.empty((0, len(self._masks)))
        self._solved = np.empty((0, 2))
        slope = np.einsum("nf,nf->n", self._masks.features, self._masks.features)
        self.variance = OFFSET + self.prior.slope * slope + self.prior.rough

    def learn(self, at: IndexArray, scores: Float64Array) -> None:
        """Choose the prior under which measured scores are most likely, and observe all points under it.

        Args:
            at: All measured points (m,), first those that were observed already.
            scores: Their scores (m,).
        """
        sample = np.linspace(0, len(at) - 1, min(len(at), LEARNED_FROM)).astype(np.intp)
        slopes, apart = self._masks.alike(at[sample], at[sample])
        near = {reach: _matern(apart, reach) for reach in {p.reach for p in PRIORS}}
        grams = np.stack([OFFSET + p.slope * slopes + p.rough * near[p.reach] for p in PRIORS])
        logs, misfits = _likelihoods(grams, np.array([p.noise for p in PRIORS]), _standard(scores[sample]))
        likeliest = PRIORS[int(np.argmin(0.5 * len(sample) * np.log(misfits + TINY) + logs))]
        if likeliest != self.prior:
            self.prior = likeliest
            self._begin()
        for start in range(len(self.at), len(at), BLOCK):
            self.observe(at[start : start + BLOCK], scores[start : start + BLOCK])

    def observe(self, points: IndexArray, scores: Float64Array) -> None:
        """Take the scores (b,) of points (b,) into account: a step of a Cholesky factorisation by blocks."""
        known = self._rows[:, points]
        cross = _covariance(self.prior, *self._masks.alike(points, slice(None))) - product(known.T, self._rows)
        lower = np.linalg.cholesky(cross[:, points] + self.prior.noise * np.eye(len(points)))
        inverse = np.linalg.inv(lower)
        rows = product(inverse, cross)
        solved = inverse @ (np.stack([scores, np.ones(len(points))], axis=1) - known.T @ self._solved)
        self.at, self._scores = np.concatenate([self.at, points]), np.concatenate([self._scores, scores])
        self._rows, self._solved = np.concatenate([self._rows, rows]), np.concatenate([self._solved, solved])
        self.variance = np.maximum(self.variance - np.einsum("bn,bn->n", rows, rows), 0)

    def predict(self) -> tuple[Float64Array, float]:
        """Return the expected scores of all points (n + 2,), and the factor from relative variances to variances."""
        mean = float(self._scores.mean())
        solved = self._solved[:, 0] - mean * self._solved[:, 1]
        scale = float(np.square(solved).mean())
        # Equal scores leave no variance.
        floor = TINY * (1 + float(np.square(self._scores).max()))
        return mean + solved @ self._rows, max(scale, floor)

    def covariance(self, points: IndexArray) -> Float64Array:
        """Return the remaining covariance of some points (s, s), relative to the variance of the scores, with noise."""
        rows = self._rows[:, points]
        prior = _covariance(self.prior, *self._masks.alike(points, points))
        return np.asarray(prior - product(rows.T, rows.copy()) + self.prior.noise * np.eye(len(points)))


def product(left: Float64Array, right: Float64Array) -> Float64Array:
    """Return left @ right by products of one thread: a pool of BLAS beside onnxruntime's would slow the passes down."""
    width = max(ONE_THREAD // max(left.size, 1), 1)
    if right.shape[1] <= width:
        return np.asarray(left @ right)
    return np.concatenate([left @ right[:, i : i + width] for i in range(0, right.shape[1], width)], axis=1)


def _standard(scores: Float64Array) -> Float64Array:
    return np.asarray((scores - scores.mean()) / (scores.std() + TINY))


def _covariance(prior: Prior, slopes: Float64Array, apart: Float64Array) -> Float64Array:
    return np.asarray(prior.rough * _matern(apart, prior.reach) + prior.slope * slopes + OFFSET)


def _matern(apart: Float64Array, reach: float) -> Float64Array:
    """Return the Matern 3/2 correlation of masks, by their squared distances."""
    far = np.sqrt((3 / reach) * apart)
    return np.asarray((1 + far) * np.exp(-far))


def _blurred(places: Float64Array) -> Float64Array:
    """Return the mean over 3 x 3 neighbours; over 3 of a signal, 3 x 3 x 3 of a volume."""
    padded = np.pad(places, 1, mode="edge")
    steps = itertools.product(range(3), repeat=places.ndim)
    shifted = [padded[tuple(slice(i, i + n) for i, n in zip(at, places.shape, strict=True))] for at in steps]
    return np.asarray(np.mean(shifted, axis=0))


def _likelihoods(grams: Float64Array, noises: Float64Array, z: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Return half the log determinants of C = gram + noise (g, n, n), and z' C^-1 z, by Cholesky's factors."""
    count, n, _ = grams.shape
    # z is appended as a row, which the factorisation turns into C^-1/2 z. The corner keeps the whole positive definite.
    whole = np.zeros((count, n + 1, n + 1))
    whole[:, :n, :n] = grams
    whole[:, n, :n] = z
    whole[:, range(n), range(n)] += noises[:, None]
    whole[:, n, n] = 1 + float(z @ z) / noises
    lower = np.linalg.cholesky(whole)
    diagonals = lower[:, range(n), range(n)]
    return np.log(diagonals).sum(axis=1), np.square(lower[:, n, :n]).sum(axis=1)
