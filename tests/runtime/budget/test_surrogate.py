import numpy as np
import pytest

from fusioncam.runtime.budget.surrogate import OFFSET, PRIORS, Masks, Prior, Surrogate, _likelihoods, product

RNG = np.random.default_rng(0)


def some_masks(count=30, size=(4, 5)):
    smooth = RNG.random((count, *size)).cumsum(1).cumsum(2)
    return smooth / smooth.max((1, 2), keepdims=True)


@pytest.fixture
def masks():
    return Masks(some_masks(), RNG.standard_normal((4, 5)), RNG.random((4, 5)))


def gram(masks, prior):
    """The prior's covariance of all points, written a second time."""
    every = np.arange(len(masks))
    phi = masks.features
    _, apart = masks.alike(every, every)
    far = np.sqrt(3 * apart / prior.reach)
    return OFFSET + prior.slope * phi @ phi.T + prior.rough * (1 + far) * np.exp(-far)


@pytest.mark.parametrize("prior", [PRIORS[0], PRIORS[-1], Prior(0.5, 2.0, 3.0, 0.1)])
def test_it_is_gaussian_process_regression(masks, prior):
    surrogate = Surrogate(masks)
    surrogate.prior = prior
    surrogate._begin()
    at = [3, 30, 31, 0, 17, 8, *range(9, 16), *range(18, 26)]
    scores = RNG.standard_normal(len(at)) * 3 + 7
    for start, stop in ((0, 1), (1, 6), (6, len(at))):
        surrogate.observe(np.array(at[start:stop]), scores[start:stop])
    expected, scale = surrogate.predict()

    k = gram(masks, prior)
    inner = k[np.ix_(at, at)] + prior.noise * np.eye(len(at))
    z = (scores - scores.mean()) / scores.std()
    gain = np.linalg.solve(inner, k[at])
    np.testing.assert_allclose(expected, scores.mean() + scores.std() * gain.T @ z, rtol=1e-6)
    covariance = k - k[at].T @ gain
    np.testing.assert_allclose(surrogate.variance, np.diag(covariance).clip(0), atol=1e-8)
    assert scale == pytest.approx(scores.var() * z @ np.linalg.solve(inner, z) / len(at))
    some = np.array([1, 2, 5, 29])
    wanted = covariance[np.ix_(some, some)] + prior.noise * np.eye(4)
    np.testing.assert_allclose(surrogate.covariance(some), wanted, atol=1e-8)


def test_likelihoods():
    raw = RNG.standard_normal((3, 7, 7))
    grams, z, noises = raw @ raw.transpose(0, 2, 1), RNG.standard_normal(7), np.array([0.01, 0.1, 1.0])
    logs, misfits = _likelihoods(grams, noises, z)
    noisy = grams + noises[:, None, None] * np.eye(7)
    np.testing.assert_allclose(2 * logs, np.linalg.slogdet(noisy)[1])
    np.testing.assert_allclose(misfits, [z @ np.linalg.solve(g, z) for g in noisy])


@pytest.mark.parametrize("columns", [1, 7, 5000])
def test_products_by_parts(columns):
    left, right = RNG.standard_normal((60, 33)), RNG.standard_normal((33, columns))
    np.testing.assert_allclose(product(left, right), left @ right)


def test_the_prior_is_the_likeliest(masks):
    """Scores drawn from a prior: noise and roughness are told apart."""
    at = np.arange(32)
    chosen = {}
    for noise in (0.003, 0.15):
        prior = Prior(0.1, 4.0, 4.0, noise)
        k = gram(masks, prior) + noise * np.eye(32)
        votes = []
        for seed in range(9):
            scores = np.linalg.cholesky(k) @ np.random.default_rng(seed).standard_normal(32)
            surrogate = Surrogate(masks)
            surrogate.learn(at, scores)
            np.testing.assert_array_equal(surrogate.at, at)
            votes.append(surrogate.prior.noise)
        chosen[noise] = np.mean(votes)
    assert chosen[0.15] > 1.5 * chosen[0.003]


def test_learning_again_keeps_what_was_measured(masks):
    surrogate = Surrogate(masks)
    scores = RNG.standard_normal(6)
    surrogate.learn(np.arange(4), scores[:4])
    surrogate.learn(np.arange(6), scores)
    np.testing.assert_array_equal(surrogate.at, np.arange(6))
    assert (surrogate.variance[:6] <= surrogate.prior.noise).all()


def test_measured_points_are_no_longer_uncertain(masks):
    surrogate = Surrogate(masks)
    before = surrogate.variance.copy()
    surrogate.observe(np.array([4]), np.array([1.0]))
    assert surrogate.variance[4] <= surrogate.prior.noise
    assert (surrogate.variance <= before).all()


@pytest.mark.parametrize("made", [np.zeros((5, 3, 3)), np.ones((5, 3, 3)), np.tile(RNG.random((1, 3, 3)), (5, 1, 1))])
@pytest.mark.parametrize("evidence", [np.zeros((3, 3)), -np.ones((3, 3)), RNG.standard_normal((3, 3)) * 1e-20])
def test_masks_that_do_not_differ(made, evidence):
    masks = Masks(made, evidence, np.zeros((3, 3)))
    assert np.isfinite(masks.features).all()
    surrogate = Surrogate(masks)
    surrogate.learn(np.array([0, 1, 5, 6]), np.array([2.0, 2.0, 3.0, 1.0]))
    expected, scale = surrogate.predict()
    assert np.isfinite(expected).all()
    assert np.isfinite(scale)
    assert expected[2] == pytest.approx(2.0, abs=0.3)


def test_equal_scores():
    masks = Masks(some_masks(), RNG.standard_normal((4, 5)), RNG.random((4, 5)))
    surrogate = Surrogate(masks)
    surrogate.learn(np.arange(8), np.full(8, 5.0))
    expected, scale = surrogate.predict()
    np.testing.assert_allclose(expected, 5.0, atol=1e-6)
    assert scale < 1e-10
