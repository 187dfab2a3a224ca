"""Nodes that decide for a whole batch what is computed."""

import onnx
import onnx_ir as ir
import pytest

from fusioncam.export.gradient import decides_for_batch

HEAD = '<ir_version: 10, opset_import: ["": 18]> m (float[N,4] x) => (float[N,4] y)<int64 three = {3}, bool yes = {1}> '
CHOSEN = (
    "If(CONDITION) <then_branch = t () => (float[N,4] p) {p = Sin(V)},"
    "else_branch = e () => (float[N,4] q) {q = Cos(V)}>"
)
MEAN = "m = ReduceMean<keepdims = 0>(x) z = Greater(m, m)"
LOOP = "y = Loop(M, C, x) <body = b (int64 i, bool on, float[N,4] a) => (bool go, float[N,4] c) {BODY}>"


def chosen(condition, value="x"):
    return CHOSEN.replace("CONDITION", condition).replace("V", value)


def loop(body, most="three", condition=""):
    return LOOP.replace("BODY", body).replace("M", most).replace("C", condition)


STEP = "go = Identity(on) c = Sin(a)"
CHOICES = {
    "by-the-picture": (f"{MEAN} k = {chosen('z')} y = Neg(k)", "k"),
    "among-constants": (f"{MEAN} w = Constant<value_float = 1.0>() k = {chosen('z', 'w')} y = Mul(x, k)", "k"),
    "by-a-constant": (f"k = {chosen('yes')} y = Neg(k)", None),
    "not-on-the-way": (f"{MEAN} k = {chosen('z')} y = Neg(x)", None),
    "turns": (loop(STEP), None),
    "turns-by-the-picture": (f"{MEAN} n = Cast<to = 7>(z) {loop(STEP, 'n')}", "y"),
    "start-by-the-picture": (f"{MEAN} {loop(STEP, 'three', 'z')}", "y"),
    "end-by-the-picture": (loop("go = Greater(s, s) s = ReduceMax<keepdims = 0>(a) c = Sin(a)"), "y"),
    "end-by-the-turn": (loop("go = Less(i, three) c = Sin(a)"), None),
    "in-a-turn-by-its-number": (loop(f"go = Identity(on) f = Less(i, three) c = {chosen('f', 'a')}"), None),
    "in-a-turn-by-a-state": (
        loop(f"go = Identity(on) s = ReduceMax<keepdims = 0>(a) f = Less(s, s) c = {chosen('f', 'a')}"), "c"),
    "by-slices": (
        "k = Constant<value_float = 0.0>() l, y = Scan<num_scan_inputs = 1, body = b (float k0, float[4] r) =>"
        f"(float k1, float[4] d) {{s = ReduceMax<keepdims = 0>(r) f = Less(s, s) d = {chosen('f', 'r')}"
        "k1 = Identity(k0)}>(k, x)", "d"),
}  # fmt: skip


@pytest.mark.parametrize("choice", CHOICES)
def test_decides_for_batch(choice):
    text, name = CHOICES[choice]
    model = ir.from_proto(onnx.parser.parse_model(f"{HEAD} {{ {text} }}"))
    assert decides_for_batch(model.graph.inputs[0], model.graph.outputs[0]) == name
