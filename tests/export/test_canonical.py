"""The forms in which model files come: all lead to the same logits, the same layer and a right gradient."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ModelError, UsageError
from fusioncam.export import check, export_model
from fusioncam.export.canonical import canonicalize

FORMS = {
    "plain": {},
    "softmax": {"ending": ["Softmax"]},
    "log_softmax": {"ending": ["LogSoftmax"]},
    "sigmoid": {"ending": ["Sigmoid"]},
    "identity_softmax_identity": {"ending": ["Identity", "Softmax", "Identity"]},
    "four_axes": {"keep_axes": True},
    "four_axes_softmax": {"keep_axes": True, "ending": [("Softmax", {"axis": 1})]},
    "four_axes_flattened": {"keep_axes": True, "ending": ["Flatten", "Softmax"]},
    "channels_last": {"channels_last": True},
    "uint8_input": {"input_type": TensorProto.UINT8},
    "uint8_channels_last": {"input_type": TensorProto.UINT8, "channels_last": True},
    "fixed_batch": {"batch": 1},
    "fixed_batch_of_2": {"batch": 2, "ending": ["Softmax"]},
    "half": {"dtype": TensorProto.FLOAT16},
    "half_softmax": {"dtype": TensorProto.FLOAT16, "ending": ["Softmax"]},
    "half_inside": {"dtype": TensorProto.FLOAT16, "input_type": TensorProto.FLOAT},
    "ir_3": {"ir_version": 3, "opset": 8, "weights_as_inputs": True, "ending": ["Softmax"]},
    "long_names": {"names": [c * 250 for c in "abcd"]},
    "odd_names": {"names": ["serving;0/x", "a/b;c", "model/re;lu", "Identity:0"]},
    "taken_names": {"names": ["logits", "gradients", "activations", "image"]},
    "numbered_names": {"names": ["0", "1", "2", "3"]},
}
FORMS |= {f"opset_{n}": {"opset": n, "ir_version": 3 if n < 9 else 7, "weights_as_inputs": n < 9} for n in range(7, 18)}
ENDINGS = {"softmax": "softmax", "log_softmax": "softmax", "sigmoid": "sigmoid"}


@pytest.mark.parametrize("form", FORMS)
def test_form(form, tiny, tmp_path):
    source = tiny(**FORMS[form])
    manifest = export_model(source, tmp_path / "t.fcam")
    assert manifest.preprocessing.rescale == (1.0 if "uint8" in form else 1 / 255), "bytes are taken as they are"
    assert (manifest.layer.shape, manifest.classes) == ((6, 4, 6), 5)
    assert manifest.source.input == FORMS[form].get("names", ["image"])[0]
    assert manifest.source.output == FORMS[form].get("names", ["scores"])[-1]
    assert manifest.precision == ("float16" if "half" in form else "float32")
    endings = [e if isinstance(e, str) else e[0] for e in FORMS[form].get("ending", ())]
    softmax = {"Softmax", "LogSoftmax"} & set(endings)
    assert manifest.ending == ("softmax" if softmax else "sigmoid" if "Sigmoid" in endings else "logits")
    assert [f for f in check(tmp_path / "t.fcam") if not f.ok] == []


def test_every_form_gives_the_same_maps(tiny, tmp_path, run):
    feeds = {
        "image": np.random.default_rng(1).random((3, 3, 8, 6), np.float32),
        "class_index": np.array([-1, 2, 0], np.int64),
    }
    given = {}
    for form in ("plain", "softmax", "channels_last", "fixed_batch", "fixed_batch_of_2", "half", "opset_7"):
        export_model(tiny(**FORMS[form]), tmp_path / "t.fcam")
        given[form] = run(tmp_path / "t.fcam" / "explain.onnx", feeds)
    for form, outputs in given.items():
        for name, array in outputs.items():
            assert array.dtype == np.float32
            assert np.allclose(array, given["plain"][name], atol=5e-3 if form == "half" else 1e-6), (form, name)


def test_open_size_must_be_given(tiny, tmp_path):
    source = tiny(size=("H", "W"))
    with pytest.raises(UsageError, match="--size H W"):
        canonicalize(source)
    assert canonicalize(source, (8, 6)).size == (8, 6)
    assert export_model(source, tmp_path / "t.fcam", size=(8, 6)).preprocessing.size == (8, 6)


def test_wrong_size(tiny):
    with pytest.raises(UsageError, match="8 x 6"):
        canonicalize(tiny(), (9, 6))
    assert canonicalize(tiny(), (8, 6)).size == (8, 6)


def test_size_is_two_positive_numbers(tiny):
    source = tiny(size=("H", "W"))
    assert canonicalize(source, np.array([8, 6])).size == (8, 6)
    for size in (5, (8,), (8, 6, 3), (8.0, 6.0), ("8", "6"), (0, 6), (-8, 6)):
        with pytest.raises(UsageError, match="two positive whole numbers"):
            canonicalize(source, size)


def with_outputs(model, *names):
    model.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names)
    return model


def test_several_outputs(classifier, tmp_path):
    source = tmp_path / "several.onnx"
    onnx.save(with_outputs(classifier(), "flat"), source)
    with pytest.raises(UsageError, match=r"several outputs.*scores, flat"):
        canonicalize(source)
    with pytest.raises(UsageError, match="no output 'nope'"):
        canonicalize(source, output="nope")
    manifest = export_model(source, tmp_path / "t.fcam", output="scores")
    assert manifest.source.output == "scores"
    assert [f for f in check(tmp_path / "t.fcam") if not f.ok] == []


def test_integer_outputs_are_no_scores(classifier, tmp_path):
    model = classifier()
    model.graph.node.append(helper.make_node("ArgMax", ["scores"], ["top"], axis=1))
    model.graph.output.insert(0, helper.make_tensor_value_info("top", TensorProto.INT64, None))
    onnx.save(model, tmp_path / "top.onnx")
    assert canonicalize(tmp_path / "top.onnx").reading.name == "scores"


@pytest.mark.parametrize("tensor", ["r1", "c2"])
def test_dense_output_is_read_as_maps(tensor, classifier, tmp_path):
    model = classifier()
    del model.graph.output[:]
    onnx.save(with_outputs(model, tensor), tmp_path / "dense.onnx")
    found = canonicalize(tmp_path / "dense.onnx")
    assert (found.task, found.reading.reader_name) == ("segment", "maps")
    assert found.form.output.shape == (found.classes, *found.map_size)


def test_two_images(classifier, tmp_path):
    model = classifier()
    model.graph.input.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, ("N", 3, 8, 6)))
    onnx.save(model, tmp_path / "two.onnx")
    found = canonicalize(tmp_path / "two.onnx")
    assert found.taken.name == "image"
    assert [further.name for further in found.further] == ["second"]


def test_table_of_numbers(tmp_path):
    of_rows, scores = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N", 3)) for name in ("rows", "scores"))
    graph = helper.make_graph([helper.make_node("Softmax", ["rows"], ["scores"])], "table", [of_rows], [scores])
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "table.onnx"
    )
    with pytest.raises(ModelError, match=r"shape \['\?', 3\]; the model must take a picture \(N, C, H, W\)"):
        canonicalize(tmp_path / "table.onnx")


def test_unknown_operator(classifier, tmp_path):
    model = classifier(operator="Strange")
    model.graph.node[2].domain = "elsewhere"
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(ModelError, match="elsewhere"):
        canonicalize(tmp_path / "odd.onnx")


@pytest.mark.parametrize("name", ["image", "class_index", "logits", "activations", "gradients"])
def test_a_weight_may_have_any_name(name, classifier, tmp_path):
    model = classifier(names=("x", "conv", "relu", "scores"))
    model.graph.initializer[0].name = model.graph.node[0].input[1] = name
    onnx.save(model, tmp_path / "m.onnx")
    export_model(tmp_path / "m.onnx", tmp_path / "m.fcam")
    assert [f for f in check(tmp_path / "m.fcam") if not f.ok] == []


def ending_in(model, *nodes):
    model.graph.node.extend(nodes)
    model.graph.output[0].name = nodes[-1].output[0]
    model.graph.output[0].type.Clear()
    return model


@pytest.mark.parametrize("then", [(), ("Cast", {"to": TensorProto.FLOAT})])
@pytest.mark.parametrize("batch", ["N", 1])
def test_class_numbers_are_no_scores(then, batch, classifier, tmp_path):
    nodes = [helper.make_node("ArgMax", ["scores"], ["top"], axis=1, keepdims=1)]
    if then:
        nodes.append(helper.make_node(then[0], ["top"], ["real"], **then[1]))
    onnx.save(ending_in(classifier(batch=batch), *nodes), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="the model ends in ArgMax: it gives class numbers, not scores; cut the graph"):
        canonicalize(tmp_path / "m.onnx")


def test_no_gradient_at_all(classifier, tmp_path):
    nodes = [helper.make_node("Cast", ["scores"], ["whole"], to=TensorProto.INT32)]
    nodes.append(helper.make_node("Cast", ["whole"], ["real"], to=TensorProto.FLOAT))
    nodes.append(helper.make_node("Neg", ["real"], ["last"]))
    onnx.save(ending_in(classifier(), *nodes), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="output 'last' has no gradient"):
        canonicalize(tmp_path / "m.onnx")


def test_sequence_is_no_score(classifier, tmp_path):
    model = ending_in(classifier(), helper.make_node("SequenceConstruct", ["scores"], ["list"]))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="output 'list' is no tensor"):
        canonicalize(tmp_path / "m.onnx")


def test_no_classes(classifier, tmp_path):
    model = classifier()
    for weight in model.graph.initializer[2:]:
        empty = np.zeros([*weight.dims[:-1], 0], np.float32)
        weight.CopyFrom(numpy_helper.from_array(empty, weight.name))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"'scores' holds no class scores: its shape is \(N, 0\)"):
        canonicalize(tmp_path / "m.onnx")


def test_output_of_nothing(classifier, tmp_path):
    model = classifier()
    for name in ("nowhere", "w1"):
        model.graph.output[0].name = name
        onnx.save(model, tmp_path / "m.onnx")
        with pytest.raises(ModelError, match=rf"'{name}' is not computed from the image|\({name}\) does not exist"):
            canonicalize(tmp_path / "m.onnx")
    del model.graph.output[:]
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="the model has no output"):
        canonicalize(tmp_path / "m.onnx")
