"""An export for TensorRT: what it lacks is written in other operators, or refused by the name of the operator."""

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fusioncam.errors import ModelError
from fusioncam.export import export_model
from fusioncam.export.tensorrt import UNKNOWN, why_refused

NUMBERS = """float half = {0.5}, float[4] halves = {1, 1, 0.5, 0.5}, int8 none = {0}, int8 some = {1}, int64 four = {4},
    bool yes = {1}, int64[1] many = {4000}, int64[1] few = {30}, int64[2] row = {1, -1}, int64[1] last = {3},
    float[1,1,2,2] w = {1, 2, 3, 4}"""
TURNS = """Loop (TRIP, yes, x) <body = b (int64 i, bool before, float[1,1,64,64] u) =>
    (bool on, float[1,1,64,64] v, float[1,1,64,64] o) { v = Tanh (u) o = Neg (v) m = ReduceMax <keepdims = 0> (v)
    on = Less (m, half) }>"""
SCANNED = """first = ReduceMean <keepdims = 0> (x, last) s, y = Scan <num_scan_inputs = 1, scan_input_axes = [AXIS],
    scan_output_axes = [AXIS], body = b (float[1,1,64] u, float[1,1,64] e) => (float[1,1,64] v, float[1,1,64] o)
    { v = Add (u, e) o = Tanh (v) }> (first, x)"""
PAIR = "q = QuantizeLinear (x, half, ZERO) y = DequantizeLinear (q, half, ZERO)"
# Nodes that are refused, and the same in a form that is taken.
USES = {
    "ConvTranspose": (
        "y = ConvTranspose <strides = [2, 2], dilations = [2, 2]> (x, w)",
        "y = ConvTranspose <strides = [2, 2]> (x, w)",
    ),
    "QuantizeLinear": (PAIR.replace("ZERO", "some"), PAIR.replace("ZERO", "none")),
    "Loop": (f"z, y = {TURNS.replace('TRIP', '')}", f"z, y = {TURNS.replace('TRIP', 'four')}"),
    "MaxPool": ("y, i = MaxPool <kernel_shape = [2, 2]> (x)", "y = MaxPool <kernel_shape = [2, 2]> (x)"),
    "Resize": (
        'y = Resize <mode = "linear", antialias = 1> (x, , halves)',
        'y = Resize <mode = "linear"> (x, , halves)',
    ),
    "Scan": (SCANNED.replace("AXIS", "-1"), SCANNED.replace("AXIS", "3")),
    "ScatterElements": (
        'i = ArgMax <axis = 3> (x) u = ReduceMax (x, last) y = ScatterElements <axis = 3, reduction = "add"> (x, i, u)',
        "i = ArgMax <axis = 3> (x) u = ReduceMax (x, last) y = ScatterElements <axis = 3> (x, i, u)",
    ),
    "ScatterND": (
        'i = ArgMax <axis = 3> (x) y = ScatterND <reduction = "max"> (x, i, z)',
        "i = ArgMax <axis = 3> (x) y = ScatterND (x, i, z)",
    ),
    "TopK": ("r = Reshape (x, row) y, i = TopK (r, many)", "r = Reshape (x, row) y, i = TopK (r, few)"),
    "NonZero": ("i = NonZero (x) y = Cast <to = 1> (i)", None),
    "QuickGelu": ("y = com.microsoft.QuickGelu (x)", "y = Gelu (x)"),
}


def parse(body, opset=20):
    text = f"""<ir_version: 9, opset_import: ["" : {opset}, "com.microsoft" : 1]>
        m (float[1,1,64,64] x, float[1,1,64,1,64,64] z) => (float y) <{NUMBERS}> {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    if not any("z" in node.input for node in model.graph.node):
        del model.graph.input[1]
    return model


def reasons(model):
    found = ir.from_proto(model)
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=False)(found)
    return {node.op_type for node in found.graph.all_nodes() if why_refused(node)}


@pytest.mark.parametrize("op", USES)
def test_a_use_is_refused_as_the_builder_does(op, builder, tmp_path):
    refused, taken = USES[op]
    model = parse(refused)
    onnx.save(model, tmp_path / "refused.onnx")
    assert builder.build(tmp_path / "refused.onnx").refusal
    assert op in reasons(model)
    if taken is not None:
        model = parse(taken)
        onnx.save(model, tmp_path / "taken.onnx")
        assert builder.build(tmp_path / "taken.onnx").refusal is None
        assert reasons(model) == set()


def test_operators_that_the_parser_does_not_know(builder):
    assert builder.knows(UNKNOWN) == ["NonZero"]


def network(body, opset, **weights):
    """A classifier of pictures (N, 3, 16, 16): a convolution `a`, and what makes five classes of it."""
    text = f"""<ir_version: 10, opset_import: ["" : {opset}]> m (float[N,3,16,16] x) => (float[N,5] y)
        <int64[2] axes = {{2, 3}}, int64[3] tokens = {{0, 8, 256}}>
        {{ c = Conv <pads = [1, 1, 1, 1]> (x, w) a = Relu (c) {body} }}"""
    model, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    for name, shape in {"w": (8, 3, 3, 3), "f": (8, 5), **weights}.items():
        array = (rng.normal(size=shape) / 3).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


ATTENTION = """s = Reshape (a, tokens) t = Transpose <perm = [0, 2, 1]> (s) l = MatMul (t, k)
    h = Attention <q_num_heads = 2, kv_num_heads = 2> (l, t, t) n = Add (h, t) g = ReduceMean <keepdims = 0> (n, one)
    y = MatMul (g, f)"""
SAMPLED = "p = Conv (a, k) r = DeformConv (a, v, p) g = ReduceMean <keepdims = 0> (r, axes) y = MatMul (g, f)"


def test_attention_is_written_in_products(builder, refused, run, tmp_path):
    model = network(ATTENTION, 23, k=(8, 8))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    onnx.save(model, tmp_path / "model.onnx")
    export_model(tmp_path / "model.onnx", tmp_path / "any.fcam")
    export_model(tmp_path / "model.onnx", tmp_path / "rtx.fcam", single_for="tensorrt", single=True)
    graphs = {folder: onnx.load(tmp_path / folder / "explain.onnx").graph for folder in ("any.fcam", "rtx.fcam")}
    assert [any(n.op_type == "Attention" for n in g.node) for g in graphs.values()] == [True, False]
    feeds = {
        "image": np.random.default_rng(1).normal(size=(3, 3, 16, 16)).astype(np.float32),
        "class_index": np.array([-1, 0, 4]),
    }
    ours, theirs = (run(tmp_path / folder / "explain.onnx", feeds) for folder in graphs)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-5)
    assert refused(tmp_path / "rtx.fcam") == []


def test_axes_get_small_letters(refused, tmp_path):
    body = """p = Einsum <equation = "aCH W, CD -> aDHW"> (a, k) g = ReduceMean <keepdims = 0> (p, axes)
        y = MatMul (g, f)"""
    onnx.save(network(body, 18, k=(8, 8)), tmp_path / "model.onnx")
    export_model(tmp_path / "model.onnx", tmp_path / "rtx.fcam", layer="a", single_for="tensorrt")
    assert refused(tmp_path / "rtx.fcam") == []


def test_what_has_no_other_form_is_named(tmp_path):
    onnx.save(network(SAMPLED, 19, k=(2, 8, 1, 1), v=(8, 8, 1, 1)), tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=r"takes no explain\.onnx .*DeformConv \(node 'r'\): it does not know"):
        export_model(tmp_path / "model.onnx", tmp_path / "rtx.fcam", single_for="tensorrt")
    assert not (tmp_path / "rtx.fcam").exists()


class Noise(CalibrationDataReader):
    def __init__(self):
        self.left = [np.random.default_rng(n).normal(size=(1, 3, 16, 16)).astype(np.float32) for n in range(2)]

    def get_next(self):
        return {"x": self.left.pop()} if self.left else None


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator])
def test_biases_of_quantisers_are_real_numbers(form, refused, tmp_path):
    body = "d = Conv (a, v, b) g = ReduceMean <keepdims = 0> (d, axes) e = Gemm (g, f) y = Mul (e, u)"
    onnx.save(network(body, 18, v=(8, 8, 1, 1), b=(8,), u=()), tmp_path / "float.onnx")
    quantize_static(
        tmp_path / "float.onnx", tmp_path / "model.onnx", Noise(), quant_format=form,
        activation_type=QuantType.QInt8, weight_type=QuantType.QInt8, extra_options={"ActivationSymmetric": True},
    )  # fmt: skip
    export_model(tmp_path / "model.onnx", tmp_path / "rtx.fcam", single_for="tensorrt")
    assert refused(tmp_path / "rtx.fcam") == []
