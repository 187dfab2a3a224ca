import numpy as np
import pytest

from fusioncam.runtime.budget.posterior import ScorePosterior
from fusioncam.runtime.budget.selection import MOST_TOGETHER, most_effective, spread
from fusioncam.runtime.budget.surrogate import Masks


def test_a_spread_sample_follows_the_chances():
    chances = np.array([0, 5, 0, 1, 1, 1, 1, 1, 0.0])
    np.testing.assert_array_equal(spread(chances, 2), [1, 5])
    np.testing.assert_array_equal(spread(chances, 5), [1, 3, 5, 7])  # the likely one once
    assert len(spread(chances, 0)) == 0


@pytest.fixture
def posterior():
    """Pairs of equal masks, of which a few others are measured."""
    rng = np.random.default_rng(0)
    activations = np.repeat(rng.random((20, 4, 4)), 2, axis=0)
    maps = activations.reshape(40, -1) - activations.reshape(40, -1).mean(1, keepdims=True)
    made = ScorePosterior(Masks(activations, rng.standard_normal((4, 4)), activations.sum(0)), maps, 3.0)
    made.update(np.arange(30, 40), rng.standard_normal(10), 0.0, 0, last=False)
    return made


def test_of_equal_masks_one_is_selected_first(posterior):
    free = np.arange(40) < 30
    chosen = most_effective([posterior], free, 10)
    assert len(set(chosen.tolist())) == 10
    ranked = np.argsort(-np.where(free, posterior.expected_gain(), -1))[:10]
    assert len({k // 2 for k in chosen.tolist()}) > len({k // 2 for k in ranked.tolist()})
    best = np.argmax(np.where(free, posterior.expected_gain(), -1))
    assert chosen[0] == best


def test_each_counts_as_measured_for_the_next(posterior):
    """The second one by the posterior that has observed the first."""
    free = np.arange(40) < 30
    first, second = most_effective([posterior], free, 2)
    posterior._surrogate.observe(np.array([first]), np.zeros(1))
    noise = posterior._surrogate.prior.noise
    variances = posterior._factor * (posterior._surrogate.variance[:40] + noise)
    gains = np.where(free, posterior.effect * np.expm1(np.minimum(variances, 4)), -1)
    gains[first] = -1
    assert gains[second] == pytest.approx(gains.max())


@pytest.mark.parametrize("count", [1, 30, 50])
def test_no_more_than_there_are(posterior, count):
    chosen = most_effective([posterior, posterior], np.arange(40) < 30, count)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, 30)
    assert chosen.max() < 30


def test_many_at_once_go_by_their_own_gain(posterior, monkeypatch):
    monkeypatch.setattr("fusioncam.runtime.budget.selection.MOST_TOGETHER", 5)
    assert MOST_TOGETHER > 5
    free = np.arange(40) < 30
    gains = np.where(free, posterior.expected_gain(), -1)
    np.testing.assert_array_equal(most_effective([posterior], free, 6), np.argsort(-gains, kind="stable")[:6])
