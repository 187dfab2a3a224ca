import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ModelError, UsageError
from fusioncam.export import export_model, inspect_model
from fusioncam.export.canonical import canonicalize
from fusioncam.export.gradient import RULES, path, unsupported
from fusioncam.export.layers.choice import survey


def surveyed(path):
    """The survey of a file, and its candidates by name."""
    survey_of_file = survey(canonicalize(path))
    return survey_of_file, {c.name: c for c in survey_of_file.candidates}


def test_candidates_in_order(tiny):
    of_model, layers = surveyed(tiny())
    assert list(layers) == ["r1", "relu"], "what is before an activation is left to what comes after it"
    assert [c.shape for c in layers.values()] == [(4, 8, 6), (6, 4, 6)]
    assert of_model.choose().name == "relu"
    assert not any(c.refused or c.bypassed for c in layers.values())


def test_channels_that_are_the_classes(classifier, tmp_path):
    model = classifier(keep_axes=True)
    nodes = {n.output[0]: n for n in model.graph.node}
    # As SqueezeNet has it: the classifying convolution comes before the pool.
    nodes["scores"].input[0], nodes["scores"].output[0] = "relu", "dense"
    nodes["pool"].input[0], nodes["pool"].output[0] = "dense", "scores"
    ordered = [n for n in model.graph.node if n.op_type != "GlobalAveragePool"] + [nodes["pool"]]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
    onnx.save(model, tmp_path / "m.onnx")
    of_model, layers = surveyed(tmp_path / "m.onnx")
    assert "its channels are the classes" in layers["dense"].refused
    assert of_model.choose().name == "relu"
    with pytest.raises(UsageError, match="layer 'dense' cannot explain the model: no weighted operator"):
        of_model.choose("dense")


def test_operator_without_rule(tiny, tmp_path, monkeypatch):
    monkeypatch.delitem(RULES, ("", "CumSum"))  # one that onnxruntime runs, and that keeps the shape
    source = tiny(operator="Relu")
    model = onnx.load(source)
    node = next(n for n in model.graph.node if n.name == "odd")
    node.op_type = "CumSum"
    node.input.append("axis")
    model.graph.initializer.append(numpy_helper.from_array(np.int64(2), "axis"))
    onnx.save(model, source)
    of_model, layers = surveyed(source)
    assert layers["r1"].refused == "no gradient rule for CumSum (node 'odd')"
    assert of_model.choose().name == "relu"
    with pytest.raises(UsageError, match="no gradient rule for CumSum"):
        export_model(source, tmp_path / "t.fcam", layer="r1")
    assert inspect_model(source).missing == {"CumSum": 1}


def test_explicit_layer_by_tensor_and_by_node(tiny, tmp_path):
    source = tiny()
    for name in ("r1", "relu1"):
        assert export_model(source, tmp_path / "t.fcam", layer=name).layer.name == "r1"


def test_a_short_name_is_taken_where_it_names_one_layer_alone(tiny):
    of_model, layers = surveyed(tiny())
    early, late = layers.values()
    early.value.name, late.value.name = "/body/body.1/act/Relu_output_0", "/body/body.2/act/Relu_output_0"
    assert of_model.choose("body.1/act/Relu") is early
    late.value.name = "/body/body.1/act/Relu:0"
    with pytest.raises(UsageError, match=r"no layer 'body\.1/act/Relu'"):
        of_model.choose("body.1/act/Relu")


def test_names(tiny):
    of_model, _ = surveyed(tiny())
    with pytest.raises(UsageError, match=r"no layer 'rlu2'; did you mean 'relu2'\?"):
        of_model.choose("rlu2")
    with pytest.raises(UsageError, match="no layer 'something else entirely'; did you mean"):
        of_model.choose("something else entirely")
    with pytest.raises(UsageError, match="layer 'flat' cannot explain the model"):
        of_model.choose("flat")
    for layer in ("flat", "conv2", "c1", "scores", "image"):
        with pytest.raises(UsageError):
            export_model(tiny(), "never", layer=layer)


def test_nothing_to_choose(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["image"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 4, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((48, 5), np.float32), "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="no layer can explain the model: none has height and width"):
        export_model(tmp_path / "m.onnx", tmp_path / "t.fcam")
    report = inspect_model(tmp_path / "m.onnx")
    assert (report.layers, report.default) == ([], None)
    assert "none has height and width" in report.reason


MOVES = {
    "mirrored": ("Slice", ["last", "first", "columns", "last"]),
    "padded": ("Pad", ["below"]),
    "cut": ("Slice", ["four", "end", "columns"]),
}


@pytest.mark.parametrize("change", MOVES)
def test_pictures_that_the_model_moves(change, classifier, tmp_path):
    model = classifier()
    numbers = {"last": [-1], "first": [-99], "four": [4], "end": [99], "columns": [3], "below": [0] * 6 + [8, 0]}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(v), k) for k, v in numbers.items())
    operator, arguments = MOVES[change]
    model.graph.node.insert(0, helper.make_node(operator, ["image", *arguments], ["moved"]))
    model.graph.node[1].input[0] = "moved"
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="cover the picture in order, neither mirrored nor padded nor cut out"):
        export_model(tmp_path / "m.onnx", tmp_path / "t.fcam")


@pytest.mark.parametrize("mode", ["constant", "reflect"])
def test_padding_before_a_window_is_the_windows_own(mode, classifier, tmp_path):
    """Keras pads by an operator of its own; the layers after it cover the picture all the same."""
    model = classifier()
    ring = numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "ring")
    model.graph.initializer.append(ring)
    for i, conv in [(i, n) for i, n in enumerate(model.graph.node) if n.op_type == "Conv"][::-1]:
        conv.attribute.remove(next(a for a in conv.attribute if a.name == "pads"))
        padded = f"padded{i}"
        model.graph.node.insert(i, helper.make_node("Pad", [conv.input[0], "ring"], [padded], mode=mode))
        conv.input[0] = padded
    onnx.save(model, tmp_path / "m.onnx")
    layer = export_model(tmp_path / "m.onnx", tmp_path / "t.fcam").layer
    assert (layer.name, layer.shape, layer.early) == ("relu", (6, 4, 6), False)


def test_bypassed_layers_are_listed_but_not_taken(export_of):
    of_model = survey(canonicalize(export_of("resnet_basic").source))
    assert not of_model.choose().bypassed
    inner = [c for c in of_model.candidates if c.bypassed]
    assert inner
    assert all(c.refused is None for c in inner)


def test_only_the_class_token_is_read(export_of):
    exported = export_of("vit")
    layers = survey(canonicalize(exported.source)).candidates
    names = [c.name for c in layers]
    after = layers[names.index(exported.manifest.layer.name) + 1 :]
    assert [c.layout.offset for c in layers if "T" in c.layout.roles and c.name == exported.manifest.layer.name] == [1]
    assert after, "the tensors after the last attention are listed"
    assert {c.refused for c in after if not c.bypassed} == {"only its class token reaches the logits"}


def test_roles_follow_the_axes(export_of):
    expected = {
        "swin": {"NCHW", "NHWC"},
        "convnext": {"NCHW", "NHWC"},
        "mixer": {"NCHW", "NTC", "NCT"},
        "vgg": {"NCHW"},
    }
    for name, roles in expected.items():
        layers = survey(canonicalize(export_of(name).source)).candidates
        assert {c.layout.roles for c in layers} <= roles, name
        for layer in layers:
            assert set(layer.layout.roles) <= set("NCHWT")
            assert layer.shape[1] * layer.shape[2] > 1


def test_grids_of_a_merging_network(export_of):
    layers = survey(canonicalize(export_of("swin").source)).candidates
    assert {(12, 12), (6, 6), (3, 3)} <= {c.layout.grid for c in layers}


@pytest.mark.parametrize("operator", [None, "CumSum", "Relu"])
def test_refusals_are_those_of_each_way_by_itself(operator, classifier, tmp_path):
    model = classifier(operator="Relu" if operator else None)
    nodes = {n.output[0]: n for n in model.graph.node}
    if operator == "CumSum":
        nodes["extra"].op_type = operator
        nodes["extra"].input.append("axis")
        model.graph.initializer.append(numpy_helper.from_array(np.int64(2), "axis"))
    if operator:
        # One way has the operator, the other goes past it.
        model.graph.node.insert(3, helper.make_node("Sin", ["r1"], ["side"]))
        model.graph.node.insert(4, helper.make_node("Add", ["side", "extra"], ["both"]))
        nodes["c2"].input[0] = "both"
    onnx.save(model, tmp_path / "m.onnx")
    made = canonicalize(tmp_path / "m.onnx")
    layers = survey(made).candidates
    assert len(layers) > 1
    for candidate in layers:
        after = path(candidate.value, made.output)
        assert (candidate.refused is not None) == bool(unsupported(after)), candidate.name
        for node in unsupported(after):
            assert node.op_type in candidate.refused


def test_diagonals_are_not_followed(tmp_path):
    text = """<ir_version: 10, opset_import: ["": 20]> m (float[N,3,8,8] image) => (float[N,5] y)
        <float[4,3,3,3] k = {K}, float[32,5] w = {W}> {
        c = Conv <pads = [1, 1, 1, 1]> (image, k) r = Relu (c)
        d = Einsum <equation = "nchh->nch"> (r) f = Flatten (d) y = MatMul (f, w) }"""
    rng = np.random.default_rng(0)
    for letter, size in (("K", 108), ("W", 160)):
        text = text.replace("{" + letter + "}", "{" + ", ".join(f"{v:.3f}" for v in rng.normal(size=size)) + "}")
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    assert surveyed(tmp_path / "m.onnx")[0].choose().name == "r"
