import numpy as np
import onnx_ir as ir
import pytest
import torch

from fusioncam.errors import UnsupportedOperatorError
from fusioncam.export.gradient import Ops, ancestors, backpropagate, dims, path, unsupported
from fusioncam.export.gradient.rules.table import RULES, Rule, Step, unbroadcast

ROW = "agraph (float[N,4] x) => (float[N,4] y) "
CASES = [
    ("nothing-between", ROW + "{y = Identity(x)}", {}, None, lambda x: 1 * x),
    ("fan-out", ROW + "{a = Sin(x) b = Cos(x) c = Mul(a, b) y = Add(c, x)}", {}, None, lambda x: x.sin() * x.cos() + x),
    ("same-operand-twice", ROW + "{y = Mul(x, x)}", {}, None, lambda x: x * x),
    ("same-operand-thrice", ROW + "{y = Sum(x, x, x)}", {}, None, lambda x: 3 * x),
    (
        *("diamonds", ROW + "{a = Sin(x) b = Mul(a, a) c = Exp(a) d = Add(b, c) e = Tanh(d) y = Mul(d, e)}", {}, None),
        lambda x: (x.sin() ** 2 + x.sin().exp()) * (x.sin() ** 2 + x.sin().exp()).tanh(),
    ),
    ("residual", ROW + "{a = Tanh(x) b = Add(a, x) c = Tanh(b) y = Add(c, b)}", {}, None, lambda x: _twice(x)),
    (
        "shape-arithmetic",
        "agraph (float[N,4,2] x) => (float[N,8] y) {s = Constant<value_ints = [-1]>() n = Shape<end = 1>(x)"
        "z = Concat<axis = 0>(n, s) e = Exp(x) y = Reshape(e, z)}",
        *({}, None, lambda x: x.exp().flatten(1)),
    ),
    (
        *("condition", ROW + "<float c = {0.3}> {p = Greater(x, c) n = Neg(x) y = Where(p, x, n)}", {}, None),
        lambda x: torch.where(x > 0.3, x, -x),
    ),
]


def _twice(x):
    b = x.tanh() + x
    return b.tanh() + b


def test_gradient(case, check):
    check(*case)


def graph_of(harness, text):
    """Graph and values by name; all are floating-point numbers."""
    graph = ir.from_proto(harness.parse(text)).graph
    values = {v.name: v for v in [*graph.inputs, *(o for node in graph for o in node.outputs)]}
    for value in values.values():
        value.dtype = ir.DataType.FLOAT
    return graph, values


def walk(graph, output, target):
    """Types of the nodes that the gradient of `output` by `target` takes; the seed is `output` itself."""
    before = len(graph)
    backpropagate(Ops(graph, "gradient"), output, output, target)
    return [node.op_type for node in list(graph)[before:]]


def test_other_branches_are_not_visited(harness):
    text = ROW + "{h = Relu(x) u = custom.Mystery(x) v = Add(u, h) w = Sigmoid(h) y = Neg(w) z = custom.Mystery(y)}"
    graph, values = graph_of(harness, text)
    assert walk(graph, values["y"], values["h"]) == ["Neg", "Sub", "Mul", "Mul"]


def test_gradient_by_the_output_itself_is_the_seed(harness):
    graph, values = graph_of(harness, ROW + "{y = Exp(x)}")
    assert backpropagate(Ops(graph, "gradient"), values["y"], values["x"], values["y"]) is values["x"]


@pytest.mark.parametrize(
    "body",
    ["{h = Exp(x) z = Sin(h) y = Cos(x)}", "{h = Exp(x) f = Floor(h) y = Add(f, x)}"],
    ids=["unreached", "flat"],
)
def test_a_layer_without_influence_has_zero_gradient(body, harness):
    model = harness.differentiate(harness.parse(ROW + body), "h")
    x = np.full((3, 4), np.inf, np.float32)
    got = harness.run(model, {"x": x, "seed": np.ones((3, 4), np.float32)})["dx"]
    np.testing.assert_array_equal(got, np.zeros((3, 4), np.float32))


def test_an_operator_without_rule_is_named(refused):
    message = refused(ROW + "{h = Exp(x) s = Bernoulli(h) y = Relu(s)}")
    assert "operator Bernoulli (node 's')" in message
    assert "--layer" in message


def test_an_operator_of_another_domain_is_named(harness):
    graph, values = graph_of(harness, ROW + "{h = custom.Relu(x) y = Exp(h)}")
    with pytest.raises(UnsupportedOperatorError, match=r"operator custom\.Relu \(node 'h'\)"):
        walk(graph, values["y"], values["x"])


def test_parameters_that_depend_on_the_layer_are_refused(refused, monkeypatch):
    monkeypatch.setitem(RULES, ("", "Sub"), Rule(lambda s: s.dy))
    text = "agraph (float[N,2] x, float[N,2] z) => (float[N,2] y) {y = Sub(z, x)}"
    assert "its input 1 ('x') depends on the layer" in refused(text)


def test_weights_that_are_no_constants_are_refused(refused):
    text = "agraph (float[N,2,3] x, int64[1] a) => (float y) {y = ReduceSum(x, a)}"
    assert "its input 1 ('a') is not a constant" in refused(text)


def test_a_second_output_in_use_is_refused(harness):
    graph, values = graph_of(
        harness, "agraph (float[N,4] x, float[4] w) => (float y) {y, m = LayerNormalization(x, w)}"
    )
    received = [values["x"], values["x"]]
    with pytest.raises(NotImplementedError, match="an output other than its first is used"):
        _ = Step(Ops(graph, "gradient"), graph[0], received, 0).dy


def test_arithmetic_on_quantised_numbers_is_refused(refused):
    text = (
        "agraph (float[N,2,4,4] x) => (float y) <float s = {0.1}, uint8 z = {128}> {q = QuantizeLinear(x, s, z)"
        "p = MaxPool<kernel_shape = [2, 2]>(q) y = DequantizeLinear(p, s, z)}"
    )
    assert "operator MaxPool (node 'p') has no gradient rule: it works on UINT8" in refused(text)


def test_what_a_branch_reads_counts(harness, refused):
    text = ROW + (
        "{h = Exp(x) c = Constant<value = bool {1}>() i = If(c) <"
        "then_branch = then () => (float[N,4] t) {t = custom.Mystery(h)},"
        "else_branch = otherwise () => (float[N,4] e) {e = Cos(h)}> y = Neg(i)}"
    )
    assert "operator custom.Mystery (node 't', in If 'i')" in refused(text)
    _, values = graph_of(harness, text)
    assert {node.op_type for node in ancestors(values["y"])} == {"Neg", "If", "Exp", "Constant"}


def test_path_leaves_out_shapes_and_lists_what_lacks_a_rule(harness):
    text = (
        "agraph (float[N,4] x) => (float[N,4] y) {h = Exp(x) s = Shape(h) r = custom.Round(s) z = custom.Mystery(h)"
        "a = Reshape(z, s) k = Sin(x) y = Add(a, k)}"
    )
    _, values = graph_of(harness, text)
    values["s"].dtype = values["r"].dtype = ir.DataType.INT64
    between = path(values["h"], values["y"])
    assert [node.op_type for node in between] == ["Mystery", "Reshape", "Add"]
    assert [node.op_type for node in unsupported(between)] == ["Mystery"]
    assert [node.op_type for node in path(values["x"], values["y"])] == ["Exp", "Mystery", "Reshape", "Sin", "Add"]


@pytest.mark.parametrize(
    ("wide", "narrow", "nodes"),
    [
        ("N,3,4", "N,3,4", []),
        ("N,3,4", "N,1,4", ["ReduceSum"]),
        ("N,3,4", "1,3,1", ["ReduceSum"]),
        ("3,N,4", "N,4", ["ReduceSum"]),
        ("3,N,4", "N,1", ["ReduceSum", "Reshape"]),
        ("N,1,4", "1,4", ["ReduceSum"]),
    ],
)
def test_unbroadcast(wide, narrow, nodes, harness):
    graph, values = graph_of(harness, f"agraph (float[{wide}] g, float[{narrow}] x) => (float y) {{y = Add(g, x)}}")
    unbroadcast(Ops(graph, "gradient"), values["g"], dims(values["g"]), values["x"])
    assert [node.op_type for node in graph][1:] == nodes


def test_names_do_not_collide(harness):
    graph, values = graph_of(harness, "agraph (float[N,4] x) => (float[N,4] y) {a = Exp(x) y = Sin(a)}")
    values["a"].name = "gradient/Cos_0"
    walk(graph, values["y"], values["x"])
    names = [o.name for node in graph for o in node.outputs] + list(graph.initializers)
    assert len(names) == len(set(names)) > 4


def test_equal_constants_are_shared(harness):
    graph, values = graph_of(harness, ROW + "{a = Relu(x) b = Relu(a) y = Relu(b)}")
    walk(graph, values["y"], values["x"])
    assert len(graph.initializers) == 1


def test_two_unknown_dimensions_are_taken_from_the_tensor(harness):
    graph, values = graph_of(harness, "agraph (float[N,M,4] x) => (float y) {y = Flatten<axis = 2>(x)}")
    assert walk(graph, values["y"], values["x"]) == ["Shape", "Reshape"]


def test_two_unknown_dimensions_without_such_a_tensor_are_refused(refused):
    text = "agraph (float[N,M,4] x) => (float y) <int64[1,2] i = {0, 0}> {y = Gather<axis = 2>(x, i)}"
    assert "two unknown dimensions" in refused(text)


def test_an_unknown_shape_is_an_error():
    with pytest.raises(ValueError, match="the shape of 'x' is unknown"):
        dims(ir.Value(name="x"))


def test_names_of_operators_begin_with_a_capital():
    with pytest.raises(AttributeError, match="relu"):
        _ = Ops(ir.Graph([], [], nodes=[]), "gradient").relu
