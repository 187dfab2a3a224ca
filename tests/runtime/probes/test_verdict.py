"""Verdicts where the truth is known: a linear model whose evidence is a square, so the right map is that square."""

import json
import math

import numpy as np
import pytest

from fusioncam.runtime.probes.controls import CONTROLS, centred, flipped, shuffled
from fusioncam.runtime.probes.probe import WHOLE, ZEROS, Subject
from fusioncam.runtime.probes.verdict import (
    LEAST_AGREEMENT,
    LEAST_CHANCE,
    LEAST_FLIP,
    OWN,
    STEPS,
    SUPPORTED,
    UNSUPPORTED,
    Circumstances,
    Trial,
    judge,
    of_blank,
    passes_of,
    scaled,
)

SOUND = Circumstances(probability=0.9, flip=0.95, agreement=0.9)
X = 1 + 0.1 * np.random.default_rng(0).standard_normal((3, 48, 48)).astype(np.float32)
SQUARE = np.zeros((48, 48), np.float32)
SQUARE[4:20, 26:42] = 1


def linear(picture):
    """p of a logit that is the mean of the square, less a bias: .95 for the whole picture, .05 for the blank one."""
    return 1 / (1 + math.exp(3 - 6 * float((picture * SQUARE).sum() / (3 * SQUARE.sum()))))


def figures_of(saliency, model=linear):
    trial = Trial(Subject(X, STEPS), "a map", saliency)
    return trial.figures({key: model(make()) for key, make in trial.pictures.items()})


def verdict_of(saliency, model=linear, met=SOUND):
    return judge("score_cam", figures_of(saliency, model), met)


def test_the_right_map_is_supported():
    found = verdict_of(SQUARE)
    assert (found.name, found.stable, found.method) == ("supported", True, "score_cam")
    assert found.title == "supported"
    assert len(found.reasons) == 2
    assert found.numbers["lead"] > 0.5
    assert found.line.startswith(
        "Score-CAM is supported: the model answers to it, and better than to maps that know nothing; support 1."
    )


def off(saliency):
    return np.roll(saliency, (24, -24), (0, 1))


@pytest.mark.parametrize("wrong", [off, flipped, shuffled, lambda m: 1 - m])
def test_a_map_elsewhere_is_unsupported(wrong):
    found = verdict_of(wrong(SQUARE))
    assert found.name == "unsupported"
    assert found.numbers["advantage"] < UNSUPPORTED
    assert "no better to it than to maps that know nothing" in found.line


def test_a_centred_map_is_weak_for_it_has_no_lead():
    """The evidence is in the middle, and the map is right: but luck would have found it, too."""
    middle = np.roll(SQUARE, (12, -10), (0, 1))
    model = lambda picture: linear(np.roll(picture, (-12, 10), (1, 2)))  # noqa: E731
    prior = judge("grad_cam", figures_of(centred(SQUARE), model), SOUND)
    assert prior.name == "weak"
    assert prior.numbers["lead"] == 0
    assert "the centre prior does as well" in prior.line or "the flipped map does as well" in prior.line
    assert figures_of(middle, model)[OWN]["support"] == pytest.approx(figures_of(middle, model)["flipped"]["support"])


def test_a_model_that_answers_to_nothing_supports_nothing():
    for model in (lambda picture: 0.97, lambda picture: 0.0):
        found = verdict_of(SQUARE, model)
        assert found.name == "unsupported"
        assert found.numbers["advantage"] == pytest.approx(0)
        json.dumps(found.summary(), allow_nan=False)
    assert found.figures[OWN]["drop"] is None


def given(own, control):
    values = dict.fromkeys(("drop", "insertion", "deletion"), 0.5)
    return {version: values | {"support": own if version == OWN else control} for version in (OWN, *CONTROLS)}


@pytest.mark.parametrize(
    ("advantage", "name"),
    [(1.0, "supported"), (SUPPORTED + 1e-6, "supported"), (SUPPORTED - 1e-6, "weak"), (UNSUPPORTED + 1e-6, "weak"),
     (UNSUPPORTED - 1e-6, "unsupported"), (-1.0, "unsupported")],
)  # fmt: skip
def test_the_limits_of_the_advantage(advantage, name):
    assert judge("fusion_cam", given(advantage, 0.0), SOUND).name == name


UNSTABLE = {
    "not the model's top class (probability 0.2)": {"top": False, "probability": 0.2},
    "a probability of 0.05 only": {"probability": LEAST_CHANCE / 2},
    "contributions of both signs": {"mixed": True},
    "does not turn with the picture (r 0.69)": {"flip": LEAST_FLIP - 0.01},
    "map and region map disagree (r 0.39)": {"agreement": LEAST_AGREEMENT - 0.01},
}


@pytest.mark.parametrize("words", UNSTABLE)
def test_an_unstable_map_is_weak_and_says_why(words):
    found = judge("fusion_cam", given(1.5, 0.2), SOUND._replace(**UNSTABLE[words]))
    assert (found.name, found.stable, found.title) == ("weak", False, "weak, unstable")
    (reason,) = found.reasons[1:-1]
    assert reason.startswith("unstable: ")
    assert words in reason
    assert judge("fusion_cam", given(0.2, 0.2), SOUND._replace(**UNSTABLE[words])).name == "unsupported"


def test_circumstances_that_nobody_measured_are_no_ground():
    assert judge("fusion_cam", given(1.5, 0.2), Circumstances()).name == "supported"


def test_passes_are_counted():
    subject = Subject(X, STEPS)
    keys = {key for n in range(3) for key in Trial(subject, str(n), SQUARE).pictures}
    assert len(keys) == passes_of(3) == 63
    assert passes_of(1) == 23


def test_figures_are_those_of_the_metrics():
    known = figures_of(SQUARE)[OWN]
    before, under = linear(X), linear(X * SQUARE)
    assert known["drop"] == pytest.approx(max(0, before - under) / before)
    assert known["support"] == pytest.approx(under + known["insertion"] - known["deletion"])


def test_values_of_a_regression_count_as_shares_of_their_change():
    assert scaled({WHOLE: 30.0, ZEROS: 10.0, ("a",): 20.0}) == {WHOLE: 1.0, ZEROS: 0.0, ("a",): 0.5}
    assert scaled({WHOLE: 10.0, ZEROS: 30.0, ("a",): 20.0}) == {WHOLE: -1.0, ZEROS: 0.0, ("a",): -0.5}
    assert set(scaled({WHOLE: 3.0, ZEROS: 3.0, ("a",): 9.0}).values()) == {0.0}


def test_a_blank_map_is_unsupported_without_a_question():
    found = of_blank("grad_cam")
    assert found.line == "Grad-CAM is unsupported: the map is blank: there is nothing to verify"
    assert json.loads(json.dumps(found.summary()))["numbers"] == {}
