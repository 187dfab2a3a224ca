"""Probabilities whose logits are no tensors of the model, bare logits, and an ending that the user names."""

import numpy as np
import pytest

from fusioncam.export import check, export_model


def test_logits_are_out_of_reach(out_of_reach, explained, texts):
    kind, text = texts.OUT_OF_REACH[out_of_reach]
    found = explained(text, 1 if out_of_reach == "cut" else -1)
    source = found.manifest.source
    assert (found.manifest.ending, source.ending, source.reach) == (kind, kind, "out_of_reach")
    assert np.allclose(found.probabilities, found.as_given(), atol=2e-6)
    assert np.abs(found.gradient).max() > 0
    assert all(f.ok for f in check(found.bundle))


def test_what_is_logits_stays_logits(bare, explained, texts):
    found = explained(texts.LOGITS[bare], 2)
    source = found.manifest.source
    assert (found.manifest.ending, source.ending, source.reach) == ("logits", "logits", "reached")
    assert found.points_along(found.weights[:, 2])


@pytest.mark.parametrize(
    "text",
    ["s = Mul (z, n0_1) t = Add (s, n0_1) y = Clip (t, n0, n1)", "s = Sin (z) t = Mul (s, n0_5) y = Add (t, n0_5)"],
)
def test_outputs_within_0_and_1_are_doubtful(text, explained):
    found = explained(text, 2)
    assert (found.manifest.ending, found.manifest.source.reach) == ("logits", "doubtful")


@pytest.mark.parametrize("ending_of", ["softmax", "sigmoid", "value"])
@pytest.mark.parametrize("name", ["percent", "mean", "hard_sigmoid"])
def test_what_the_user_says_wins(name, ending_of, explained, texts):
    text = (texts.SOFTMAX | texts.SIGMOID).get(name) or texts.OUT_OF_REACH[name][1]
    found = explained(text, 2, {"ending": ending_of})
    assert found.manifest.ending == ending_of
    assert all(f.ok for f in check(found.bundle))
    if ending_of == "value":
        assert np.allclose(found.probabilities, found.given, rtol=1e-5)
    if (name, ending_of) == ("mean", "sigmoid"):
        assert np.allclose(found.probabilities, found.given, atol=2e-6)


def test_a_user_who_says_sigmoid_of_probabilities_is_believed(explained):
    found = explained("s = Mul (z, n0_1) t = Add (s, n0_1) y = Clip (t, n0, n1)", 2, {"ending": "sigmoid"})
    assert found.manifest.source.reach == "out_of_reach"
    assert np.allclose(found.probabilities, found.given, atol=2e-6)


@pytest.mark.parametrize("name", ["mean", "mean_of_sigmoids", "hard_sigmoid"])
@pytest.mark.parametrize("options", [{"precision": "fp16"}, {"single": True}], ids=["fp16", "single"])
def test_in_other_graphs(name, options, ending, tmp_path, texts):
    text = texts.SIGMOID.get(name) or texts.OUT_OF_REACH[name][1]
    export_model(ending(text, size=(24, 32)), tmp_path / "e.fcam", preprocessing="unit", **options)
    assert all(f.ok for f in check(tmp_path / "e.fcam"))


def test_a_softmax_of_one_number_is_taken_for_a_sigmoid_where_the_user_says_so(explained):
    found = explained("y = Softmax <axis = 1> (z)", 1, {"ending": "sigmoid"}, classes=1)
    assert found.manifest.ending == "sigmoid"
    assert found.points_along(found.weights[:, 0])
