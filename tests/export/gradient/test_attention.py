import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch.nn.functional import scaled_dot_product_attention as attend

from fusioncam.export import check as check_bundle
from fusioncam.export import export_model

Q, K, V = ("N", 4, 5, 3), ("N", 4, 6, 3), ("N", 4, 6, 2)
FLAT = [("N", 5, 12), ("N", 6, 12), ("N", 6, 8)]
GROUPED = [Q, ("N", 2, 6, 3), ("N", 2, 6, 2)]
SEEN = np.random.default_rng(0).random((5, 6)) < 0.6
SEEN[1] = False
MASK = np.where(SEEN, np.random.default_rng(1).normal(size=(5, 6)), -np.inf)
# Masks that the model computes; its second query sees no key.
BOOLEAN = """agraph (float[N,4,5,3] q, float[N,4,6,3] k, float[N,4,6,2] v, float[N,1,5,6] m) => (float y)
    <float zero = {0}, float[5,1] shift = {9, -9, 9, 0, 0}>
    {n = Add (m, shift) b = Less (zero, n) y = Attention (q, k, v, b)}"""
NUMBERS = (
    BOOLEAN.replace("<float", "<float low = {-inf}, float")
    .replace("y =", "w = Where (b, m, low) y =")
    .replace(", b)}", ", w)}")
)
# One gradient goes to both.
SUM = """agraph (float[N,4,5,3] q, float[N,4,6,3] k, float[N,4,6,2] v) => (float y)
    {a = Attention (q, k, v) b = Attention <scale = 2.0> (q, k, v) y = Add (a, b)}"""


def heads(n):
    return {"q_num_heads": n, "kv_num_heads": n}


def flat(n, shared=None, **options):
    def function(*arrays):
        parts = [
            a.unflatten(-1, (h, -1)).transpose(1, 2) for a, h in zip(arrays, (n, shared or n, shared or n), strict=True)
        ]
        return attend(*parts, enable_gqa=shared is not None, **options).transpose(1, 2).flatten(2)

    return function


def two(q, k, v):
    return attend(q, k, v) + attend(q, k, v, scale=2.0)


def capped(q, k, v):
    scores = 2 * torch.tanh(q @ k.mT / 3**0.5 / 2)
    return torch.softmax(scores, -1) @ v


def seen(q, k, v, m):
    return attend(q, k, v, torch.tensor([9.0, -9, 9, 0, 0]).to(m).unsqueeze(1) + m > 0)


def biased(q, k, v, m):
    hidden = torch.tensor([9.0, -9, 9, 0, 0]).to(m).unsqueeze(1) + m <= 0
    return attend(q, k, v, m.masked_fill(hidden, -torch.inf))


def case(name, attributes, inputs, function, *inner, **options):
    """A case for each of some inputs to differentiate by."""
    return [
        (f"{name}-{'qkvm'[i]}", "Attention", attributes, inputs, function, {"opset": 23, "wrt": i, **options})
        for i in inner or (0, 1, 2)
    ]


CASES = [
    *case("attention", {}, [Q, K, V], attend),
    *case("attention-flat", heads(4), FLAT, flat(4)),
    *case("attention-grouped", {}, GROUPED, lambda *x: attend(*x, enable_gqa=True)),
    *case(
        *("attention-grouped-flat", {"q_num_heads": 4, "kv_num_heads": 2}),
        *([FLAT[0], ("N", 6, 6), ("N", 6, 4)], flat(4, 2)),
    ),
    *case("attention-causal", {"is_causal": 1}, [Q, K, V], lambda *x: attend(*x, is_causal=True)),
    *case("attention-scale", {"scale": 0.3}, [Q, K, V], lambda *x: attend(*x, scale=0.3), 0, 1),
    *case("attention-scale-one", {"scale": 1.0}, [Q, K, V], lambda *x: attend(*x, scale=1.0), 0),
    *case("attention-softcap", {"softcap": 2.0}, [Q, K, V], capped),
    *case("attention-seen", {}, [Q, K, V, SEEN], attend),
    *case("attention-masked", {}, [Q, K, V, MASK], attend),
    *case("attention-biased", {}, [Q, K, V, (4, 5, 6)], attend, 0),
    *case("attention-mask", {}, [Q, K, V, ("N", 4, 5, 6)], attend, 0, 3),
    *case("attention-mask-heads", {}, [Q, K, V, ("N", 1, 5, 6)], attend, 3),
    *case("attention-mask-grouped", {}, [*GROUPED, ("N", 4, 5, 6)], lambda *x: attend(*x, enable_gqa=True), 1, 3),
    *case("attention-half", {}, [Q, K, V], attend, dtype=np.float16),
    *((f"attention-sum-{i}", SUM, {}, None, two, {"opset": 23, "wrt": i}) for i in range(3)),
    *((f"attention-boolean-{'qkv'[i]}", BOOLEAN, {}, None, seen, {"opset": 23, "wrt": i}) for i in (0, 1, 2)),
    *((f"attention-numbers-{'qkvm'[i]}", NUMBERS, {}, None, biased, {"opset": 23, "wrt": i}) for i in range(4)),
]


def test_attention(case, check):
    check(*case)


# Its first token answers alone, by attention to all others.
TRANSFORMER = """agraph (float[N,3,16,16] x) => (float[N,5] y)
    <int64[3] rows = {0, 8, 16}, float[8] ones = {1, 1, 1, 1, 1, 1, 1, 1}, int64 first = {0}>
    {c = Conv <strides = [4, 4]> (x, patch) r = Reshape (c, rows) t = Transpose <perm = [0, 2, 1]> (r)
    n = LayerNormalization (t, ones) qkv = MatMul (n, weight) q, k, v = Split <axis = 2, num_outputs = 3> (qkv)
    a = Attention <q_num_heads = 2, kv_num_heads = 2> (q, k, v) s = Gather <axis = 1> (a, first)
    y = MatMul (s, head)}"""


def test_transformer(harness, tmp_path):
    """A transformer as torch writes it from opset 23 on gets a layer before its attention, which stays fused."""
    model, rng = harness.parse(TRANSFORMER, opset=23), np.random.default_rng(0)
    for name, shape in {"patch": (8, 3, 4, 4), "weight": (8, 24), "head": (8, 5)}.items():
        model.graph.initializer.append(numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    onnx.save(model, tmp_path / "model.onnx")
    manifest = export_model(tmp_path / "model.onnx", tmp_path / "m.fcam")
    assert (manifest.layer.name, manifest.layer.grid, manifest.gradient) == ("qkv", (4, 4), True)
    operators = [
        n.op_type for n in onnx.load(tmp_path / "m.fcam" / "explain.onnx", load_external_data=False).graph.node
    ]
    assert operators.count("Attention") == 1
    assert [f.what for f in check_bundle(tmp_path / "m.fcam") if not f.ok] == []
