"""Operators that ONNX defines by a body become its operators: they compute the same, and have a gradient."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from fusioncam.export.gradient import RULES, Ops, backpropagate
from fusioncam.export.lowering.bodies import mark_bodies
from fusioncam.export.reading.load import load_converted
from fusioncam.export.reading.shapes import measure

PICTURE, HEADS, ROW = "float[N,3,5,6] x", "float[N,2,5,4] x", "float[N,6] x"
CROP = "CenterCropPad <axes = [2, 3]>"
BRANCH = (
    "s = ReduceMax <keepdims = 0> (x) z = Less (s, s) y = If (z) "
    f"<then_branch = a () => (float[N,3,4,4] p) {{ p = {CROP} (x, size) }}, "
    f"else_branch = b () => (float[N,3,4,4] q) {{ r = Shrink (x) q = {CROP} (r, size) }}>"
)
H = np.float32(0.02)
DEFINED = {"Attention", "CenterCropPad", "Shrink"}
# The opset, the input, and the nodes; there is a constant `size`.
CASES = {
    "defaults": (18, ROW, "a = Shrink <lambd = 0.01> (x) b = Shrink <lambd = 0.01, bias = 0.5> (x) y = Mul (a, b)"),
    "half": (18, PICTURE, f"h = Cast <to = 10> (x) b = {CROP} (h, size) y = Cast <to = 1> (b)"),
    "shapes": (18, PICTURE, f"y = {CROP} (x, size)"),
    "cache": (23, HEADS, "y, k, v = Attention <is_causal = 1> (x, x, x, , x, x)"),
    "mask-of-another-type": (
        23,
        HEADS,
        (
            "t = Transpose <perm = [0, 1, 3, 2]> (x) m = MatMul (x, t) r = Cast <to = 10> (x)"
            "a = Attention (r, r, r, m) y = Cast <to = 1> (a)"
        ),
    ),
    "left-out": (23, HEADS, 'a, "", "", y = Attention <qk_matmul_output_mode = 3, is_causal = 1> (x, x, x)'),
    "branch": (18, PICTURE, BRANCH),
}


def parse(opset, given, nodes):
    signature = f"m ({given}) => (float y) <int64[2] size = {{4, 4}}>"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]> {signature} {{ {nodes} }}')
    model.graph.output[0].type.CopyFrom(model.graph.input[0].type)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def run(model, feeds):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([o.name for o in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.mark.parametrize("case", CASES)
def test_as_the_operator(case, tmp_path, monkeypatch):
    monkeypatch.delitem(RULES, ("", "Shrink"), raising=False)  # whose body has two attributes with default values
    source = parse(*CASES[case])
    onnx.save(source, tmp_path / "model.onnx")
    model, conversion = load_converted(tmp_path / "model.onnx")
    assert not DEFINED & {n.op_type for n in model.graph.all_nodes()}
    assert "y" in conversion.rewritten
    measure(model)
    graph = model.graph
    shape = [3, *graph.inputs[0].shape[1:]]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    y = run(source, {"x": x})["y"]
    np.testing.assert_allclose(run(ir.to_proto(model), {"x": x})["y"], y, rtol=1e-3, atol=1e-3)
    if case == "branch":
        return
    seed = ir.Value(name="seed", shape=graph.outputs[0].shape, type=graph.outputs[0].type)
    graph.inputs.append(seed)
    op = Ops(graph, "gradient")
    graph.outputs.append(op.Identity(backpropagate(op, graph.outputs[0], seed, graph.inputs[0])))
    weights, step = (
        np.random.default_rng(n).normal(size=s).astype(np.float32) for n, s in ((1, y.shape), (2, x.shape))
    )
    *_, dx = run(ir.to_proto(model), {"x": x, "seed": weights}).values()
    ahead, behind = (run(source, {"x": x + sign * H * step})["y"].astype(float) for sign in (1, -1))
    slope = ((ahead - behind) * weights).sum() / (2 * H)
    assert abs((dx * step).sum() - slope) < 2e-2 * np.linalg.norm(dx) * np.linalg.norm(step)


def test_stays_without_gradient():
    """Nodes that no input reaches, and those that count elements, are left to onnxruntime."""
    nodes = "a = Shrink (numbers) n = Shape (x) c = CenterCropPad (n, one) y = Add (x, a)"
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["": 18]> m ({ROW}) => ({ROW.replace("x", "y")}) '
        f"<float[2] numbers = {{1, 2}}, int64[1] one = {{1}}> {{ {nodes} }}"
    )
    assert mark_bodies(ir.from_proto(model)) == []
