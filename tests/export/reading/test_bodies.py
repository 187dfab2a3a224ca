"""Shapes within branches and loops are those of their turns, for every batch."""

import onnx
import pytest

from fusioncam.errors import UnsupportedOperatorError
from fusioncam.export.gradient import Ops, backpropagate
from fusioncam.export.reading.load import load_converted
from fusioncam.export.reading.shapes import measure

MANY = "<int64 many = {40}, int64[1] one = {1}, int64[1] zero = {0}, float[4,2] w = {1, 2, 3, 4, 5, 6, 7, 8}> "
LOOP = "y = Loop(many, , x) <body = b (int64 i, bool on, a) => (go, c) {go = Identity(on) BODY}>"
CASES = {
    "turn": (LOOP.replace(
        "BODY", "d = MatMul(a, w) e = Transpose(d) f = Concat<axis = 0>(d, d)"
        "g = ReduceSum<keepdims = 0>(f) h = ReduceSum<keepdims = 0>(e) s = Mul(g, h) t = Tanh(s) c = Add(a, t)"),
        {"a": ["N", 4], "d": ["N", 2], "e": [2, "N"], "f": ["2*N", 2], "i": [], "on": []}),
    "nested": (
        LOOP.replace("BODY", "c = Loop(many, , a) <body = n (int64 j, bool in, p) => (out, q) {out = Identity(in)"
        "r = MatMul(p, w) s = ReduceSum<keepdims = 0>(r) t = Tanh(s) q = Add(p, t)}>"),
        {"p": ["N", 4], "r": ["N", 2], "c": ["N", 4]}),
    "another-shape-in-each-turn": (
        LOOP.replace("BODY", "k = Unsqueeze(i, zero) l = Add(k, one) d = Slice(w, zero, l, zero)"
        "e = ReduceMean<keepdims = 0>(d) c = Add(a, e)"),
        {"d": None, "e": [], "c": ["N", 4]}),
    "branches": (
        "m = ReduceMax<keepdims = 0>(x) z = Greater(m, m) y = If(z) <then_branch = t () => (p) {d = MatMul(x, w)"
        "s = ReduceSum<keepdims = 0>(d) p = Add(x, s)}, else_branch = e () => (q) {q = Neg(x)}>",
        {"d": ["N", 2], "s": [], "p": ["N", 4], "q": ["N", 4]}),
    "a-branch-that-does-not-run": (
        "m = ReduceMax<keepdims = 0>(x) z = Greater(m, m) y = If(z) <then_branch = t () => (p) {d = MatMul(x, x)"
        "p = Add(x, d)}, else_branch = e () => (q) {q = Neg(x)}>",
        {"d": None, "q": ["N", 4]}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_shapes(case, tmp_path):
    body, expected = CASES[case]
    text = f'<ir_version: 10, opset_import: ["": 18]> m (float[N,4] x) => (float[N,4] y) {MANY} {{ {body} }}'
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    model, _ = load_converted(tmp_path / "model.onnx")
    measure(model)
    found = {}
    for graph in model.graph.subgraphs():
        found |= {v.name: v for v in (*graph.inputs, *(o for node in graph for o in node.outputs))}
    shapes = {
        n: found[n].shape and [d if isinstance(d, int) else str(d.value) for d in found[n].shape] for n in expected
    }
    assert {n: s if s is None else list(s) for n, s in shapes.items()} == expected
    assert all(v.dtype is not None for n, v in found.items() if expected.get(n))


def test_a_gradient_by_what_no_turn_tells_is_refused_in_words(tmp_path):
    body, _ = CASES["another-shape-in-each-turn"]
    text = f'<ir_version: 10, opset_import: ["": 18]> m (float[N,4] x) => (float[N,4] y) {MANY} {{ {body} }}'
    text = text.replace("Slice(w", "Slice(a")
    onnx.save(onnx.parser.parse_model(text), tmp_path / "model.onnx")
    model, _ = load_converted(tmp_path / "model.onnx")
    measure(model)
    graph = model.graph
    with pytest.raises(
        UnsupportedOperatorError, match=r"operator Loop \(node 'y'\) has no gradient rule: the shape of"
    ):
        backpropagate(Ops(graph, "gradient"), graph.outputs[0], graph.outputs[0], graph.inputs[0])
