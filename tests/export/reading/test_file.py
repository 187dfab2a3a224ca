"""Valid files of every form are read; what cannot be read is named as what it is."""

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ModelError
from fusioncam.export import check, export_model, inspect_model
from fusioncam.export.reading.file import _newest_opset, read_model

NAMES = ["plane tree", "oak", "elm", "ash", "fir"]


def info(name, kind=TensorProto.FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def inserted(model, nodes, constants):
    """Put nodes between r1 and the second convolution, which reads `extra` of them."""
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    for node in model.graph.node[2:]:
        node.input[:] = ["extra" if name == "r1" else name for name in node.input]
    for node in reversed(nodes):
        model.graph.node.insert(2, node)


def branches(suffix=""):
    """Twice r1, or its negative; both branches call a tensor `q`."""
    double = [helper.make_node("Relu", ["r1"], ["q"]), helper.make_node("Add", ["q", "q"], [f"t{suffix}"])]
    negate = [helper.make_node("Neg", ["r1"], ["q"]), helper.make_node("Sigmoid", ["q"], [f"e{suffix}"])]
    return {
        "then_branch": helper.make_graph(double, "then", [], [info(f"t{suffix}")]),
        "else_branch": helper.make_graph(negate, "else", [], [info(f"e{suffix}")]),
    }


def default_domain_by_name(model):
    model.opset_import[0].domain = "ai.onnx"
    for node in model.graph.node:
        node.domain = "ai.onnx"


def no_default_domain(model):
    model.opset_import[0].domain = "my"


def both_names(model):
    model.opset_import.append(helper.make_opsetid("ai.onnx", 18))


def an_unused_function(model):
    node = helper.make_node("Relu", ["a"], ["b"])
    model.functions.append(helper.make_function("my", "Act", ["a"], ["b"], [node], [helper.make_opsetid("", 12)]))
    model.opset_import.append(helper.make_opsetid("my", 1))


def unsorted(model):
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def without_names(model):
    for node in model.graph.node:
        node.name = ""


def sparse(model, flat=True):
    weight = numpy_helper.to_array(model.graph.initializer[0])
    at = np.flatnonzero(weight) if flat else np.argwhere(weight)
    values = numpy_helper.from_array(weight[weight != 0], "w1")
    indices = numpy_helper.from_array(at.astype(np.int64), "places")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, weight.shape))
    del model.graph.initializer[0]


def sparse_constant(model):
    sparse(model)
    node = helper.make_node("Constant", [], ["w1"], sparse_value=model.graph.sparse_initializer[0])
    del model.graph.sparse_initializer[:]
    model.graph.node.insert(0, node)


def operator_of_onnxruntime(model):
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Gelu", "com.microsoft"


def constant_branch(model):
    inserted(model, [helper.make_node("If", ["yes"], ["extra"], **branches())], {"yes": True})


def two_constant_branches(model):
    nodes = [
        helper.make_node("If", ["yes"], ["one"], **branches()),
        helper.make_node("If", ["no"], ["two"], **branches("2")),
        helper.make_node("Add", ["one", "two"], ["extra"]),
    ]
    inserted(model, nodes, {"yes": True, "no": False})


def branch_by_shape(model):
    nodes = [
        helper.make_node("Shape", ["r1"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["channels"]),
        helper.make_node("Equal", ["channels", "four"], ["yes"]),
        helper.make_node("If", ["yes"], ["extra"], **branches()),
    ]
    inserted(model, nodes, {"axis": np.int64(1), "four": np.int64(4)})


def branch_by_image(model):
    """The image is scaled where it holds something below a number that nothing exceeds."""
    scaled = helper.make_graph([helper.make_node("Sigmoid", ["image"], ["t"])], "then", [], [info("t")])
    plain = helper.make_graph([helper.make_node("Identity", ["image"], ["e"])], "else", [], [info("e")])
    model.graph.node[0].input[0] = "scaled"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1e9), "most"))
    nodes = [
        helper.make_node("ReduceMin", ["image"], ["least"], keepdims=0),
        helper.make_node("Less", ["least", "most"], ["below"]),
        helper.make_node("If", ["below"], ["scaled"], then_branch=scaled, else_branch=plain),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)


def names_beside_scores(model):
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(NAMES, object), "names"))
    model.graph.node.append(helper.make_node("ArgMax", ["scores"], ["top"], axis=1, keepdims=0))
    model.graph.node.append(helper.make_node("Gather", ["names", "top"], ["label"]))
    model.graph.output.insert(0, info("label", TensorProto.STRING, ["N"]))


def sequence_beside_scores(model):
    model.graph.node.append(helper.make_node("SplitToSequence", ["scores"], ["parts"], axis=1))
    model.graph.output.append(helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None))


FORMS = (
    *(default_domain_by_name, no_default_domain, both_names, an_unused_function, unsorted),
    *(without_names, sparse, sparse_constant, operator_of_onnxruntime, constant_branch, two_constant_branches),
    *(branch_by_shape, branch_by_image, names_beside_scores, sequence_beside_scores),
    lambda model: sparse(model, flat=False),
)


@pytest.mark.parametrize("form", FORMS)
def test_valid_files_of_every_form_are_exported(form, classifier, tmp_path):
    model = classifier()
    form(model)
    onnx.save(model, tmp_path / "m.onnx")
    export_model(tmp_path / "m.onnx", tmp_path / "m.fcam")
    assert all(f.ok for f in check(tmp_path / "m.fcam"))


def test_a_model_that_does_not_say_its_opset_is_of_the_newest(classifier, tmp_path):
    model = classifier()
    no_default_domain(model)
    onnx.save(model, tmp_path / "m.onnx")
    assert inspect_model(tmp_path / "m.onnx").classifier.model.opset_imports[""] == _newest_opset() > 18


def with_map(model, kind, **labels):
    """Let the output be a sequence of maps from labels to the scores, as scikit-learn's converters write it."""
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("ZipMap", [last], ["loss"], domain="ai.onnx.ml", **labels))
    output = onnx.ValueInfoProto(name="loss")
    output.type.sequence_type.elem_type.map_type.key_type = kind
    output.type.sequence_type.elem_type.map_type.value_type.tensor_type.elem_type = TensorProto.FLOAT
    del model.graph.output[:]
    model.graph.output.append(output)
    return model


@pytest.mark.parametrize(
    ("kind", "labels", "names"),
    [
        (TensorProto.STRING, {"classlabels_strings": NAMES}, tuple(NAMES)),
        (TensorProto.INT64, {"classlabels_int64s": [5, 3, 9, 1, 0]}, ("5", "3", "9", "1", "0")),
        (TensorProto.INT64, {"classlabels_int64s": [0, 1, 2, 3, 4]}, None),
    ],
)
def test_a_map_is_read_as_the_tensor_in_it(kind, labels, names, classifier, tmp_path):
    plain = classifier(ending=["Softmax"])
    onnx.save(plain, tmp_path / "plain.onnx")
    onnx.save(with_map(plain, kind, **labels), tmp_path / "m.onnx")
    manifest = export_model(tmp_path / "m.onnx", tmp_path / "m.fcam")
    assert (manifest.labels, manifest.ending, manifest.source.output) == (names, "softmax", "loss")
    assert all(f.ok for f in check(tmp_path / "m.fcam"))
    assert inspect_model(tmp_path / "m.onnx").default.name == inspect_model(tmp_path / "plain.onnx").default.name


def test_a_name_beside_a_map(classifier, tmp_path):
    """As Custom Vision writes it: the name of the top class is an output, too."""
    model = classifier(ending=["Softmax"])
    names_beside_scores(model)
    del model.graph.output[0]
    with_map(model, TensorProto.STRING, classlabels_strings=NAMES)
    model.graph.output.insert(0, info("label", TensorProto.STRING, ["N"]))
    onnx.save(model, tmp_path / "m.onnx")
    assert export_model(tmp_path / "m.onnx", tmp_path / "m.fcam").labels == tuple(NAMES)


def test_names_of_the_metadata_come_first(classifier, tmp_path):
    model = with_map(classifier(), TensorProto.STRING, classlabels_strings=NAMES)
    model.metadata_props.add(key="names", value=repr(list("abcde")))
    onnx.save(model, tmp_path / "m.onnx")
    assert export_model(tmp_path / "m.onnx", tmp_path / "m.fcam").labels == tuple("abcde")


def only_names(model):
    names_beside_scores(model)
    del model.graph.output[1]


def only_a_sequence(model):
    sequence_beside_scores(model)
    del model.graph.output[0]


def a_later_format(model):
    model.ir_version = 99


def a_later_opset(model):
    model.opset_import[0].version = 99


def a_damaged_sparse_weight(model):
    sparse(model)
    model.graph.sparse_initializer[0].indices.CopyFrom(numpy_helper.from_array(np.asarray([10**6]), "places"))
    model.graph.sparse_initializer[0].values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "w1"))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (only_names, "cut the graph before it (output 'label', node 'top')"),
        (only_a_sequence, "output 'parts' is no tensor"),
        (a_later_format, "is of IR version 99, which the installed onnxruntime does not know yet"),
        (a_later_opset, "is of opset 99, which the installed onnxruntime does not know yet"),
        (a_damaged_sparse_weight, "w1"),
    ],
)
def test_what_cannot_be_read_is_named(form, said, classifier, tmp_path):
    model = classifier()
    form(model)
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=re.escape(said)) as caught:
        inspect_model(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)


@pytest.mark.parametrize("text", [b"GlobalAveragePool", b"features", b"logits", b"kernel_shape"])
def test_a_name_that_is_no_text_is_damage(text, tmp_path):
    nodes = [
        onnx.helper.make_node("MaxPool", ["image"], ["features"], kernel_shape=[2, 2]),
        onnx.helper.make_node("GlobalAveragePool", ["features"], ["logits"]),
    ]
    image, logits = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3, size, size])
        for name, size in (("image", 8), ("logits", 1))
    )
    graph = onnx.helper.make_graph(nodes, "g", [image], [logits])
    opset = onnx.helper.make_opsetid("", 18)
    data = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data.replace(text, b"\xff" + text[1:]))
    with pytest.raises(ModelError, match="a name in it is no text"):
        read_model(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(data)
    assert read_model(tmp_path / "m.onnx").graph.node[0].op_type == "MaxPool"
