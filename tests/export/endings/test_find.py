"""Outputs that are probabilities, however that is written: what they say, and what raises them."""

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from fusioncam.export import check, export_model
from fusioncam.export.canonical import canonicalize
from fusioncam.export.checking.check import pictures
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import EXPLAIN_GRAPH

SUM = "ReduceSum <keepdims = 1>"
DIVIDED = f"s = {SUM} (e, class_axis) y = Div (e, s)"
GREATEST = "m = ReduceMax <keepdims = 1> (z, class_axis)"
QUANTISED = "w = QuantizeLinear (z, n0_1, half_of_bytes)"
SOFTMAX = {
    "softmax": "y = Softmax <axis = 1> (z)",
    "log_softmax": "y = LogSoftmax <axis = 1> (z)",
    "exp_of_log_softmax": "l = LogSoftmax <axis = 1> (z) y = Exp (l)",
    "written_out": f"e = Exp (z) {DIVIDED}",
    "less_the_greatest": f"{GREATEST} d = Sub (z, m) e = Exp (d) {DIVIDED}",
    "by_reciprocal": f"e = Exp (z) s = {SUM} (e, class_axis) r = Reciprocal (s) y = Mul (r, e)",
    "by_log_sum_exp": "m = ReduceLogSumExp <keepdims = 1> (z, class_axis) d = Sub (z, m) y = Exp (d)",
    "log_by_log_sum_exp": "m = ReduceLogSumExp <keepdims = 1> (z, class_axis) y = Sub (z, m)",
    "softmax_less_the_greatest": f"{GREATEST} d = Sub (z, m) y = Softmax <axis = 1> (d)",
    "clipped": "p = Softmax <axis = 1> (z) y = Clip (p, tiny, almost_1)",
    "less_log": "l = LogSoftmax <axis = 1> (z) y = Neg (l)",
    "log_of_clipped": "p = Softmax <axis = 1> (z) q = Clip (p, tiny, almost_1) y = Log (q)",
    "log": "p = Softmax <axis = 1> (z) y = Log (p)",
    "percent": "p = Softmax <axis = 1> (z) y = Mul (p, n100)",
    "percent_clipped": "p = Softmax <axis = 1> (z) q = Mul (n100, p) y = Clip (q, n0, n100)",
    "percent_written_out": f"e = Exp (z) s = {SUM} (e, class_axis) f = Mul (e, n100) y = Div (f, s)",
    "rounded": "p = Softmax <axis = 1> (z) q = Mul (p, n100) r = Round (q) y = Div (r, n100)",
    "quantised": "p = Softmax <axis = 1> (z) y = QuantizeLinear (p, step, zero_point)",
    "quantised_and_back": "p = Softmax <axis = 1> (z) q = QuantizeLinear (p, step, zero_point) "
    "y = DequantizeLinear (q, step, zero_point)",
    "quantised_operator": f"{QUANTISED} q = com.microsoft.QLinearSoftmax <axis = 1, opset = 13> "
    "(w, n0_1, half_of_bytes, step, zero_point) y = DequantizeLinear (q, step, zero_point)",
    "temperature": "t = Div (z, n3) y = Softmax <axis = 1> (t)",
    "channels_last": "u = Unsqueeze (z, two_axes) p = Softmax <axis = 3> (u) y = Squeeze (p, two_axes)",
    "of_a_dummy_axis": "u = Unsqueeze (z, class_axis) p = Softmax <axis = 2> (u) "
    "y = ReduceMean <keepdims = 0> (p, class_axis)",
    "transposed": "t = Transpose <perm = [1, 0]> (z) p = Softmax <axis = 0> (t) y = Transpose <perm = [1, 0]> (p)",
    "normalised_sigmoids": f"e = Sigmoid (z) {DIVIDED}",
    "normalised_softplus": f"f = Softplus (z) e = Add (f, n1) {DIVIDED}",
}
SIGMOID = {
    "sigmoid": "y = Sigmoid (z)",
    "sigmoid_percent": "p = Sigmoid (z) y = Mul (p, n100)",
    "sigmoid_clipped": "p = Sigmoid (z) y = Clip (p, tiny, almost_1)",
    "sigmoid_written_out": "n = Neg (z) e = Exp (n) d = Add (n1, e) y = Div (n1, d)",
    "quantised_sigmoid": f"{QUANTISED} q = com.microsoft.QLinearSigmoid (w, n0_1, half_of_bytes, step, zero_point) "
    "y = DequantizeLinear (q, step, zero_point)",
    "sigmoid_by_tanh": "h = Mul (z, n0_5) t = Tanh (h) u = Add (t, n1) y = Mul (u, n0_5)",
    "log_sigmoid": "p = Sigmoid (z) y = Log (p)",
    "hard_sigmoid": "y = HardSigmoid (z)",
    "hard_sigmoid_of_another_slope": "y = HardSigmoid <alpha = 0.1, beta = 0.4> (z)",
    "hard_sigmoid_written_out": "a = Add (z, n3) b = Clip (a, n0, n6) y = Div (b, n6)",
    "hard_sigmoid_percent": "p = HardSigmoid (z) y = Mul (p, n100)",
}
AGAINST = {
    "one_less_sigmoid": "p = Sigmoid (z) y = Sub (n1, p)",
    "one_less_sigmoid_percent": "p = Sigmoid (z) q = Sub (n1, p) y = Mul (n100, q)",
}
TWO_SOFTMAXES = "a = Softmax <axis = 1> (z) w = Sin (z) b = Softmax <axis = 1> (w)"
TWO_SIGMOIDS = "a = Sigmoid (z) w = Sin (z) b = Sigmoid (w)"
OUT_OF_REACH = {
    "mean": ("softmax", f"{TWO_SOFTMAXES} y = Mean (a, b)"),
    "half_the_sum": ("softmax", f"{TWO_SOFTMAXES} s = Add (a, b) y = Div (s, n2)"),
    "mean_in_percent": ("softmax", f"{TWO_SOFTMAXES} s = Mean (a, b) y = Mul (s, n100)"),
    "log_of_mean": ("softmax", f"{TWO_SOFTMAXES} s = Mean (a, b) y = Log (s)"),
    "smoothed": ("softmax", "a = Softmax <axis = 1> (z) m = Mul (a, n0_5) y = Add (m, n0_1)"),
    "another_order": ("softmax", "a = Softmax <axis = 1> (z) y = Gather <axis = 1> (a, order)"),
    "groups": ("softmax", "a = Softmax <axis = 1> (z) y = MatMul (a, groups)"),
    "squares": ("softmax", f"e = Mul (z, z) {DIVIDED}"),
    "some": ("sigmoid", "a = Softmax <axis = 1> (z) y = Slice (a, from_1, to_4, class_axis)"),
    "cut": ("sigmoid", "a = Softmax <axis = 1> (z) y = Clip (a, tiny, n0_7)"),
    "zero_below_a_limit": (
        "sigmoid",
        "a = Softmax <axis = 1> (z) g = Greater (a, n0_1) f = Cast <to = 1> (g) y = Mul (a, f)",
    ),
    "zero_below_a_low_limit": (
        "sigmoid",
        "a = Softmax <axis = 1> (z) g = Greater (a, tiny) n = Mul (a, n0) y = Where (g, a, n)",
    ),
    "mean_of_sigmoids": ("sigmoid", f"{TWO_SIGMOIDS} s = Add (a, b) y = Div (s, n2)"),
    "product_of_sigmoids": ("sigmoid", f"{TWO_SIGMOIDS} y = Mul (a, b)"),
    "either_of_sigmoids": ("sigmoid", f"{TWO_SIGMOIDS} y = Max (a, b)"),
}
LOGITS = {
    "bare": "y = Identity (z)",
    "scaled": "y = Mul (z, n100)",
    "positive": "y = Softplus (z)",
    "logit_of_sigmoid": "p = Sigmoid (z) q = Sub (n1, p) o = Div (p, q) y = Log (o)",
}


@pytest.fixture
def explained(ending, tmp_path, run):
    """Exports a model of that ending; gives its manifest, and what source and bundle make of a picture."""

    def explain(text, c, options=(), **more):
        source = ending(text, **more)
        manifest = export_model(source, tmp_path / "e.fcam", preprocessing="unit", **dict(options))
        x = pictures(manifest, 2)[1:]
        half = more.get("dtype") == TensorProto.FLOAT16
        given = run(source, {"image": x.astype(np.float16) if half else x})["y"]
        made = run(tmp_path / "e.fcam" / EXPLAIN_GRAPH, {"image": x, "class_index": np.array([c])})
        weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}["w3"]
        return SimpleNamespace(
            source=source,
            bundle=tmp_path / "e.fcam",
            manifest=manifest,
            given=given.astype(np.float64).ravel(),
            probabilities=probabilities(made["logits"][0], manifest.ending),
            gradient=made["gradients"][0].astype(np.float64),
            weights=weights.astype(np.float64),
        )

    return explain


def same_direction(gradient, weights, sign=1):
    """Whether Grad-CAM of a gradient is relu(sum_k w_k A_k) but for its scale, which no map keeps."""
    found = gradient.mean(axis=(1, 2))
    return np.allclose(found / np.linalg.norm(found), sign * weights / np.linalg.norm(weights), atol=2e-3)


def as_given(found):
    """What the source gives, as probabilities."""
    source = found.manifest.source
    given = found.given / source.scale
    return np.exp(given) if source.logarithm else given


@pytest.mark.parametrize("name", [*SOFTMAX, *SIGMOID, *AGAINST])
def test_logits_are_reached(name, explained):
    found = explained((SOFTMAX | SIGMOID | AGAINST)[name], 2)
    kind = "softmax" if name in SOFTMAX else "sigmoid"
    source = found.manifest.source
    assert (found.manifest.ending, source.ending, source.reach) == (kind, kind, "reached")
    scale = {"quantised": 256, "less_log": -1}.get(name, 100 if "percent" in name else 1)
    assert source.scale == pytest.approx(scale)
    assert source.logarithm == (name.startswith(("log", "less_log")))
    assert np.allclose(found.probabilities, as_given(found), atol=2e-6 + source.rounding / source.scale)
    assert same_direction(found.gradient, found.weights[:, 2], -1 if name in AGAINST else 1)


TEMPERED = {
    "log_softmax": "l = LogSoftmax <axis = 1> (z) t = Div (l, n3) y = Softmax <axis = 1> (t)",
    "log_of_softmax": "p = Softmax <axis = 1> (z) l = Log (p) t = Mul (n0_5, l) y = Softmax <axis = 1> (t)",
    "twice": "l = LogSoftmax <axis = 1> (z) t = Div (l, n3) u = Mul (t, n2) y = LogSoftmax <axis = 1> (u)",
    "written_out": f"e = Exp (z) s = {SUM} (e, class_axis) p = Div (e, s) l = Log (p) t = Div (l, n2) "
    "y = Softmax <axis = 1> (t)",
}


@pytest.mark.parametrize("name", TEMPERED)
def test_a_temperature_after_the_logarithm_of_a_softmax(name, explained):
    found = explained(TEMPERED[name], 2)
    assert (found.manifest.ending, found.manifest.source.reach) == ("softmax", "reached")
    assert np.allclose(found.probabilities, as_given(found), atol=2e-6)
    assert same_direction(found.gradient, found.weights[:, 2])
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
        assert np.allclose(found.probabilities, as_given(found), atol=2e-3 if name == "bfloat16" else 5e-4)
    assert same_direction(found.gradient, found.weights[:, 2])
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
    assert np.allclose(found.probabilities, as_given(found), atol=2e-6)
    assert same_direction(found.gradient, found.weights[:, 1])
    assert all(f.ok for f in check(found.bundle))


FORMS = {"half": {"dtype": TensorProto.FLOAT16}, "batch_of_1": {"batch": 1}, "batch_of_2": {"batch": 2}}
ALSO = (
    *("exp_of_log_softmax", "less_the_greatest", "by_log_sum_exp", "percent", "normalised_sigmoids", "hard_sigmoid"),
    "transposed",
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ALSO)
def test_in_other_forms(name, form, ending, tmp_path, run):
    source = ending((SOFTMAX | SIGMOID)[name], **FORMS[form])
    manifest = export_model(source, tmp_path / "e.fcam", preprocessing="unit")
    assert manifest.source.reach == "reached"
    assert all(f.ok for f in check(tmp_path / "e.fcam"))
    feeds = {"image": pictures(manifest, 1), "class_index": np.array([2])}
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(source).graph.initializer}["w3"]
    assert same_direction(run(tmp_path / "e.fcam" / EXPLAIN_GRAPH, feeds)["gradients"][0], weights[:, 2].astype(float))


@pytest.mark.parametrize("name", OUT_OF_REACH)
def test_logits_are_out_of_reach(name, explained):
    kind, text = OUT_OF_REACH[name]
    found = explained(text, 1 if name == "cut" else -1)
    source = found.manifest.source
    assert (found.manifest.ending, source.ending, source.reach) == (kind, kind, "out_of_reach")
    assert np.allclose(found.probabilities, as_given(found), atol=2e-6)
    assert np.abs(found.gradient).max() > 0
    assert all(f.ok for f in check(found.bundle))


@pytest.mark.parametrize("name", LOGITS)
def test_what_is_logits_stays_logits(name, explained):
    found = explained(LOGITS[name], 2)
    source = found.manifest.source
    assert (found.manifest.ending, source.ending, source.reach) == ("logits", "logits", "reached")
    assert same_direction(found.gradient, found.weights[:, 2])


@pytest.mark.parametrize(
    "text",
    ["s = Mul (z, n0_1) t = Add (s, n0_1) y = Clip (t, n0, n1)", "s = Sin (z) t = Mul (s, n0_5) y = Add (t, n0_5)"],
)
def test_outputs_within_0_and_1_are_doubtful(text, explained):
    found = explained(text, 2)
    assert (found.manifest.ending, found.manifest.source.reach) == ("logits", "doubtful")


PAIRS = {
    "p_and_1_less_p": ("p = Sigmoid (z) q = Sub (n1, p) y = Concat <axis = 1> (p, q)", -1),
    "1_less_p_and_p": ("p = Sigmoid (z) q = Sub (n1, p) y = Concat <axis = 1> (q, p)", 1),
    "in_percent": ("p = Sigmoid (z) q = Sub (n1, p) r = Concat <axis = 1> (q, p) y = Mul (r, n100)", 1),
    "softmax_of_0_and_z": ("n = Mul (z, n0) c = Concat <axis = 1> (n, z) y = Softmax <axis = 1> (c)", 1),
}


@pytest.mark.parametrize("name", PAIRS)
def test_two_outputs_of_one_logit(name, explained):
    text, sign = PAIRS[name]
    for c in (0, 1):
        found = explained(text, c, classes=1)
        source = found.manifest.source
        assert (found.manifest.classes, found.manifest.ending, source.outputs) == (2, "sigmoid", 2)
        assert np.allclose(found.probabilities, as_given(found), atol=1e-6)
        assert same_direction(found.gradient, found.weights[:, 0], sign if c else -sign), "either has its own evidence"
    assert all(f.ok for f in check(found.bundle))


SINGLES = {
    "percent": ("p = Sigmoid (z) y = Mul (p, n100)", 1, 1),
    "against": ("p = Sigmoid (z) y = Sub (n1, p)", 1, -1),
    "by_tanh": ("t = Tanh (z) u = Add (t, n1) y = Div (u, n2)", 1, 1),
    "hard": ("y = HardSigmoid (z)", 1, 1),
    "second_of_two": ("p = Softmax <axis = 1> (z) y = Gather <axis = 1> (p, from_1)", 2, 1),
}


@pytest.mark.parametrize("name", SINGLES)
def test_one_output_of_a_sigmoid(name, explained):
    text, classes, sign = SINGLES[name]
    found = explained(text, 1, classes=classes)
    source, weights = found.manifest.source, found.weights
    assert (found.manifest.classes, found.manifest.ending, source.ending, source.outputs) == (
        2,
        "sigmoid",
        "sigmoid",
        1,
    )
    assert found.probabilities[1] == pytest.approx(as_given(found)[0], abs=2e-6)
    assert same_direction(found.gradient, weights[:, 1] - weights[:, 0] if classes == 2 else weights[:, 0], sign)


SATURATED = ("log", "log_of_clipped", "percent", "quantised", "written_out", "exp_of_log_softmax")


@pytest.mark.parametrize("name", SATURATED)
def test_probabilities_of_0_and_1(name, explained):
    text = SOFTMAX[name].replace("(z)", "(x)").replace("(z, ", "(x, ")
    found = explained(f"x = Mul (z, n6) {text}", 2)
    assert found.manifest.source.reach == "reached"
    assert same_direction(found.gradient, found.weights[:, 2])


def test_a_saturated_hard_sigmoid_has_a_gradient(explained):
    found = explained("w = Mul (z, n100) y = HardSigmoid (w)", int(np.arange(5)[2]))
    assert set(found.given) <= {0.0, 1.0}
    assert np.allclose(found.probabilities, found.given, atol=2e-6)
    assert same_direction(found.gradient, found.weights[:, 2])


@pytest.mark.parametrize("ending_of", ["softmax", "sigmoid", "value"])
@pytest.mark.parametrize("name", ["percent", "mean", "hard_sigmoid"])
def test_what_the_user_says_wins(name, ending_of, explained):
    text = (SOFTMAX | SIGMOID).get(name) or OUT_OF_REACH[name][1]
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
def test_in_other_graphs(name, options, ending, tmp_path):
    text = SIGMOID.get(name) or OUT_OF_REACH[name][1]
    export_model(ending(text, size=(24, 32)), tmp_path / "e.fcam", preprocessing="unit", **options)
    assert all(f.ok for f in check(tmp_path / "e.fcam"))


TEXTS = {
    "softmax": "softmax",
    "log_softmax": "softmax",
    "written_out": "softmax, written as Exp / Sum / Div",
    "less_the_greatest": "softmax, written as Max / Sub / Exp / Sum / Div",
    "exp_of_log_softmax": "softmax, written as LogSoftmax / Exp",
    "normalised_sigmoids": "softmax, written as Sigmoid / Sum / Div",
    "hard_sigmoid": "sigmoid, written as HardSigmoid",
    "mean": "probabilities whose logits are out of reach: log p is explained",
    "product_of_sigmoids": "probabilities, each by itself, whose logits are out of reach: log p / (1 - p) is explained",
    "bare": "logits",
}


@pytest.mark.parametrize("name", TEXTS)
def test_it_is_named(name, ending):
    text = (SOFTMAX | SIGMOID | LOGITS).get(name) or OUT_OF_REACH[name][1]
    assert canonicalize(ending(text)).source.text == TEXTS[name]


def test_a_softmax_of_one_number_is_taken_for_a_sigmoid_where_the_user_says_so(explained):
    found = explained("y = Softmax <axis = 1> (z)", 1, {"ending": "sigmoid"}, classes=1)
    assert found.manifest.ending == "sigmoid"
    assert same_direction(found.gradient, found.weights[:, 0])
