"""The single graph and the graphs without a Loop give the maps of `Explainer.explain`."""

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.export import export_model
from fusioncam.runtime.photos.model_input import as_input

SAME = 1e-4
EVERY = tuple(range(12))


def no_evidence(weights):
    """Nothing speaks for any class."""
    weights["w3"], weights["w4"] = np.abs(weights["w3"]), -np.abs(weights["w4"])


def deaf(weights):
    """The logits are the same for every picture."""
    weights["w4"][:] = 0


def almost_flat(weights):
    """The layer varies by a hundred thousandth of what it is."""
    weights["w2"] *= 1e-3
    weights["b2"][:] = 50


def loud(weights):
    """Scores far apart: the softmax over them leaves one channel."""
    weights["w4"] *= 300


def sure(weights):
    """All logits are far above zero and near each other, so a sigmoid is all but 1 for every picture."""
    weights["w4"] *= 0.1
    weights["b4"][:] = 14


CASES = {
    "all but sure": ({"ending": "Sigmoid"}, sure),
    "some dead, one constant": ({"zero": (1, 5), "constant": (3,)}, None),
    "all dead": ({"zero": EVERY}, None),
    "all constant": ({"constant": EVERY}, None),
    "one live": ({"zero": EVERY[1:]}, None),
    "dead and constant": ({"zero": EVERY[:6], "constant": EVERY[6:]}, None),
    "fewer than a chunk": ({"channels": 3}, None),
    "a chunk and one": ({"channels": 9}, None),
    "no evidence": ({}, no_evidence),
    "equal contributions": ({}, deaf),
    "almost flat": ({}, almost_flat),
    "loud": ({}, loud),
    "sigmoid": ({"ending": "Sigmoid"}, None),
    "softmax": ({"ending": "Softmax"}, None),
    "one output": ({"classes": 1}, None),
    "two classes": ({"classes": 2}, None),
}


@pytest.mark.parametrize("case", CASES)
def test_case(case, make_tiny, pictures, single_of, unrolled_of, farthest):
    facts, change = CASES[case]
    bundle = make_tiny(change, **facts).bundle
    explainer, single, unrolled = Explainer(bundle), single_of(bundle), unrolled_of(bundle)
    for c in (-1, 0, explainer.manifest.classes - 1):
        for x in pictures[:1]:
            wanted = explainer.explain(x, None if c < 0 else c)
            assert farthest(found := single(x, c), wanted) <= SAME
            assert farthest(unrolled(x, c), wanted) <= SAME
            assert found["logits"].shape == (1, explainer.manifest.classes)


def test_cases_are_what_they_are_called(make_tiny, pictures):
    flags = {}
    for case in ("all dead", "no evidence", "equal contributions"):
        facts, change = CASES[case]
        flags[case] = Explainer(make_tiny(change, **facts).bundle).explain(pictures[0]).flags
    assert {"flat_grad_cam", "flat_score_cam", "flat_fusion_cam"} <= set(flags["all dead"])
    assert "flat_grad_cam" in flags["no evidence"]
    assert "equal_contributions" in flags["equal contributions"]


@pytest.mark.parametrize("value", [False, True])
def test_regression(value, make_tiny, pictures, single_of, unrolled_of, farthest, tmp_path):
    made = make_tiny(classes=1 if value else 4)
    bundle = tmp_path / "value.fcam"
    export_model(made.bundle.parent / "tiny.onnx", bundle, layer="layer", size=(24, 32), ending="value")
    explainer, single, unrolled = Explainer(bundle), single_of(bundle), unrolled_of(bundle)
    for c in range(2):
        wanted = explainer.explain(pictures[0], c)
        assert max(farthest(run(pictures[0], c), wanted) for run in (single, unrolled)) <= SAME


def test_a_blank_picture(usual, single_of, unrolled_of, farthest):
    x = np.zeros((3, 24, 32), np.float32)
    wanted = Explainer(usual).explain(x)
    assert farthest(single_of(usual)(x), wanted) <= SAME
    assert farthest(unrolled_of(usual)(x), wanted) <= SAME


@pytest.mark.parametrize("masks", [1, 5, 12, 40])
def test_masks_a_call(masks, usual, pictures, unrolled_of, farthest):
    wanted = Explainer(usual).explain(pictures[0], 2)
    assert farthest(unrolled_of(usual, masks)(pictures[0], 2), wanted) <= SAME


@pytest.mark.parametrize("chunk", [1, 5, 12, 40])
def test_masks_a_turn(chunk, usual, pictures, single_of, farthest):
    wanted = Explainer(usual).explain(pictures[0], 2)
    assert farthest(single_of(usual, chunk=chunk)(pictures[0], 2), wanted) <= SAME


def test_shared_weights_change_nothing(usual, pictures, single_of):
    one, other = (single_of(usual, shared_weights=s)(pictures[1]) for s in (False, True))
    for name, found in one.items():
        np.testing.assert_allclose(other[name], found, atol=1e-6)


@pytest.mark.parametrize("name", ["cifar10_resnet8_32_softmax", "vww_person_mobilenetv1_025_96_logits"])
def test_shared_model(name, shared_assets, single_of, unrolled_of, farthest, tmp_path):
    bundle = tmp_path / "model.fcam"
    export_model(shared_assets / "models" / f"{name}.onnx", bundle, preprocessing="unit")
    explainer, single, unrolled = Explainer(bundle), single_of(bundle), unrolled_of(bundle)
    for photo in ("coral_parrot.jpg", "captum_zebra.jpg"):
        x = as_input(shared_assets / "images" / photo, explainer.manifest.preprocessing)[1]
        for c in (-1, 1):
            wanted = explainer.explain(x, None if c < 0 else c)
            assert max(farthest(run(x, c), wanted) for run in (single, unrolled)) <= SAME
