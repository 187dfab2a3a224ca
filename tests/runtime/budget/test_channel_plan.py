import numpy as np
import pytest

from fusioncam.runtime.budget.channel_plan import CHECKS, FIRST, PATIENCE, AdaptivePlan, ExhaustivePlan
from fusioncam.runtime.budget.posterior import UNLIKE, ScorePosterior
from fusioncam.runtime.budget.surrogate import Masks
from fusioncam.runtime.explanation import TOLERANCE

LIVE = np.arange(300) * 2 + 1
RIDING = 2


def setting(classes=1, seed=0, roughness=0.0):
    rng = np.random.default_rng(seed)
    count = len(LIVE)
    activations = rng.random((count, 5, 5)).cumsum(1).cumsum(2) * rng.random((count, 1, 1))
    masks = activations / activations.max((1, 2), keepdims=True)
    maps = activations.reshape(count, -1)
    maps = maps - maps.mean(1, keepdims=True)
    posteriors, scores = [], []
    for _ in range(classes):
        evidence = rng.standard_normal((5, 5))
        posteriors.append(ScorePosterior(Masks(masks, evidence, activations.sum(0)), maps, 6.0))
        kept = (masks * np.abs(evidence)).sum((1, 2))
        scores.append(8 * kept / kept.max() + roughness * rng.standard_normal(count))
    return posteriors, maps, np.stack(scores, axis=1)


def follow(plan, scores):
    """Do what a plan says; returns the channels asked for, one array for each time."""
    asked, riding = [], RIDING
    while len(channels := plan.next(riding)) or riding:
        asked.append(channels)
        plan.update(scores[np.searchsorted(LIVE, channels)], np.zeros(scores.shape[1]))
        riding = 0
    return asked


def correlation(maps, found, wanted):
    drawn = [np.exp(s - s.max()) @ maps for s in (found, wanted)]
    return np.corrcoef(*drawn)[0, 1]


def test_everything():
    scores = np.random.default_rng(0).random((300, 2))
    plan = ExhaustivePlan(LIVE)
    assert plan.total == 300
    assert (plan.missing, plan.error) == (1, 1)
    (asked,) = follow(plan, scores)
    np.testing.assert_array_equal(asked, LIVE)
    np.testing.assert_array_equal(plan.scores(), scores)
    assert plan.error <= TOLERANCE
    assert plan.missing == 0


@pytest.mark.parametrize("classes", [1, 3])
def test_enough_stops_early_with_the_same_map(classes):
    posteriors, maps, scores = setting(classes)
    plan = AdaptivePlan(LIVE, posteriors, len(LIVE), TOLERANCE, stop_early=True, grain=8)
    asked = np.concatenate(follow(plan, scores))
    assert len(set(asked.tolist())) == len(asked) < 100
    assert set(asked.tolist()) <= set(LIVE.tolist())
    assert plan.error <= TOLERANCE
    assert 0 < plan.missing < 1
    found, places = plan.scores(), np.searchsorted(LIVE, asked)
    np.testing.assert_array_equal(found[places], scores[places])
    for c in range(classes):
        assert correlation(maps, found[:, c], scores[:, c]) > 0.998


def test_rough_scores_take_more_passes():
    counts = []
    for roughness in (0.0, 2.0):
        posteriors, maps, scores = setting(roughness=roughness)
        plan = AdaptivePlan(LIVE, posteriors, len(LIVE), TOLERANCE, stop_early=True, grain=8)
        counts.append(sum(map(len, follow(plan, scores))))
        assert correlation(maps, plan.scores()[:, 0], scores[:, 0]) > 0.99
    assert counts[0] < counts[1]


@pytest.mark.parametrize("most", [1, 3, 14, 15, 40, 200, 299, 300])
def test_a_number_of_passes_is_kept_to(most):
    posteriors, _, scores = setting(roughness=1.0)
    plan = AdaptivePlan(LIVE, posteriors, most, TOLERANCE, stop_early=False, grain=8)
    asked = np.concatenate(follow(plan, scores))
    assert len(set(asked.tolist())) == len(asked) == most == plan.total
    assert np.isfinite(plan.scores()).all()
    assert (plan.missing == 0) == (most == 300)


@pytest.mark.parametrize("grain", [1, 4, 8, 64])
def test_pictures_come_in_whole_chunks(grain):
    posteriors, _, scores = setting(roughness=1.0)
    asked = follow(AdaptivePlan(LIVE, posteriors, 140, TOLERANCE, stop_early=False, grain=grain), scores)
    sizes = [len(asked[0]) + RIDING, *map(len, asked[1:])]
    assert sizes[0] == max(FIRST // grain, 1) * grain if grain > 1 else FIRST
    assert all(size % grain == 0 for size in sizes[:-1])


@pytest.mark.parametrize("riding", [1, 8, 15, 40])
def test_the_first_guess_has_something_to_go_by(riding):
    posteriors, _, _ = setting()
    assert len(AdaptivePlan(LIVE, posteriors, 300, TOLERANCE, stop_early=True, grain=8).next(riding)) >= FIRST // 2


def test_when_most_are_scored_the_rest_is_too():
    posteriors, _, scores = setting(roughness=30.0)
    asked = follow(AdaptivePlan(LIVE, posteriors, len(LIVE), TOLERANCE, stop_early=True, grain=8), scores)
    total = np.cumsum([len(a) for a in asked])
    assert total[-1] in (300, *total[total <= PATIENCE * 300 + 64])
    if total[-1] == 300:
        assert total[-2] >= PATIENCE * 300


def test_from_many_scores_on_the_others_are_taken_at_once(monkeypatch):
    monkeypatch.setattr("fusioncam.runtime.budget.channel_plan.MOST_GUESSED_FROM", 40)
    monkeypatch.setattr("fusioncam.runtime.budget.posterior.LEARNED_UNTIL", 50)
    posteriors, maps, scores = setting(roughness=1.0)
    plan = AdaptivePlan(LIVE, posteriors, 120, TOLERANCE, stop_early=False, grain=8)
    asked = follow(plan, scores)
    assert sum(map(len, asked[:-1])) < 48 + RIDING
    assert sum(map(len, asked)) == len(set(np.concatenate(asked).tolist())) == 120
    assert len(posteriors[0]._surrogate.at) < 60
    assert correlation(maps, plan.scores()[:, 0], scores[:, 0]) > 0.98


def test_predictions_are_checked_early():
    posteriors, _, scores = setting(classes=2, roughness=1.0)
    plan = AdaptivePlan(LIVE, posteriors, 70, TOLERANCE, stop_early=False, grain=8)
    follow(plan, scores)
    assert all(CHECKS <= g.checks <= 70 / 4 for g in posteriors)
    assert plan.surprise == max(g.surprise for g in posteriors) > 0


def test_nothing_is_promised_before_the_checks():
    """However sure the surrogate is, and however much may be wrong."""
    posteriors, _, scores = setting()
    plan = AdaptivePlan(LIVE, posteriors, 300, 0.5, stop_early=True, grain=8)
    first, *_ = follow(plan, scores)
    assert posteriors[0].checks == CHECKS
    short = AdaptivePlan(LIVE, setting()[0], len(first), 0.5, stop_early=False, grain=8)
    follow(short, scores)
    assert 1 >= short.error >= UNLIKE > plan.error


def test_few_channels_are_all_scored():
    posteriors, _, scores = setting()
    few = AdaptivePlan(
        LIVE[:10], [ScorePosterior(g._surrogate._masks, g._maps[:10], 1.0) for g in posteriors], 10, TOLERANCE, True, 8
    )
    (asked,) = follow(few, scores)
    np.testing.assert_array_equal(np.sort(asked), LIVE[:10])
    assert few.error == 0
    assert few.missing == 0


def test_nothing_is_left_to_chance():
    def asked():
        posteriors, _, scores = setting(classes=2, roughness=1.0)
        return [
            a.tolist() for a in follow(AdaptivePlan(LIVE, posteriors, 300, TOLERANCE, stop_early=True, grain=8), scores)
        ]

    assert asked() == asked()
