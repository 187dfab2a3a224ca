"""Loops of a few turns are written out, sequences and optionals followed: the numbers are those of the source."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from fusioncam.export.reading.load import load_converted
from fusioncam.export.reading.shapes import measure

STEP = "go = Identity(on) c = Mul(a, w)"
LOOP = "body = b (int64 i, bool on, float[N,4,5] a) => (bool go, float[N,4,5] c) "
ROWS = "body = b (int64 i, bool on, float[N,4,5] a) => (bool go, float[N,4,5] c, float[N,5] d) "
SCAN = "body = b (float[N,5] a, float[N,5] r) => (float[N,5] c, float[N,5] d) {c = Mul(a, r) d = Add(a, w)}"

# What a model computes of x (N, 4, 5), and the operators that are left of it.
CASES = {
    "turns": (f"y = Loop(three, , x) <{LOOP} {{{STEP}}}>", "Mul Mul Mul"),
    "no-turns": (f"a = Sin(x) y = Loop(zero, , a) <{LOOP} {{{STEP}}}>", "Sin"),
    "no-turns-by-a-condition": (
        f"a = Sin(x) n = Not(yes) y, d = Loop(three, n, a) <{ROWS} {{{STEP} d = Gather<axis = 1>(a, i)}}>", "Sin"),
    "condition-of-a-constant": (
        f"y = Loop(three, , x) <{LOOP} {{go = Constant<value = bool {{1}}>() c = Mul(a, w)}}>", "Mul Mul Mul"),
    "number-of-the-turn": (
        f"l, y = Loop(three, yes, x) <{ROWS} {{{STEP} d = Gather<axis = 1>(a, i)}}>",
        "Gather Mul Gather Mul Gather Unsqueeze Unsqueeze Unsqueeze Concat"),
    "turns-by-a-shape": (
        f"s = Shape(x) m = Gather(s, one) y = Loop(m, , x) <{LOOP} {{{STEP}}}>", "Mul Mul Mul Mul"),
    "turns-by-the-batch": (
        f"s = Shape(x) m = Gather(s, zero) y = Loop(m, , x) <{LOOP} {{{STEP}}}>", "Shape Gather Loop"),
    "many-turns": (f"y = Loop(many, , x) <{LOOP} {{{STEP}}}>", "Loop"),
    "while-below-a-number": (
        "y, n = Loop(, yes, x, one) <body = b (int64 i, bool on, float[N,4,5] a, int64 k) => (bool go, float[N,4,5] c,"
        "int64 m) {c = Mul(a, w) m = Add(k, one) go = Less(m, three)}>", "Mul Mul"),
    "while-below-a-size": (
        "s = Shape(x) e = Gather(s, one) y = Loop(, yes, x) <body = b (int64 i, bool on, float[N,4,5] a) =>"
        "(bool go, float[N,4,5] c) {c = Mul(a, w) m = Add(i, one) go = Less(m, e)}>", "Mul Mul Mul Mul"),
    "while-the-picture-says": (
        "y = Loop(, yes, x) <body = b (int64 i, bool on, float[N,4,5] a) => (bool go, float[N,4,5] c)"
        "{c = Mul(a, half) m = ReduceMax<keepdims = 0>(c) go = Greater(m, half)}>", "Loop"),
    "scan": (
        "f = Gather<axis = 1>(x, one) l, y = Scan<num_scan_inputs = 1, scan_input_axes = [-2], scan_output_axes = [-1],"
        f"scan_output_directions = [1], {SCAN}>(f, x)",
        "Gather Split Squeeze Squeeze Squeeze Mul Mul Mul Add Add Add Add"
        " Unsqueeze Unsqueeze Unsqueeze Unsqueeze Concat"),
    "scan-of-a-choice": (
        "f = Gather<axis = 1>(x, one) l, y = Scan<num_scan_inputs = 1, scan_input_axes = [1], body = b ("
        "float[N,5] a, float[N,5] r) => (float[N,5] c, float[N,5] d) {c = If(yes) <then_branch = t () => (float[N,5] p)"
        "{p = Mul(a, r)}, else_branch = e () => (float[N,5] q) {q = Add(a, r)}> d = Identity(c)}>(f, x)",
        "Gather Split Squeeze Squeeze Squeeze Squeeze Mul Mul Mul Mul Unsqueeze Unsqueeze Unsqueeze Unsqueeze Concat"),
    "sequence": ("a = Sin(x) s = SequenceConstruct(x, a) y = SequenceAt(s, last)", "Sin"),
    "sequence-that-grows": (
        "a = Sin(x) s = SequenceEmpty() t = SequenceInsert(s, a) u = SequenceInsert(t, x, zero)"
        "v = SequenceInsert(u, x) e = SequenceErase(v, last) n = SequenceLength(e) f = Cast<to = 1>(n)"
        "b = ConcatFromSequence<axis = -1>(e)"
        "y = Mul(b, f)",
        "Sin Concat Mul"),
    "sequence-of-a-loop": (
        "s = SequenceEmpty() t, l = Loop(three, , s, x) <body = b (int64 i, bool on, seq(float[N,4,5]) p,"
        f"float[N,4,5] a) => (bool go, seq(float[N,4,5]) q, float[N,4,5] c) {{{STEP} q = SequenceInsert(p, c)}}>"
        "y = ConcatFromSequence<axis = 1, new_axis = 1>(t)",
        "Mul Mul Mul Unsqueeze Unsqueeze Unsqueeze Concat"),
    "split": ("s = SplitToSequence<axis = 1>(x, sizes) y = SequenceAt(s, one)", "Split"),
    "split-by-steps": ("s = SplitToSequence<axis = 1>(x, three) y = SequenceAt(s, one)", "Split"),
    "split-one-by-one": (
        "s = SplitToSequence<axis = 1, keepdims = 0>(x) p = SequenceAt(s, one) q = SequenceAt(s, last) y = Mul(p, q)",
        "Split Squeeze Squeeze Mul"),
    "optional": (
        "o = Optional(x) h = OptionalHasElement(o) f = Cast<to = 1>(h) a = OptionalGetElement(o) y = Mul(a, f)",
        "Mul"),
    "optional-that-is-there": ("a = Sin(x) b = OptionalGetElement(a) y = Exp(b)", "Sin Exp"),
}  # fmt: skip
CONSTANTS = (
    "<float[5] w = {1, -2, 0.5, 0.3, 0.7}, int64 zero = {0}, int64 one = {1}, int64 three = {3}, int64 last = {-1},"
    "int64 many = {40}, bool yes = {1}, float half = {0.5}, int64[2] sizes = {1, 3}>"
)


def run(model, x):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["y"], {"x": x})[0]


@pytest.mark.parametrize("case", CASES)
def test_as_the_source(case, tmp_path):
    body, left = CASES[case]
    text = f'<ir_version: 10, opset_import: ["": 18]> m (float[N,4,5] x) => (float y) {CONSTANTS} {{ {body} }}'
    source = onnx.parser.parse_model(text)
    source.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(source, tmp_path / "model.onnx")
    model, _ = load_converted(tmp_path / "model.onnx")
    measure(model)
    assert sorted(n.op_type for n in model.graph if n.op_type != "Identity") == sorted(left.split())
    x = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(ir.to_proto(model), x), run(source, x), rtol=1e-6, atol=1e-6)


def test_a_scan_of_opset_8_is_one_for_each_row(tmp_path):
    text = """<ir_version: 3, opset_import: ["": 8]>
        m (float[N,4,5] x, float[N,5] s) => (float[N,5] y, float[N,4,5] z) {
            y, z = Scan <num_scan_inputs = 1, directions = [1],
                body = b (float[5] a, float[5] r) => (float[5] c, float[5] d) {
                    c = Mul (a, r) d = Add (a, r) }> ( , s, x) }"""
    source = onnx.parser.parse_model(text)
    onnx.save(source, tmp_path / "model.onnx")
    model, _ = load_converted(tmp_path / "model.onnx")
    rng = np.random.default_rng(0)
    feeds = {"x": rng.normal(size=(3, 4, 5)).astype(np.float32), "s": rng.normal(size=(3, 5)).astype(np.float32)}
    sessions = [onnxruntime.InferenceSession(m.SerializeToString()) for m in (source, ir.to_proto(model))]
    for expected, got in zip(*(s.run(["y", "z"], feeds) for s in sessions), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
