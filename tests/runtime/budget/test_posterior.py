import numpy as np
import pytest

from fusioncam.runtime.budget.posterior import DOUBT, OUTLIERS, SAFETY, UNLIKE, ScorePosterior, _beyond
from fusioncam.runtime.budget.surrogate import Masks
from fusioncam.runtime.explanation import TOLERANCE

COUNT, SIZE = 60, (4, 5)


def setting(seed=0, roughness=0.0):
    """Masks, maps and the scores of a smooth function of the masks."""
    rng = np.random.default_rng(seed)
    activations = rng.random((COUNT, *SIZE)).cumsum(1).cumsum(2) * rng.random((COUNT, 1, 1))
    masks = activations / activations.max((1, 2), keepdims=True)
    evidence = rng.standard_normal(SIZE)
    maps = activations.reshape(COUNT, -1)
    scores = 3 * np.tanh((masks * np.abs(evidence)).sum((1, 2)) / 4) + roughness * rng.standard_normal(COUNT)
    posterior = ScorePosterior(Masks(masks, evidence, activations.sum(0)), maps - maps.mean(1, keepdims=True), full=3.0)
    return posterior, maps - maps.mean(1, keepdims=True), scores


def drawn(maps, scores):
    weights = np.exp(scores - scores.max())
    return weights @ maps / weights.sum()


def off(maps, found, wanted):
    """1 - correlation of two maps."""
    return 1 - np.corrcoef(drawn(maps, found), drawn(maps, wanted))[0, 1]


def test_a_smooth_function_is_guessed():
    posterior, maps, scores = setting()
    at = np.arange(0, COUNT, 3)
    posterior.update(at, scores[at], 0.0, 0, last=False)
    np.testing.assert_array_equal(posterior.scores[at], scores[at])
    assert np.abs(posterior.scores - scores).max() < 0.3
    assert off(maps, posterior.scores, scores) < 1e-3


@pytest.mark.parametrize(("roughness", "most"), [(0.3, 6), (1.0, 30)])
def test_the_expected_error_is_about_the_real_one(roughness, most):
    """Twice 1 - correlation is the squared error relative to the map; over many cases, for it is an expectation.

    Where scores are mere noise, doubt makes much of it.
    """
    expected, real = [], []
    for seed in range(30):
        posterior, maps, scores = setting(seed, roughness)
        at = np.random.default_rng(seed).permutation(COUNT)[:20]
        posterior.update(at, scores[at], 0.0, 0, last=False)
        expected.append(posterior.error / SAFETY)
        real.append(2 * off(maps, posterior.scores, scores))
    assert 0.3 < np.mean(expected) / np.mean(real) < most


def test_the_error_falls_with_what_is_measured_to_nothing():
    posterior, _, scores = setting(roughness=0.5)
    order, errors, missing = np.random.default_rng(1).permutation(COUNT), [], []
    for start in range(0, COUNT, 20):
        at = order[start : start + 20]
        posterior.update(at, scores[at], 0.0, 0, last=start + 20 == COUNT)
        errors.append(posterior.error)
        missing.append(posterior.missing)
    assert errors[0] > errors[1] > errors[2] == 0.0
    assert missing[0] > missing[1] > missing[2] == 0.0
    np.testing.assert_array_equal(posterior.scores, scores)
    assert posterior.error < TOLERANCE


def test_missing_is_the_share_of_the_guessed_weights():
    posterior, _, scores = setting()
    at = np.arange(20)
    posterior.update(at, scores[at], 0.0, 0, last=False)
    weights = np.exp(posterior.scores)
    assert posterior.missing == pytest.approx(weights[20:].sum() / weights.sum())


def test_disappointment_raises_the_doubt():
    calm, _, scores = setting()
    upset, _, _ = setting()
    first, then = np.arange(20), np.arange(20, 28)
    for posterior, wrong in ((calm, 0.0), (upset, 3.0)):
        posterior.update(first, scores[first], 0.0, 0, last=False)
        posterior.update(then, scores[then] + wrong * (-1) ** then, 0.0, 0, last=False)
    assert upset._misses.count == calm._misses.count == 8
    assert calm.surprise**2 < DOUBT < upset.surprise**2
    assert upset.error > calm.error


def test_checks_that_surprise_raise_the_doubt_of_all():
    """Eight predictions that were looked at for their effect, and were right, do not outvote eight checks."""
    found = []
    for wrong in (0.0, 4.0):
        posterior, _, scores = setting()
        posterior.update(np.arange(20), scores[:20], 0.0, 0, last=False)
        measured = scores[20:36].copy()
        measured[8:] += wrong * (-1.0) ** np.arange(8)
        posterior.update(np.arange(20, 36), measured, 0.0, 8, last=False)
        assert posterior.checks == 8
        found.append((posterior.surprise, posterior.error))
    assert found[1] > found[0]
    assert found[1][1] > 10 * found[0][1]


def test_surprise_is_that_of_the_predictions():
    posterior, _, scores = setting()
    posterior.update(np.arange(20), scores[:20], 0.0, 0, last=False)
    assert posterior.surprise == 0
    expected, deviation = posterior._expected[20:30].copy(), np.sqrt(posterior._variance[20:30])
    posterior.update(np.arange(20, 30), expected + 3 * deviation, 0.0, 0, last=False)
    assert posterior.surprise == pytest.approx(3)


def test_many_scores_that_could_be_far_too_low_count_as_an_error():
    posterior, _, scores = setting(roughness=0.1)
    posterior.update(np.arange(30), scores[:30], 0.0, 0, last=False)
    posterior.effect, posterior._error = np.where(posterior.effect > 0, 1e-9, 0), None
    posterior._uncertain = np.full(COUNT, 1.0)
    assert posterior.error < TOLERANCE  # each would have to be off by ten deviations
    posterior._uncertain, posterior._error = np.full(COUNT, 25.0), None
    assert posterior._outliers(UNLIKE) > OUTLIERS
    assert posterior.error >= UNLIKE


def test_tails_are_those_of_student():
    """Twice the chance beyond 2.776 is 5 %, beyond 8.610 0.1 %: the table of 4 degrees of freedom."""
    np.testing.assert_allclose(2 * _beyond(np.array([0, 2.7764, 8.6103])), [1, 0.05, 0.001], rtol=1e-3)


def test_an_error_that_is_hopeless_is_not_looked_at_jointly(monkeypatch):
    posterior, _, scores = setting(roughness=1.0)
    posterior.update(np.arange(16), scores[:16], 0.0, 0, last=False)
    monkeypatch.setattr(posterior, "_joint_error", lambda: pytest.fail("not needed"))
    assert not posterior.within(1e-6)


@pytest.mark.parametrize("score", [0.0, 0.3, 5.0, -1e4])
def test_scores_that_are_all_the_same(score):
    posterior, _, _ = setting()
    posterior._values[COUNT] = score
    for start in (0, 10, 20):
        at = np.arange(start, start + 10)
        posterior.update(at, np.full(10, score), score, 0, last=False)
        np.testing.assert_allclose(posterior.scores, score, rtol=1e-6, atol=1e-6)
        assert np.isfinite([posterior.missing, posterior.error]).all()
    assert posterior.error < TOLERANCE


def test_a_flat_map_has_no_error_that_is_not_finite():
    posterior, maps, scores = setting()
    flat = ScorePosterior(posterior._surrogate._masks, np.zeros_like(maps), 3.0)
    flat.update(np.arange(10), scores[:10], 0.0, 0, last=False)
    assert flat.error == 0.0
