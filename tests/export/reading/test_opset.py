"""A model of an older opset computes the same once it is brought to a newer one."""

from collections import defaultdict
from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ModelError
from fusioncam.export.canonical import canonicalize
from fusioncam.export.reading.file import OPSET
from fusioncam.export.reading.load import load_converted
from fusioncam.export.reading.opset import RULES
from fusioncam.export.sessions import open_session, session


def save(path, nodes, opset, constants=None, functions=(), outputs=("y",), domains=()):
    """Write a model of the input x and the outputs; constants are arrays by name."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 6])]
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in (constants or {}).items()]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, "g", inputs, given, tensors)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    model.functions.extend(functions)
    onnx.save(model, path)
    return path


def both(path, x=None):
    """What onnxruntime makes of x by the file as it is, and by what is loaded from it."""
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32) if x is None else x
    model, conversion = load_converted(path)
    assert model.opset_imports[""] >= OPSET
    assert conversion is not None
    assert "y" in conversion.rewritten
    return [s.run(["y"], {"x": x})[0] for s in (open_session(path, False), session(model, False))]


def same(path, x=None):
    one, other = both(path, x)
    assert one.shape == other.shape
    np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6)
    return other


def scales(*values):
    return {"s": np.asarray(values, np.float32)}


# (opset, operator, attributes, constants that follow x)
CASES = {
    "BatchNormalization 7": (7, "BatchNormalization", {}, {k: np.asarray([1, 2, 3], np.float32) for k in "abcd"}),
    "BatchNormalization 9": (9, "BatchNormalization", {}, {k: np.asarray([1, 2, 3], np.float32) for k in "abcd"}),
    "BatchNormalization 7, of each pixel": (
        *(7, "BatchNormalization", {"spatial": 0, "epsilon": 0.1}),
        {k: np.random.default_rng(i).random((3, 8, 6), np.float32) for i, k in enumerate("abcd")},
    ),
    "Clip 7": (7, "Clip", {"min": -0.5, "max": 0.3}, {}),
    "Clip 7, above only": (7, "Clip", {"max": 0.3}, {}),
    "Clip 10, of nothing": (10, "Clip", {}, {}),
    "Dropout 7": (7, "Dropout", {"ratio": 0.7}, {}),
    "Dropout 10": (10, "Dropout", {}, {}),
    "Hardmax 9, over all but the batch": (9, "Hardmax", {}, {}),
    "LogSoftmax 11, over two axes": (11, "LogSoftmax", {"axis": 2}, {}),
    "Pad 9": (9, "Pad", {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 2.5}, {}),
    "Pad 7, reflected": (7, "Pad", {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "mode": "reflect"}, {}),
    "ReduceMean 11, over all": (11, "ReduceMean", {"keepdims": 0}, {}),
    "ReduceMax 13": (13, "ReduceMax", {"axes": [2, 3]}, {}),
    "ReduceL2 17, from the end": (17, "ReduceL2", {"axes": [-1], "keepdims": 0}, {}),
    "ReduceSum 12": (12, "ReduceSum", {"axes": [1]}, {}),
    "Resize 10, linear": (10, "Resize", {"mode": "linear"}, scales(1, 1, 2, 2)),
    "Resize 10, linear, smaller": (10, "Resize", {"mode": "linear"}, scales(1, 1, 0.6, 0.4)),
    "Resize 10, nearest": (10, "Resize", {}, scales(1, 1, 1.5, 2.7)),
    "Resize 10, nearest, smaller": (10, "Resize", {}, scales(1, 1, 0.6, 0.5)),
    "Resize 10, nearest, one each": (10, "Resize", {}, scales(1, 1, 0.6, 1.7)),
    "Slice 9": (9, "Slice", {"starts": [1, -4], "ends": [7, 1000], "axes": [2, 3]}, {}),
    "Slice 7, first axes": (7, "Slice", {"starts": [0, 1], "ends": [2, 3]}, {}),
    "Softmax 7, over all but the batch": (7, "Softmax", {}, {}),
    "Softmax 12, over the last": (12, "Softmax", {"axis": 3}, {}),
    "Softmax 11, from the end": (11, "Softmax", {"axis": -2}, {}),
    "Split 11, in halves": (11, "Split", {"axis": 2}, {}),
    "Split 13, in halves": (13, "Split", {"axis": 2}, {}),
    "Split 7, of given sizes": (7, "Split", {"axis": 2, "split": [3, 5]}, {}),
    "TopK 9": (9, "TopK", {"k": 2, "axis": 1}, {}),
    "Unsqueeze 11": (11, "Unsqueeze", {"axes": [2]}, {}),
    "Upsample 7": (7, "Upsample", {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 3.0]}, {}),
    "Upsample 7, linear": (7, "Upsample", {"mode": "linear", "scales": [1.0, 1.0, 2.0, 3.0]}, {}),
    "Upsample 9, linear": (9, "Upsample", {"mode": "linear"}, scales(1, 1, 2.5, 2)),
    "Upsample 9": (9, "Upsample", {"mode": "nearest"}, scales(1, 1, 2.5, 2)),
}
OUTPUTS = {"Split": ["y", "other"], "TopK": ["y", "indices"]}


@pytest.mark.parametrize("case", CASES)
def test_an_older_operator_computes_the_same(case, tmp_path):
    opset, kind, attributes, constants = CASES[case]
    node = helper.make_node(kind, ["x", *constants], OUTPUTS.get(kind, ["y"]), "odd", **attributes)
    same(save(tmp_path / "m.onnx", [node], opset, constants))


def test_every_operator_that_changed_has_a_rule():
    """By onnx's own schemas: other inputs or another default are a change; more types or a new attribute are none."""
    versions = defaultdict(list)
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            versions[schema.name].append(schema)
    changed = set()
    for name, schemas in versions.items():
        schemas.sort(key=lambda s: s.since_version)
        known = [s for s in schemas if s.since_version <= 7][-1:] + [s for s in schemas if 7 < s.since_version <= OPSET]
        for old, new in pairwise(known):
            inputs = [i.name for i in old.inputs] != [i.name for i in new.inputs][: len(old.inputs)]
            taken_away = old.attributes.keys() - new.attributes.keys()
            default = any(
                str(old.attributes[a].default_value) != str(new.attributes[a].default_value)
                for a in old.attributes.keys() & new.attributes.keys()
            )
            if inputs or taken_away or default or (new.deprecated and not old.deprecated):
                changed.add(name)
    renamed = {"BatchNormalization"}
    assert changed - renamed <= RULES.keys()
    # What schemas do not show: a default that was none before, and a count that is now needed.
    assert RULES.keys() - changed <= {"RoiAlign", "Split", "DFT", "GridSample", "GroupNormalization", *renamed}


def asymmetric(x, scale, size):
    """Linear interpolation along the last axis, by its definition: pixel i lies at i / scale."""
    at = np.minimum(np.arange(size) / scale, x.shape[-1] - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, x.shape[-1] - 1)
    return x[..., low] * (1 - (at - low)) + x[..., high] * (at - low)


@pytest.mark.parametrize("case", ["Resize 10, linear", "Upsample 9, linear"])
def test_linear_before_opset_11_is_not_half_pixel(case, tmp_path):
    opset, kind, attributes, constants = CASES[case]
    _, _, tall, wide = constants["s"]
    x = np.random.default_rng(1).normal(size=(1, 3, 8, 6)).astype(np.float32)
    path = save(tmp_path / "m.onnx", [helper.make_node(kind, ["x", "s"], ["y"], **attributes)], opset, constants)
    rows = asymmetric(x.swapaxes(2, 3), tall, int(8 * tall)).swapaxes(2, 3)
    np.testing.assert_allclose(same(path, x), asymmetric(rows, wide, int(6 * wide)), atol=1e-5)


def test_a_branch_is_brought_along(tmp_path):
    """The nodes within an If are of the same old opset."""
    outputs = [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)]
    clip = helper.make_graph([helper.make_node("Clip", ["x"], ["b"], max=0.25)], "then", [], outputs)
    softmax = helper.make_graph([helper.make_node("Softmax", ["x"], ["b"])], "else", [], outputs)
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["some"]),
        helper.make_node("If", ["some"], ["y"], then_branch=clip, else_branch=softmax),
    ]
    path = save(tmp_path / "m.onnx", nodes, 10, {"zero": np.float32(0)})
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32)
    assert same(path, np.abs(x)).max() == 0.25
    assert same(path, -np.abs(x)).max() < 0.25


def function(name, nodes, opset, attributes=(), imports=()):
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in imports)]
    return helper.make_function("my", name, ["a"], ["b"], nodes, opsets, attributes=list(attributes))


def clip_to(reference):
    """Clip 10 to an attribute of the function."""
    node = helper.make_node("Clip", ["a"], ["b"])
    node.attribute.append(onnx.AttributeProto(name="max", ref_attr_name=reference, type=onnx.AttributeProto.FLOAT))
    return node


@pytest.mark.parametrize(("opset", "of_function"), [(10, 10), (17, 17), (18, 18), (19, 19)])
def test_functions_take_the_place_of_their_calls(opset, of_function, tmp_path):
    nodes = [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])]
    twice = [helper.make_node("Act", ["a"], ["m"], domain="my"), helper.make_node("Act", ["m"], ["b"], domain="my")]
    functions = [function("Act", nodes, of_function), function("Twice", twice, of_function, imports=["my"])]
    calls = [
        helper.make_node("Twice", ["x"], ["t"], domain="my"),
        helper.make_node("Act", ["t"], ["y"], domain="my"),
    ]
    path = save(tmp_path / "m.onnx", calls, opset, functions=functions, domains=["my"])
    model, _ = load_converted(path)
    assert [n.op_type for n in model.graph] == ["Sigmoid", "Mul"] * 3
    same(path)


def test_a_function_with_attributes_of_an_old_opset(tmp_path):
    functions = [function("Cap", [clip_to("most")], 10, ["most"])]
    calls = [
        helper.make_node("Cap", ["x"], ["t"], domain="my", most=0.5),
        helper.make_node("Neg", ["t"], ["u"]),
        helper.make_node("Cap", ["u"], ["y"], domain="my", most=0.25),
    ]
    path = save(tmp_path / "m.onnx", calls, 10, functions=functions, domains=["my"])
    result = same(path)
    assert (result.min(), result.max()) == (-0.5, 0.25)


def test_scales_of_groups_become_scales_of_channels(tmp_path):
    """The function is of opset 18, the model of 21: onnxruntime does not take this mix, the formula is the measure."""
    scale, bias = np.float32([2, -1, 0.5]), np.float32([0.1, 0.2, 0.3])
    constants = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))
        for name, array in (("s", scale), ("t", bias))
    ]
    nodes = [
        *constants,
        helper.make_node("Concat", ["a", "a"], ["aa"], axis=1),
        helper.make_node("GroupNormalization", ["aa", "s", "t"], ["b"], num_groups=3, epsilon=1e-3),
    ]
    calls = [helper.make_node("Own", ["x"], ["y"], domain="my")]
    path = save(tmp_path / "m.onnx", calls, 21, functions=[function("Own", nodes, 18)], domains=["my"])
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32)
    groups = np.concatenate([x, x], axis=1).reshape(2, 3, 2, 8, 6)
    offset = groups - groups.mean((2, 3, 4), keepdims=True)
    n = offset / np.sqrt((offset**2).mean((2, 3, 4), keepdims=True) + 1e-3)
    expected = (n * scale.reshape(3, 1, 1, 1) + bias.reshape(3, 1, 1, 1)).reshape(2, 6, 8, 6)
    model, _ = load_converted(path)
    np.testing.assert_allclose(session(model, False).run(["y"], {"x": x})[0], expected, atol=1e-5)


def test_a_function_with_a_branch(tmp_path):
    outputs = [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)]
    then = helper.make_graph([helper.make_node("ReduceMean", ["a"], ["r"], axes=[1])], "then", [], outputs)
    other = helper.make_graph([helper.make_node("ReduceMax", ["a"], ["r"], axes=[1])], "else", [], outputs)
    nodes = [
        helper.make_node("ReduceSum", ["a"], ["sum"], keepdims=0),
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("Greater", ["sum", "zero"], ["some"]),
        helper.make_node("If", ["some"], ["b"], then_branch=then, else_branch=other),
    ]
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("Own", ["x"], ["y"], domain="my")],
        17,
        functions=[function("Own", nodes, 17)],
        domains=["my"],
    )
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 6)).astype(np.float32)
    same(path, np.abs(x))
    same(path, -np.abs(x))


def test_what_converts_to_something_else_is_refused_by_the_first_node(classifier, tmp_path, monkeypatch):
    """Onnx's own converter makes half_pixel of it."""
    model = classifier(opset=10)
    resize = helper.make_node("Resize", ["r1", "twice"], ["large"], "larger", mode="linear")
    model.graph.node.insert(2, resize)
    model.graph.node[3].input[0] = "large"
    model.graph.initializer.append(numpy_helper.from_array(np.asarray([1, 1, 2, 2], np.float32), "twice"))
    onnx.save(model, tmp_path / "m.onnx")
    canonicalize(tmp_path / "m.onnx")

    def half_pixel(node):
        RULES["Resize"][0][1](node)
        node.attributes["coordinate_transformation_mode"] = ir.AttrString(
            "coordinate_transformation_mode", "half_pixel"
        )

    monkeypatch.setattr("fusioncam.export.reading.opset.RULES", RULES | {"Resize": ((11, half_pixel),)})
    with pytest.raises(ModelError, match=r"first in node 'larger' \(Resize\); export it at opset 18"):
        canonicalize(tmp_path / "m.onnx")
