import numpy as np
import torch

Q = np.random.default_rng(0).integers(-100, 100, (2, 6, 4)).astype(np.int8)
NUMBERS = ", ".join(map(str, Q.ravel()))


def dequantize(scale, attributes="", zero=""):
    return (
        f"agraph (float{scale} s) => (float y) <int8[2,6,4] q = {{{NUMBERS}}}{zero and f', int8{scale} z = {zero}'}>"
        f"{{y = DequantizeLinear{attributes}(q, s{zero and ', z'})}}"
    )


def by(spread, zero=0):
    """Each element times its scale, which `spread` lays out."""
    return lambda s: (torch.from_numpy(Q).to(s.dtype) - zero) * spread(s)


CASES = [
    ("dequantize", dequantize(""), {}, None, by(lambda s: s)),
    ("dequantize-one", dequantize("[1]"), {}, None, by(lambda s: s)),
    ("dequantize-axis", dequantize("[6]", "<axis = 1>"), {}, None, by(lambda s: s[:, None])),
    (
        *("dequantize-blocks", dequantize("[2,2,4]", "<axis = 1, block_size = 3>"), {}, None),
        *(by(lambda s: s.repeat_interleave(3, 1)), {"opset": 21}),
    ),
]


def test_gradient(case, check):
    check(*case)


def test_zero_points(harness):
    # TensorRT takes none, neither in the model nor in its gradient.
    model = dequantize("[4]", "<axis = -1>", "{1, 2, 3, 4}")
    harness.check(model, {}, None, by(lambda s: s, torch.arange(1, 5)))


def test_a_pair_is_the_identity_whatever_its_scale(harness):
    # Its scale is that of the data, as dynamic quantisation has it; the data are moved while they are quantised.
    model = harness.parse(
        "agraph (float[N,3] x) => (float y) <float most = {127}>"
        "{a = Abs(x) m = ReduceMax<keepdims = 0>(a) s = Div(m, most)"
        "q = QuantizeLinear(x, s) t = Transpose<perm = [1, 0]>(q) y = DequantizeLinear(t, s)}"
    )
    x, seed = np.random.default_rng(0).normal(size=(2, 2, 3)).astype(np.float32)
    got = harness.run(harness.differentiate(model, "x"), {"x": x, "seed": seed.T})
    np.testing.assert_array_equal(got["dx"], seed)
