import math

import numpy as np
import pytest
import torch
import torch.nn.functional as fn

X = ("N", 6, 5, 4)
HALF = {"dtype": np.float16}
RNG = np.random.default_rng(0)
SCALE, BIAS, MEAN = RNG.normal(size=(3, 6))
VARIANCE = RNG.random(6) + 0.1
STATISTICS = [SCALE, BIAS, MEAN, VARIANCE]


def batch_norm(epsilon=1e-5):
    return lambda x, w, b, m, v: fn.batch_norm(x, m, v, w, b, eps=epsilon)


def layer_norm(axis=-1, epsilon=1e-5):
    return lambda x, w, b=None: fn.layer_norm(x, x.shape[axis:], w, b, epsilon)


def rms_norm(axis=-1, epsilon=1e-5):
    return lambda x, w: fn.rms_norm(x, x.shape[axis:], w, epsilon)


def instance_norm(epsilon=1e-5):
    return lambda x, w, b: fn.instance_norm(x, weight=w, bias=b, eps=epsilon)


def group_norm(groups):
    def function(x, w, b):
        w, b = (t.repeat_interleave(x.shape[1] // len(t)) for t in (w, b))
        return fn.group_norm(x, groups, w, b)

    return function


def lrn(size, alpha=1e-4, beta=0.75, bias=1.0):
    def function(x):
        before, after = math.floor((size - 1) / 2), math.ceil((size - 1) / 2)
        squares = fn.pad(x * x, (0, 0) * (x.ndim - 2) + (before, after))
        total = sum(squares[:, i : i + x.shape[1]] for i in range(size))
        return x / (bias + alpha / size * total) ** beta

    return function


def standardised(x, axes, epsilon=1e-5):
    deviation = (x.var(axes, correction=0, keepdim=True) + epsilon).sqrt()
    return (x - x.mean(axes, keepdim=True)) / deviation, deviation


def weighted(normal):
    """A normalisation with the scales and biases of the channels, by its first input."""

    def function(x, w, b):
        return normal(x) * w.reshape(-1, 1, 1) + b.reshape(-1, 1, 1)

    return function


def batch_norm_by(x, w, b, m, v):
    w, b, m, v = (t.reshape(-1, 1, 1) for t in (w, b, m, v.abs() + 0.5))
    return w * (x - m) / (v + 1e-5).sqrt() + b


def reported(x):
    _, deviation = standardised(x, (2, 3))
    return x.mean((2, 3), keepdim=True).sin() + 3 / deviation


def of_channels(op, opset=18, channels=6):
    """The operator with scales and biases that are no constants, as a hypernetwork makes them."""
    return f"agraph (float[N,6,5,4] x, float[{channels}] w, float[{channels}] b) => (float y) {{y = {op} (x, w, b)}}"


BATCH_NORM = """agraph (float[N,6,5,4] x, float[6] w, float[6] b, float[6] m, float[6] u) => (float y)
    <float half = {0.5}>
    {a = Abs(u) v = Add(a, half) y = BatchNormalization(x, w, b, m, v)}"""
REPORTED = """agraph (float[N,6,5,4] x) => (float y) <float[5,4] s = {SCALES}, float three = {3}>
    {n, m, i = LayerNormalization<axis = 2>(x, s) a = Sin(m) b = Mul(three, i) y = Add(a, b)}""".replace(
    "SCALES", ", ".join("1" for _ in range(20))
)
LAYER_NORM = """agraph (float[N,6,5,4] x, float[5,1] w, float[5,4] b) => (float y)
    {y = LayerNormalization<axis = 2>(x, w, b)}"""
STRONG = {"alpha": 0.9, "beta": 0.6, "bias": 1.5}
CASES = [
    ("batch", "BatchNormalization", {}, [X, *STATISTICS], batch_norm()),
    ("batch-epsilon", "BatchNormalization", {"epsilon": 0.1}, [X, *STATISTICS], batch_norm(0.1)),
    ("batch-of-vectors", "BatchNormalization", {}, [("N", 6), *STATISTICS], batch_norm()),
    ("batch-3d", "BatchNormalization", {}, [("N", 6, 2, 3, 2), *STATISTICS], batch_norm()),
    ("batch-half", "BatchNormalization", {}, [X, *STATISTICS], batch_norm(), HALF),
    ("layer", "LayerNormalization", {}, [X, (4,), (4,)], layer_norm()),
    ("layer-no-bias", "LayerNormalization", {"epsilon": 0.1}, [X, (4,)], layer_norm(epsilon=0.1)),
    ("layer-1", "LayerNormalization", {"axis": 1}, [X, (6, 5, 4), (6, 5, 4)], layer_norm(1)),
    ("layer-minus-2", "LayerNormalization", {"axis": -2}, [X, (5, 4), (5, 4)], layer_norm(-2)),
    ("layer-far-off", "LayerNormalization", {}, [X, (4,), (4,)], layer_norm(), {"at": lambda x: x + 20}),
    ("layer-half", "LayerNormalization", {}, [X, (4,), (4,)], layer_norm(), HALF),
    ("layer-half-large", "LayerNormalization", {}, [X, (4,), (4,)], layer_norm(), {**HALF, "at": lambda x: 300 * x}),
    ("rms", "RMSNormalization", {}, [X, (4,)], rms_norm(), {"opset": 23}),
    ("rms-axis", "RMSNormalization", {"axis": 2}, [X, (5, 4)], rms_norm(2), {"opset": 23}),
    ("instance", "InstanceNormalization", {}, [X, SCALE, BIAS], instance_norm()),
    ("instance-1d", "InstanceNormalization", {"epsilon": 0.1}, [("N", 6, 7), SCALE, BIAS], instance_norm(0.1)),
    ("instance-half", "InstanceNormalization", {}, [X, SCALE, BIAS], instance_norm(), HALF),
    # One scale per group: ONNX's checker takes this form no more, onnxruntime does.
    ("group-18", "GroupNormalization", {"num_groups": 3}, [X, (3,), (3,)], group_norm(3), {"checked": False}),
    ("group-21", "GroupNormalization", {"num_groups": 3}, [X, (6,), (6,)], group_norm(3), {"opset": 21}),
    ("group-of-all", "GroupNormalization", {"num_groups": 1}, [X, (6,), (6,)], group_norm(1), {"opset": 21}),
    ("group-half", "GroupNormalization", {"num_groups": 3}, [X, (6,), (6,)], group_norm(3), {**HALF, "opset": 21}),
    *(
        (f"layer-by-{name}", LAYER_NORM, {}, None, lambda x, w, b: standardised(x, (2, 3))[0] * w + b, {"wrt": i})
        for i, name in enumerate(("data", "scale", "bias"))
    ),
    ("layer-reported", REPORTED, {}, None, reported),
    *(
        (f"batch-by-{name}", BATCH_NORM, {}, None, batch_norm_by, {"wrt": i})
        for i, name in enumerate(("data", "scale", "bias", "mean", "variance"))
    ),
    *(
        (
            f"{kind}-by-{name}",
            of_channels(op),
            {},
            None,
            weighted(lambda x: standardised(x, (2, 3))[0]),
            {"wrt": i},
        )
        for kind, op in (("instance", "InstanceNormalization"),)
        for i, name in enumerate(("data", "scale", "bias"))
    ),
    *(
        (
            f"group-{opset}-by-{name}",
            of_channels("GroupNormalization<num_groups = 3>", channels=of),
            {},
            None,
            group_norm(3),
            {"wrt": i, "opset": opset, "checked": opset > 18},
        )
        for opset, of in ((18, 3), (21, 6))
        for i, name in enumerate(("data", "scale", "bias"))
    ),
    ("mvn", "MeanVarianceNormalization", {"axes": [2, 3]}, [X], lambda x: standardised(x, (2, 3), 1e-18)[0]),
    ("lp-2", "LpNormalization", {"axis": 1}, [X], lambda x: fn.normalize(x)),
    ("lp-1", "LpNormalization", {"p": 1}, [X], lambda x: fn.normalize(x, p=1, dim=-1)),
    ("lp-zeros", "LpNormalization", {"axis": 1}, [X], lambda x: fn.normalize(x * 0), {"at": lambda x: x * 0}),
    ("lrn", "LRN", {"size": 5}, [X], lrn(5)),
    ("lrn-torch", "LRN", {"size": 3, "alpha": 0.9}, [X], lambda x: fn.local_response_norm(x, 3, 0.9)),
    ("lrn-odd", "LRN", {"size": 3, **STRONG}, [X], lrn(3, **STRONG)),
    ("lrn-wider-than-channels", "LRN", {"size": 15, **STRONG}, [X], lrn(15, **STRONG)),
    ("lrn-large", "LRN", {"size": 5, "alpha": 1e-4}, [X], lrn(5), {"at": lambda x: 300 * x}),
]


def test_gradient(case, check):
    check(*case)


def test_half_statistics_do_not_overflow(check):
    # A deviation of 1000 squared is beyond float16.
    check("LayerNormalization", {}, [X, (4,)], layer_norm(), {**HALF, "at": lambda x: 1000 * x})


@pytest.mark.parametrize("size", [2, 4, 6])
def test_lrn_of_even_size(size, harness):
    # onnxruntime refuses even sizes and torch centres them otherwise, so the node itself is left out of the run.
    model = harness.differentiate(harness.model_of("LRN", {"size": size, **STRONG}, [X]), "x0")
    model.graph.input.append(model.graph.output[0])
    del model.graph.node[0], model.graph.output[0]
    x, seed = np.random.default_rng(0).normal(size=(2, 3, 6, 5, 4)).astype(np.float32)
    y, expected = harness.torch_gradient(lrn(size, **STRONG), {"x0": x}, "x0", seed, torch.float64)
    got = harness.run(model, {"x0": x, "y": y.astype(np.float32), "seed": seed})["dx"]
    assert harness.error(got, expected) <= 1e-5


def test_batch_normalization_in_training_is_refused(refused):
    text = (
        "agraph (float[N,2,3] x) => (float y) <float[2] s = {1, 2}>"
        "{y, m, v = BatchNormalization<training_mode = 1>(x, s, s, s, s)}"
    )
    assert "training_mode" in refused(text)
