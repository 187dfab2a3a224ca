"""A model that gives another output on each run is refused by the node that is random."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import ModelError
from fusioncam.export import check, export_model, inspect_model
from fusioncam.export.checking.check import compare_logits
from fusioncam.export.reading.shapes import repeats


def noisy(model, node, constants=None, at=2):
    """Put a node that reads r1 before the second convolution, which reads what it gives."""
    model.graph.node.insert(at, node)
    for after in model.graph.node[at + 1 :]:
        after.input[:] = ["extra" if i == "r1" else i for i in after.input]
    for name, value in (constants or {}).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return model


def added(model, *nodes):
    """Put nodes, the last of which makes `rnd`, before the second convolution, and add `rnd` to what that reads."""
    noisy(model, helper.make_node("Add", ["r1", "rnd"], ["extra"], "sum"))
    for node in reversed(nodes):
        model.graph.node.insert(2, node)
    return model


def own_function(model):
    node = helper.make_node("RandomNormalLike", ["a"], ["n"], "inner")
    total = helper.make_node("Add", ["a", "n"], ["b"])
    opsets = [helper.make_opsetid("", 18)]
    model.functions.append(helper.make_function("my", "Jitter", ["a"], ["b"], [node, total], opsets))
    model.opset_import.append(helper.make_opsetid("my", 1))
    return noisy(model, helper.make_node("Jitter", ["r1"], ["extra"], domain="my"))


def branch(model):
    value = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    then = helper.make_graph([helper.make_node("RandomUniformLike", ["r1"], ["t"], "inner")], "then", [], [value])
    other = helper.make_graph([helper.make_node("Identity", ["r1"], ["t"])], "else", [], [value])
    node = helper.make_node("If", ["some"], ["extra"], "choice", then_branch=then, else_branch=other)
    noisy(model, node, {"zero": np.float32(0)})
    model.graph.node.insert(2, helper.make_node("Greater", ["sum", "zero"], ["some"]))
    model.graph.node.insert(2, helper.make_node("ReduceSum", ["r1"], ["sum"], keepdims=0))
    return model


def loop(model):
    info = [
        helper.make_tensor_value_info(n, t, s)
        for n, t, s in (("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("v", TensorProto.FLOAT, None))
    ]
    nodes = [
        helper.make_node("RandomNormalLike", ["v"], ["n"], "inner"),
        helper.make_node("Add", ["v", "n"], ["w"]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    outputs = [
        helper.make_tensor_value_info(n, t, None) for n, t in (("on", TensorProto.BOOL), ("w", TensorProto.FLOAT))
    ]
    body = helper.make_graph(nodes, "body", info, outputs)
    node = helper.make_node("Loop", ["times", "", "r1"], ["extra"], "again", body=body)
    return noisy(model, node, {"times": np.int64(2)})


RANDOM_MODELS = {
    "RandomNormalLike": lambda m: added(m, helper.make_node("RandomNormalLike", ["r1"], ["rnd"], "odd")),
    "RandomUniformLike": lambda m: added(m, helper.make_node("RandomUniformLike", ["r1"], ["rnd"], "odd", seed=3.0)),
    "RandomNormal": lambda m: added(m, helper.make_node("RandomNormal", [], ["rnd"], "odd", shape=[1, 4, 1, 1])),
    "RandomUniform": lambda m: added(m, helper.make_node("RandomUniform", [], ["rnd"], "odd", shape=[1, 4, 1, 1])),
    "Bernoulli": lambda m: added(
        m, helper.make_node("Sigmoid", ["r1"], ["p"]), helper.make_node("Bernoulli", ["p"], ["rnd"], "odd")
    ),
    "Bernoulli, of a constant": lambda m: added(
        m,
        helper.make_node("Constant", [], ["p"], value_floats=[0.5] * 6),
        helper.make_node("Bernoulli", ["p"], ["rnd"], "odd"),
    ),
    "Multinomial": lambda m: added(
        m,
        helper.make_node("Constant", [], ["p"], value=numpy_helper.from_array(np.ones((1, 3), np.float32))),
        helper.make_node("Multinomial", ["p"], ["drawn"], "odd", sample_size=6),
        helper.make_node("Cast", ["drawn"], ["rnd"], to=TensorProto.FLOAT),
    ),
    "Dropout": lambda m: noisy(
        m,
        helper.make_node("Dropout", ["r1", "share", "yes"], ["extra"], "odd"),
        {"share": np.float32(0.5), "yes": True},
    ),
    "RandomNormalLike, in a function": own_function,
    "RandomUniformLike, in a branch": branch,
    "RandomNormalLike, in a loop": loop,
}


@pytest.mark.parametrize("kind", RANDOM_MODELS)
def test_a_random_model_is_refused_by_name(kind, classifier, tmp_path):
    onnx.save(RANDOM_MODELS[kind](classifier()), tmp_path / "m.onnx")
    name = "inner" if ", in a" in kind else "odd"
    for take in (inspect_model, lambda path: export_model(path, tmp_path / "m.fcam")):
        with pytest.raises(
            ModelError, match=rf"node '{name}' \({kind.partition(',')[0]}\) .* at random|random numbers"
        ):
            take(tmp_path / "m.onnx")


def test_what_is_random_may_stay_where_nothing_reads_it(classifier, tmp_path):
    model = classifier()
    model.graph.node.append(helper.make_node("RandomNormalLike", ["r1"], ["unused"], "odd"))
    model.graph.output.append(helper.make_tensor_value_info("unused", TensorProto.FLOAT, None))
    onnx.save(model, tmp_path / "m.onnx")
    export_model(tmp_path / "m.onnx", tmp_path / "m.fcam", output="scores")
    assert all(f.ok for f in check(tmp_path / "m.fcam"))


@pytest.mark.parametrize("ratio", [0.5, 0.0])
def test_dropout_that_drops_nothing_stays(ratio, classifier, tmp_path):
    constants = {"share": np.float32(ratio), "no": False}
    node = helper.make_node("Dropout", ["r1", "share", "no"], ["extra"], "odd")
    onnx.save(noisy(classifier(), node, constants), tmp_path / "m.onnx")
    assert inspect_model(tmp_path / "m.onnx").default is not None


def test_dropout_whose_mode_is_computed_is_refused(classifier, tmp_path):
    """No constant says that it drops: it does so for any picture with a sum above zero."""
    node = helper.make_node("Dropout", ["r1", "share", "some"], ["extra"], "odd")
    model = noisy(classifier(), node, {"share": np.float32(0.5), "zero": np.float32(0)})
    model.graph.node.insert(2, helper.make_node("Greater", ["sum", "zero"], ["some"]))
    model.graph.node.insert(2, helper.make_node("ReduceSum", ["r1"], ["sum"], keepdims=0))
    onnx.save(model, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match=r"'odd' \(Dropout\) drops values at random"):
        inspect_model(tmp_path / "m.onnx")


def test_what_no_list_names_is_seen_by_running_twice(classifier, tmp_path, monkeypatch):
    monkeypatch.setattr("fusioncam.export.reading.load.RANDOM", ())
    onnx.save(RANDOM_MODELS["RandomNormalLike"](classifier()), tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="output 'scores' is random: a second run on the same picture"):
        inspect_model(tmp_path / "m.onnx")


def test_check_finds_a_bundle_that_has_become_random(classifier, tmp_path):
    onnx.save(classifier(), tmp_path / "m.onnx")
    bundle = tmp_path / "m.fcam"
    manifest = export_model(tmp_path / "m.onnx", bundle)
    model = onnx.load(bundle / "score.onnx", load_external_data=False)
    first = model.graph.node[0]
    first.output[0], before = "before", first.output[0]
    model.graph.node.insert(1, helper.make_node("RandomNormalLike", ["before"], ["rnd"], scale=0.1))
    model.graph.node.insert(2, helper.make_node("Add", ["before", "rnd"], [before]))
    onnx.save(model, bundle / "score.onnx")
    findings = compare_logits(bundle, manifest, tmp_path / "m.onnx")
    assert any("score.onnx is random" in f.what for f in findings if not f.ok)


def test_threads_may_add_in_another_order():
    one = np.asarray([1.0, -2, 3], np.float32)
    assert repeats(one, one + np.float32(1e-6))
    assert not repeats(one, one + np.float32(0.1))
    assert repeats(np.asarray([np.nan, np.inf]), np.asarray([np.nan, np.inf]))
    assert not repeats(np.asarray([1, 2]), np.asarray([1, 3]))
