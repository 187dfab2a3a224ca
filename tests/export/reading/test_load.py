"""What is wrong with a file is said in one clear line."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fusioncam.errors import FusionCamError
from fusioncam.export import export_model
from fusioncam.export.reading.file import OPSET
from fusioncam.export.reading.load import load_converted


def complaint(source, tmp_path):
    with pytest.raises(FusionCamError) as caught:
        export_model(source, tmp_path / "out" / "t.fcam")
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    assert len(text) < 300 + len(str(source))
    assert not (tmp_path / "out" / "t.fcam").exists()
    return text


def test_missing(tmp_path):
    assert "does not exist" in complaint(tmp_path / "none.onnx", tmp_path)


def test_folder(tmp_path):
    assert "is a folder" in complaint(tmp_path, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"some text\n", b"\x89PNG\r\n\x1a\n" * 9, b"\0" * 64, b"{}", b"PK\x03\x04" * 20]
)
def test_no_model(content, tmp_path):
    (tmp_path / "odd.onnx").write_bytes(content)
    assert "is not an ONNX" in complaint(tmp_path / "odd.onnx", tmp_path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_truncated(share, tiny, tmp_path):
    content = tiny().read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: int(share * len(content))])
    complaint(tmp_path / "cut.onnx", tmp_path)


@pytest.mark.parametrize(("value", "said"), [(np.nan, "tensor 'w2'"), (np.inf, "not finite")])
def test_damaged_weight(value, said, classifier, tmp_path):
    model = classifier()
    weight = numpy_helper.to_array(model.graph.initializer[1]).copy()
    weight[0, 0, 0, 0] = value
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(weight, "w2"))
    onnx.save(model, tmp_path / "damaged.onnx")
    assert said in complaint(tmp_path / "damaged.onnx", tmp_path)


def test_external_weights(classifier, tmp_path):
    onnx.save(
        classifier(), tmp_path / "split.onnx", save_as_external_data=True, location="split.data", size_threshold=16
    )
    export_model(tmp_path / "split.onnx", tmp_path / "t.fcam")
    whole = (tmp_path / "split.data").read_bytes()
    (tmp_path / "split.data").write_bytes(whole[: len(whole) // 2])
    complaint(tmp_path / "split.onnx", tmp_path)
    (tmp_path / "split.data").unlink()
    assert "the weights of" in complaint(tmp_path / "split.onnx", tmp_path)


def test_too_old(tiny, tmp_path):
    assert "opset 6; 7 is the oldest" in complaint(tiny(opset=6, ir_version=3, weights_as_inputs=True), tmp_path)


def test_unknown_operator_of_an_old_opset(classifier, tmp_path):
    model = classifier(opset=9)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "m.onnx")
    assert "NoSuchOperator" in complaint(tmp_path / "m.onnx", tmp_path)


def test_missing_weight(classifier, tmp_path):
    model = classifier()
    del model.graph.initializer[0]
    onnx.save(model, tmp_path / "gap.onnx")
    complaint(tmp_path / "gap.onnx", tmp_path)


def test_loop_in_graph(classifier, tmp_path):
    model = classifier()
    model.graph.node[0].input[0] = "c2"
    onnx.save(model, tmp_path / "loop.onnx")
    complaint(tmp_path / "loop.onnx", tmp_path)


def test_constants_are_folded(classifier, tmp_path):
    model = classifier()
    for weight in list(model.graph.initializer):
        node = onnx.helper.make_node("Constant", [], [weight.name + "_raw"], value=weight)
        model.graph.node.insert(0, onnx.helper.make_node("Identity", [weight.name + "_raw"], [weight.name]))
        model.graph.node.insert(0, node)
        model.graph.initializer.remove(weight)
    onnx.save(model, tmp_path / "constants.onnx")
    model, _ = load_converted(tmp_path / "constants.onnx")
    graph = model.graph
    assert "Constant" not in {n.op_type for n in graph}
    assert model.opset_imports[""] >= OPSET


def test_no_opset(classifier, tmp_path):
    model = classifier()
    del model.opset_import[:]
    onnx.save(model, tmp_path / "m.onnx")
    assert "opset_import is empty" in complaint(tmp_path / "m.onnx", tmp_path)


@pytest.mark.parametrize("ending", [".json", ".textproto", ".onnxtxt"])
@pytest.mark.parametrize("sound", [True, False])
def test_text_formats(ending, sound, classifier, tmp_path):
    path = tmp_path / f"m{ending}"
    onnx.save(classifier(), path)
    if not sound:
        path.write_text("hello")
    assert "is not an ONNX" in complaint(path, tmp_path)


def unknown_type(model):
    model.graph.initializer[0].data_type = 77


def twice(model):
    model.graph.node.append(model.graph.node[0])


def calls_itself(model):
    node = onnx.helper.make_node("Own", ["x"], ["y"], domain="my")
    own = onnx.helper.make_function("my", "Own", ["x"], ["y"], [node], [onnx.helper.make_opsetid("my", 1)])
    model.functions.append(own)
    model.opset_import.append(onnx.helper.make_opsetid("my", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Own", "my"


def no_source(model):
    model.graph.node[0].input[1] = "nowhere"


def attribute_of_another_type(model):
    attribute = next(a for a in model.graph.node[0].attribute if a.name == "pads")
    attribute.ClearField("ints")
    attribute.type, attribute.f = onnx.AttributeProto.FLOAT, 2


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (unknown_type, "Tensor 'w1' does not have valid data type"),
        (twice, "two nodes with same node name"),
        (calls_itself, "must not be recursive"),
        (no_source, "'nowhere'"),
        (attribute_of_another_type, "'conv : pads'. Expected: 'INTS', actual: 'FLOAT'"),
    ],
)
def test_damaged_graph_is_told_in_one_line(damage, said, classifier, tmp_path, capfd, caplog):
    model = classifier()
    damage(model)
    onnx.save(model, tmp_path / "m.onnx")
    assert said in complaint(tmp_path / "m.onnx", tmp_path)
    assert capfd.readouterr() == ("", "")
    assert caplog.records == [], "the libraries log nothing of their own"


@pytest.mark.parametrize(
    "error", [MemoryError("Unable to allocate 40.0 GiB for an array"), RuntimeError("std::bad_alloc")]
)
def test_lack_of_memory_is_not_blamed_on_the_file(error, tiny, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise error

    path = tiny()
    monkeypatch.setattr("fusioncam.export.reading.load.fold", fail)
    said = complaint(path, tmp_path)
    assert said.startswith("out of memory")
    assert "damaged" not in said


def test_scores_that_do_not_depend_on_the_image(tmp_path):
    nodes = [
        onnx.helper.make_node("Conv", ["image", "w"], ["features"]),
        onnx.helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        onnx.helper.make_node("Sigmoid", ["zeros"], ["scores"]),
    ]
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 8, 8])
    scores = onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 4])
    weights = {"w": np.ones((4, 3, 3, 3), np.float32), "shape": np.array([1, 4], np.int64)}
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", [image], [scores], constants)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "m.onnx")
    complaint(tmp_path / "m.onnx", tmp_path)
