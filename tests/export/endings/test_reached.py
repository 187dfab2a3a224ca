"""Probabilities whose logits are tensors of the model, however the ending is written."""

import numpy as np
import pytest
from onnx import TensorProto

from fusioncam.export import check, export_model
from fusioncam.export.random_pictures import pictures


def test_logits_are_reached(reached, explained, texts):
    name = reached
    found = explained((texts.SOFTMAX | texts.SIGMOID | texts.AGAINST)[name], 2)
    kind = "softmax" if name in texts.SOFTMAX else "sigmoid"
    source = found.manifest.source
    assert (found.manifest.ending, source.ending, source.reach) == (kind, kind, "reached")
    scale = {"quantised": 256, "less_log": -1}.get(name, 100 if "percent" in name else 1)
    assert source.scale == pytest.approx(scale)
    assert source.logarithm == (name.startswith(("log", "less_log")))
    assert np.allclose(found.probabilities, found.as_given(), atol=2e-6 + source.rounding / source.scale)
    assert found.points_along(found.weights[:, 2], -1 if name in texts.AGAINST else 1)


TEMPERED = {
    "log_softmax": "l = LogSoftmax <axis = 1> (z) t = Div (l, n3) y = Softmax <axis = 1> (t)",
    "log_of_softmax": "p = Softmax <axis = 1> (z) l = Log (p) t = Mul (n0_5, l) y = Softmax <axis = 1> (t)",
    "twice": "l = LogSoftmax <axis = 1> (z) t = Div (l, n3) u = Mul (t, n2) y = LogSoftmax <axis = 1> (u)",
    "written_out": "e = Exp (z) s = ReduceSum <keepdims = 1> (e, class_axis) p = Div (e, s) l = Log (p) "
    "t = Div (l, n2) y = Softmax <axis = 1> (t)",
}


@pytest.mark.parametrize("name", TEMPERED)
def test_a_temperature_after_the_logarithm_of_a_softmax(name, explained):
    found = explained(TEMPERED[name], 2)
    assert (found.manifest.ending, found.manifest.source.reach) == ("softmax", "reached")
    assert np.allclose(found.probabilities, found.as_given(), atol=2e-6)
    assert found.points_along(found.weights[:, 2])
    assert all(f.ok for f in check(found.bundle))


ROUNDED = {
    "logits": "y = Cast <to = 10> (z)",
    "logits_and_back": "h = Cast <to = 10> (z) y = Cast <to = 1> (h)",
    "softmax": "p = Softmax <axis = 1> (z) y = Cast <to = 10> (p)",
    "softmax_and_back": "p = Softmax <axis = 1> (z) h = Cast <to = 10> (p) y = Cast <to = 1> (h)",
    "percent": "p = Softmax <axis = 1> (z) q = Mul (p, n100) y = Cast <to = 10> (q)",
    "log_softmax": "p = LogSoftmax <axis = 1> (z) y = Cast <to = 10> (p)",
    "sigmoid": "p = Sigmoid (z) y = Cast <to = 10> (p)",
    "before_the_softmax": "h = Cast <to = 10> (z) p = Softmax <axis = 1> (h) y = Cast <to = 1> (p)",
    "bfloat16": "p = Softmax <axis = 1> (z) h = Cast <to = 16> (p) y = Cast <to = 1> (h)",
}


@pytest.mark.parametrize("name", ROUNDED)
def test_an_end_that_is_rounded_to_fewer_digits(name, explained):
    found = explained(ROUNDED[name], 2)
    assert found.manifest.source.reach == "reached"
    if found.manifest.source.ending != "logits":
        assert np.allclose(found.probabilities, found.as_given(), atol=2e-3 if name == "bfloat16" else 5e-4)
    assert found.points_along(found.weights[:, 2])
    assert all(f.ok for f in check(found.bundle))


MASKED = {
    "where": "m = Where (third, z, never) y = Softmax <axis = 1> (m)",
    "add": "m = Add (z, no_fourth) y = Softmax <axis = 1> (m)",
    "log": "m = Add (z, no_fourth) y = LogSoftmax <axis = 1> (m)",
    "sigmoid": "m = Add (no_fourth, z) y = Sigmoid (m)",
}


@pytest.mark.parametrize("name", MASKED)
def test_classes_that_are_masked_out(name, explained):
    found = explained(MASKED[name], 1)
    assert found.manifest.source.reach == "reached"
    assert np.allclose(found.probabilities, found.as_given(), atol=2e-6)
    assert found.points_along(found.weights[:, 1])
    assert all(f.ok for f in check(found.bundle))


FORMS = {"half": {"dtype": TensorProto.FLOAT16}, "batch_of_1": {"batch": 1}, "batch_of_2": {"batch": 2}}
ALSO = (
    *("exp_of_log_softmax", "less_the_greatest", "by_log_sum_exp", "percent", "normalised_sigmoids", "hard_sigmoid"),
    "transposed",
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ALSO)
def test_in_other_forms(name, form, ending, tmp_path, texts, points_along_weights):
    source = ending((texts.SOFTMAX | texts.SIGMOID)[name], **FORMS[form])
    manifest = export_model(source, tmp_path / "e.fcam", preprocessing="unit")
    assert manifest.source.reach == "reached"
    assert all(f.ok for f in check(tmp_path / "e.fcam"))
    assert points_along_weights(source, tmp_path / "e.fcam", pictures(manifest, 1), 2)


SATURATED = ("log", "log_of_clipped", "percent", "quantised", "written_out", "exp_of_log_softmax")


@pytest.mark.parametrize("name", SATURATED)
def test_probabilities_of_0_and_1(name, explained, texts):
    text = texts.SOFTMAX[name].replace("(z)", "(x)").replace("(z, ", "(x, ")
    found = explained(f"x = Mul (z, n6) {text}", 2)
    assert found.manifest.source.reach == "reached"
    assert found.points_along(found.weights[:, 2])


def test_a_saturated_hard_sigmoid_has_a_gradient(explained):
    found = explained("w = Mul (z, n100) y = HardSigmoid (w)", int(np.arange(5)[2]))
    assert set(found.given) <= {0.0, 1.0}
    assert np.allclose(found.probabilities, found.given, atol=2e-6)
    assert found.points_along(found.weights[:, 2])


ALMOST_1 = {
    "sigmoid": "y = Sigmoid (u)",
    "by_tanh": "h = Mul (u, n0_5) t = Tanh (h) p = Add (t, n1) y = Mul (p, n0_5)",
}


@pytest.mark.parametrize("name", ALMOST_1)
def test_a_sigmoid_that_is_almost_1_for_every_picture(name, explained):
    """Twice the logits would give the same outputs but for some millionths."""
    found = explained(f"s = Mul (z, n0_1) w = Add (s, n6) u = Add (w, n6) {ALMOST_1[name]}", 2)
    assert (found.given > 1 - 1e-4).all()
    assert np.allclose(found.gradient.sum(axis=(1, 2)), 0.1 * found.weights[:, 2], rtol=1e-3)


def test_a_sigmoid_that_is_almost_0_for_every_picture(explained):
    """It is off by some hundred millionths in onnxruntime, which is much of so little."""
    found = explained("s = Mul (z, n0_1) v = Sub (s, n6) w = Sub (v, n6) y = Sigmoid (w)", 2)
    assert (found.given < 1e-4).all()
    assert np.allclose(found.gradient.sum(axis=(1, 2)), 0.1 * found.weights[:, 2], rtol=1e-3)
    assert all(f.ok for f in check(found.bundle))
