"""onnxruntime's fused operators are written in ONNX's own: the numbers are the source's, no other domain is left."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.export import check, export_model
from fusioncam.export.gradient import operator_name
from fusioncam.export.gradient.walk import unsupported
from fusioncam.export.reading.load import load_converted

CONTRIB = "com.microsoft"
RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


X, TOKENS, ROWS = normal(2, 3, 6, 5), normal(2, 4, 8), normal(4, 6)
SELF = {"num_heads": 2}
MASK = np.array([[1, 1, 0, 1], [1, 0, 1, 1]], np.int32)
WEIGHTS, BIAS = normal(8, 24) * 0.3, normal(24) * 0.3
WIDE, BYTES = normal(2, 4, 40), RNG.integers(0, 256, (6, 4, 16)).astype(np.uint8)
NBITS, BNB4 = {"N": 5, "K": 40, "bits": 4, "block_size": 16}, {"N": 5, "K": 40, "block_size": 16}
# Operator, its attributes, its inputs (None is left out), by default one output.
CASES = {
    "conv": ("FusedConv", {"activation": "Relu", "pads": [1] * 4}, [X, normal(4, 3, 3, 3), normal(4)]),
    "conv_leaky": (
        "FusedConv", {"activation": "LeakyRelu", "activation_params": [0.2]}, [X, normal(4, 3, 3, 3), None],
    ),
    "conv_clip": (
        "FusedConv", {"activation": "Clip", "activation_params": [0.0, 1.0]}, [X, normal(4, 3, 1, 1), normal(4)],
    ),
    "conv_hard": (
        "FusedConv", {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}, [X, normal(4, 3, 1, 1)],
    ),
    "conv_sum": ("FusedConv", {"activation": "Relu"}, [X, normal(4, 3, 1, 1), normal(4), normal(2, 4, 6, 5)]),
    "gemm": (
        "FusedGemm", {"activation": "LeakyRelu", "activation_alpha": 0.1, "transB": 1, "alpha": 0.5},
        [ROWS, normal(5, 6), normal(5)],
    ),
    "product": ("FusedMatMul", {"transB": 1, "alpha": 0.25}, [TOKENS, normal(2, 3, 8)]),
    "product_left": ("FusedMatMul", {"transA": 1}, [TOKENS, normal(2, 4, 3)]),
    "product_batch": ("FusedMatMul", {"transBatchA": 1, "transBatchB": 1}, [normal(4, 3, 2, 5), normal(5, 3, 2, 6)]),
    "product_all": (
        "FusedMatMul", {"transA": 1, "transBatchA": 1, "transB": 1}, [normal(3, 2, 4, 5), normal(2, 4, 6, 3)],
    ),
    "product_transposed": ("TransposeMatMul", {"transA": 1}, [normal(2, 4, 5), normal(2, 4, 3)]),
    "gelu": ("Gelu", {}, [TOKENS]),
    "gelu_bias": ("BiasGelu", {}, [TOKENS, normal(8)]),
    "gelu_fast": ("FastGelu", {}, [TOKENS]),
    "gelu_fast_bias": ("FastGelu", {}, [TOKENS, normal(8)]),
    "gelu_quick": ("QuickGelu", {}, [TOKENS]),
    "gelu_quick_alpha": ("QuickGelu", {"alpha": 1.0}, [TOKENS]),
    "skip": ("SkipLayerNormalization", {"epsilon": 1e-5}, [TOKENS, normal(2, 4, 8), normal(8), normal(8)]),
    "skip_bias": ("SkipLayerNormalization", {}, [TOKENS, normal(2, 4, 8), normal(8), None, normal(8)], 4),
    "skip_simple": ("SkipSimplifiedLayerNormalization", {}, [TOKENS, normal(2, 4, 8), normal(8)]),
    "skip_simple_bias": ("SkipSimplifiedLayerNormalization", {}, [TOKENS, normal(2, 4, 8), normal(8), normal(8)], 4),
    "simple": (".SimplifiedLayerNormalization", {"epsilon": 1e-3}, [TOKENS, normal(8)]),
    "attention": ("Attention", SELF, [TOKENS, WEIGHTS, BIAS]),
    "attention_sizes": (
        "Attention", {**SELF, "qkv_hidden_sizes": [8, 8, 4], "scale": 0.3}, [TOKENS, WEIGHTS[:, :20], BIAS[:20]],
    ),
    "attention_masked": ("Attention", SELF, [TOKENS, WEIGHTS, BIAS, MASK]),
    "attention_biased": ("Attention", SELF, [TOKENS, WEIGHTS, BIAS, None, None, normal(1, 2, 4, 4)]),
    "attention_causal": ("Attention", {**SELF, "unidirectional": 1}, [TOKENS, WEIGHTS, BIAS]),
    "heads": ("MultiHeadAttention", SELF, [TOKENS, normal(2, 5, 8), normal(2, 5, 8)]),
    "heads_bias": ("MultiHeadAttention", SELF, [TOKENS, normal(2, 5, 8), normal(2, 5, 4), normal(20)]),
    "heads_apart": ("MultiHeadAttention", SELF, [TOKENS, normal(2, 2, 5, 4), normal(2, 2, 5, 4)]),
    "heads_added": (
        "MultiHeadAttention", {**SELF, "scale": 0.2},
        [TOKENS, normal(2, 4, 8), normal(2, 4, 8), None, MASK, normal(1, 2, 4, 4)],
    ),
    "trilu": ("Trilu", {"upper": 0}, [normal(4, 5)]),
    "pad": ("Pad", {}, [normal(4, 5), np.array([0, 1, 0, 2]), np.float32(0.5)]),
    "grid": ("GridSample", {"mode": "bilinear", "padding_mode": "border"}, [X, np.tanh(normal(2, 4, 4, 2))]),
    "expand": ("ExpandDims", {}, [TOKENS, np.array(1, np.int32)]),
    "distances": ("CDist", {"metric": "euclidean"}, [ROWS, normal(5, 6)]),
    "distances_squared": ("CDist", {}, [ROWS, normal(5, 6)]),
    "bits": ("MatMulNBits", NBITS, [WIDE, BYTES[:5, :3, :8], normal(15)]),
    "bits_zero": ("MatMulNBits", NBITS, [WIDE, BYTES[:5, :3, :8], normal(15), BYTES[:5, 0, :2].ravel()]),
    "bits_bias": ("MatMulNBits", {**NBITS, "bits": 8}, [WIDE, BYTES[:5, :3, :16], normal(15), None, None, normal(5)]),
    "bits_float_zero": ("MatMulNBits", NBITS, [WIDE, BYTES[:5, :3, :8], normal(15), normal(5, 3)]),
    "fp4": ("MatMulBnb4", {**BNB4, "quant_type": 0}, [WIDE, BYTES.ravel()[:100], normal(13)]),
    "nf4": ("MatMulBnb4", {**BNB4, "quant_type": 1}, [WIDE, BYTES.ravel()[:100], normal(13)]),
    "nhwc_pool": ("NhwcMaxPool", {"kernel_shape": [2, 2]}, [RNG.integers(0, 255, (2, 6, 5, 3)).astype(np.uint8)]),
}  # fmt: skip


def saved(path, kind, attributes, inputs, count=1, opset=17):
    """A model of one node, whose first input is fed."""
    domain, name = ("", kind[1:]) if kind.startswith(".") else (CONTRIB, kind)
    names = ["" if value is None else f"x{i}" for i, value in enumerate(inputs)]
    outputs = ["y", "", "", "total"][:count]
    node = helper.make_node(name, names, outputs, "node", domain=domain, **attributes)
    constants = [numpy_helper.from_array(v, n) for n, v in zip(names, inputs, strict=True) if n not in ("", "x0")]
    x = helper.make_tensor_value_info("x0", helper.np_dtype_to_tensor_dtype(inputs[0].dtype), inputs[0].shape)
    whole = TensorProto.UINT8 if inputs[0].dtype == np.uint8 else TensorProto.FLOAT
    made = [helper.make_tensor_value_info(o, whole, None) for o in outputs if o]
    domains = [helper.make_opsetid("", opset), helper.make_opsetid(CONTRIB, 1)]
    graph = helper.make_graph([node], "one", [x], made, constants)
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)


def outputs_of(model, x):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, {"x0": x})


@pytest.mark.parametrize("name", CASES)
def test_numbers_are_the_same(name, tmp_path):
    kind, attributes, inputs, *count = CASES[name]
    path = tmp_path / "fused.onnx"
    saved(path, kind, attributes, inputs, *count)
    model, conversion = load_converted(path)
    assert conversion is not None
    assert {node.domain for node in model.graph} == {""}
    wanted, found = (outputs_of(m, inputs[0]) for m in (path, ir.to_proto(model).SerializeToString()))
    for one, other in zip(wanted, found, strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other, rtol=1e-5, atol=1e-5)


REFUSED = {
    "past": ("Attention", SELF, [TOKENS, WEIGHTS, BIAS, None, normal(2, 2, 2, 3, 4)]),
    "lengths": ("Attention", SELF, [TOKENS, WEIGHTS, BIAS, np.array([4, 3], np.int32)]),
    "total": ("MultiHeadAttention", SELF, [normal(2, 4, 2, 3, 4), None, None, BIAS]),
    "bytes": ("MatMulNBits", {**NBITS, "accuracy_level": 4}, [WIDE, BYTES[:5, :3, :8], normal(15)]),
    "other": ("Inverse", {}, [normal(2, 3, 3)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_stays_is_named_with_its_domain(name, tmp_path):
    kind, attributes, inputs, *count = REFUSED[name]
    saved(tmp_path / "fused.onnx", kind, attributes, inputs, *count)
    model, _ = load_converted(tmp_path / "fused.onnx")
    (node,) = unsupported(model.graph)
    assert operator_name(node) == f"com.microsoft.{kind}"


FOLDS = {"ORT_ENABLE_EXTENDED": "FusedConv", "ORT_ENABLE_ALL": "com.microsoft.nchwc"}


@pytest.mark.parametrize("level", FOLDS)
def test_saved_by_onnxruntime(level, network, run, tmp_path):
    source, saved = network, tmp_path / "optimised.onnx"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.optimized_model_filepath = str(saved)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    assert any(FOLDS[level] in (n.op_type, n.domain) for n in onnx.load(saved).graph.node)
    bundles, layers = [tmp_path / "a.fcam", tmp_path / "b.fcam"], []
    for path, bundle in zip((source, saved), bundles, strict=True):
        layers.append(export_model(path, bundle, preprocessing="unit").layer)
        assert [f for f in check(bundle) if not f.ok] == []
    assert layers[0].shape == layers[1].shape
    feeds = {"image": np.random.default_rng(0).random((1, 3, 24, 20), np.float32), "class_index": np.array([2])}
    plain, fused = (run(bundle / "explain.onnx", feeds) for bundle in bundles)
    for name in ("logits", "activations", "gradients"):
        assert np.abs(plain[name] - fused[name]).max() <= 1e-5 * np.abs(plain[name]).max()
    export_model(saved, tmp_path / "c.fcam", gradient=False)


# Channels that are no whole blocks, a convolution of the picture, of channels alone, of groups, a residual, a pool, a
# shape that is computed.
NETWORK = """<ir_version: 8, opset_import: ["": 17]>
net (float[N, 3, 24, 20] image) => (float[N, 5] scores) {
    c1 = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
    r1 = Relu (c1)
    p1 = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (r1)
    s1 = Shape (p1)
    whole = Slice (s1, one, four)
    rows = Concat <axis = 0> (minus, whole)
    q1 = Reshape (p1, rows)
    c2 = Conv (q1, w2, b2)
    r2 = Clip (c2, zero, six)
    c3 = Conv <group = 48, pads = [1, 1, 1, 1]> (r2, w3, b3)
    r3 = Clip (c3, zero, six)
    c4 = Conv (r3, w4, b4)
    a4 = Add (c4, q1)
    c5 = Conv <pads = [1, 1, 1, 1]> (a4, w5, b5)
    s5 = Sigmoid (c5)
    m5 = Mul (c5, s5)
    c6 = Conv <group = 2, strides = [2, 2]> (m5, w6, b6)
    r6 = LeakyRelu <alpha = 0.1> (c6)
    joined = Concat <axis = 1> (r6, r6)
    c7 = Conv (joined, w7, b7)
    r7 = Relu (c7)
    p = GlobalAveragePool (r7)
    f = Flatten (p)
    scores = Gemm <transB = 1> (f, w8, b8)
}"""
SHAPES = [
    (20, 3, 3, 3),
    (48, 20, 1, 1),
    (48, 1, 3, 3),
    (20, 48, 1, 1),
    (32, 20, 3, 3),
    (32, 16, 1, 1),
    (24, 64, 1, 1),
    (5, 24),
]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    rng, model = np.random.default_rng(1), onnx.parser.parse_model(NETWORK)
    tensors = {f"w{i}": rng.normal(0, 1.2 / np.sqrt(np.prod(shape[1:])), shape) for i, shape in enumerate(SHAPES, 1)}
    tensors |= {f"b{i}": rng.normal(0, 0.2, shape[0]) for i, shape in enumerate(SHAPES, 1)}
    tensors |= {"zero": 0.0, "six": 6.0}
    for name, value in {"minus": [-1], "one": [1], "four": [4]}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    for name, value in tensors.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    path = tmp_path_factory.mktemp("contrib") / "network.onnx"
    onnx.save(model, path)
    return path
