"""What logits become, and models of one output: what the bundle says, and what its graphs give."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.errors import UsageError
from fusioncam.export import check, export_model, inspect_model
from fusioncam.export.checking.check import compare_logits
from fusioncam.export.random_pictures import pictures
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH


@pytest.fixture
def one(classifier, tmp_path):
    """Saves a small model of one output."""

    def save(name="one.onnx", keep_axes=False, rank_one=False, scale=1.0, **options):
        model = classifier(keep_axes=keep_axes, **options)
        for weight in model.graph.initializer:
            if weight.name in ("w3", "b3"):
                array = scale * numpy_helper.to_array(weight)
                cut = array[:1] if keep_axes or weight.name == "b3" else array[:, :1]
                weight.CopyFrom(numpy_helper.from_array(cut.astype(array.dtype), weight.name))
        if rank_one:
            model.graph.node.append(helper.make_node("Squeeze", ["scores", "axes"], ["flat_scores"]))
            model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "axes"))
            model.graph.output[0].name = "flat_scores"
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return save


def source_of(path, images, run):
    (outputs,) = run(path, {"image": images}).values()
    return outputs.reshape(len(images)).astype(np.float64)


FORMS = {
    "bare": {},
    "sigmoid": {"ending": ["Sigmoid"]},
    "four_axes": {"keep_axes": True},
    "four_axes_sigmoid": {"keep_axes": True, "ending": ["Sigmoid"]},
    "flattened": {"keep_axes": True, "ending": ["Sigmoid", "Flatten"]},
    "rank_one": {"rank_one": True},
    "fixed_batch": {"batch": 1},
    "fixed_batch_of_2": {"batch": 2, "ending": ["Sigmoid"]},
    "half": {"dtype": TensorProto.FLOAT16, "ending": ["Sigmoid"]},
}


@pytest.mark.parametrize("form", FORMS)
def test_one_output_speaks_both_ways(form, one, tmp_path, run):
    source = one(**FORMS[form])
    manifest = export_model(source, tmp_path / "t.fcam")
    with_sigmoid = "Sigmoid" in FORMS[form].get("ending", ())
    assert (manifest.classes, manifest.ending, manifest.source.outputs) == (2, "sigmoid", 1)
    assert manifest.source.ending == ("sigmoid" if with_sigmoid else "logits")
    assert manifest.labels is None
    assert all(f.ok for f in check(tmp_path / "t.fcam"))
    images = pictures(manifest, 2)
    given = run(tmp_path / "t.fcam" / SCORE_GRAPH, {"image": images})["logits"]
    assert np.array_equal(given[:, 0], -given[:, 1])
    chances = probabilities(given, manifest.ending)
    assert np.allclose(chances.sum(axis=1), 1)
    if "batch" not in form and "half" not in form:
        z = source_of(source, images, run)
        assert np.allclose(chances[:, 1] if with_sigmoid else given[:, 1], z, atol=1e-5)


def test_gradients_are_opposite(one, tmp_path, run):
    export_model(one(), tmp_path / "t.fcam")
    images = np.random.default_rng(1).random((1, 3, 8, 6), np.float32).repeat(3, axis=0)
    given = run(tmp_path / "t.fcam" / EXPLAIN_GRAPH, {"image": images, "class_index": np.array([0, 1, -1])})
    against, for_it, top = given["gradients"]
    assert np.abs(for_it).max() > 0
    assert np.array_equal(against, -for_it)
    assert np.array_equal(top, (against, for_it)[int(given["logits"][0].argmax())])


@pytest.mark.parametrize("ending", [None, "Sigmoid", "Tanh"])
def test_a_regression(ending, one, tmp_path, run):
    source = one(ending=[ending] if ending else [], scale=30.0)
    manifest = export_model(source, tmp_path / "t.fcam", ending="value", labels=["age"])
    assert (manifest.classes, manifest.ending, manifest.source.ending) == (2, "value", "logits")
    assert manifest.labels == ("lower age", "higher age")
    assert all(f.ok for f in check(tmp_path / "t.fcam"))
    images = pictures(manifest, 2)
    values = source_of(source, images, run)
    found = probabilities(run(tmp_path / "t.fcam" / SCORE_GRAPH, {"image": images})["logits"], manifest.ending)
    assert np.allclose(found, np.stack([-values, values], axis=1), rtol=1e-5), "what the model gives, unchanged"


def test_several_values(tiny, tmp_path, run):
    source = tiny(ending=["Sigmoid"])
    manifest = export_model(source, tmp_path / "t.fcam", ending="value")
    assert (manifest.classes, manifest.ending, manifest.source.outputs) == (5, "value", 5)
    assert all(f.ok for f in check(tmp_path / "t.fcam"))
    images = pictures(manifest, 2)
    given = run(tmp_path / "t.fcam" / SCORE_GRAPH, {"image": images})["logits"]
    assert np.allclose(given, run(source, {"image": images})["scores"], atol=1e-6)


@pytest.mark.parametrize("own", [None, "Softmax", "LogSoftmax", "Sigmoid"])
@pytest.mark.parametrize("ending", ["softmax", "sigmoid"])
def test_over_what_the_graph_says(own, ending, tiny, tmp_path, run):
    export_model(tiny(), tmp_path / "plain.fcam")
    manifest = export_model(tiny(ending=[own] if own else []), tmp_path / "t.fcam", ending=ending)
    said = {None: "logits", "Sigmoid": "sigmoid"}.get(own, "softmax")
    assert (manifest.ending, manifest.source.ending) == (ending, said)
    assert all(f.ok for f in check(tmp_path / "t.fcam")), "it is still held against what the source gives"
    feeds = {"image": pictures(manifest, 2)}
    logits = [run(tmp_path / name / SCORE_GRAPH, feeds)["logits"] for name in ("plain.fcam", "t.fcam")]
    assert np.allclose(*logits, atol=1e-6)


def test_labels_of_one_output(one, tmp_path):
    assert export_model(one(), tmp_path / "t.fcam", labels=["cat"]).labels == ("not cat", "cat")
    assert export_model(one(), tmp_path / "t.fcam", labels=["no", "yes"]).labels == ("no", "yes")
    model = onnx.load(one())
    helper.set_model_props(model, {"names": "{0: 'dog'}"})
    onnx.save(model, tmp_path / "named.onnx")
    assert export_model(tmp_path / "named.onnx", tmp_path / "t.fcam").labels == ("not dog", "dog")
    with pytest.raises(UsageError, match="3 labels were given, but the model has 2 classes"):
        export_model(one(), tmp_path / "t.fcam", labels=["a", "b", "c"])


def test_one_label_is_too_few_for_two_outputs(tiny, tmp_path):
    with pytest.raises(UsageError, match="1 labels were given, but the model has 5 classes"):
        export_model(tiny(), tmp_path / "t.fcam", labels=["cat"])


def test_endings_that_cannot_be(one, tiny, tmp_path):
    with pytest.raises(UsageError, match="no ending 'relu'; use softmax, sigmoid or value"):
        export_model(tiny(), tmp_path / "t.fcam", ending="relu")
    with pytest.raises(UsageError, match="a softmax over the model's one output is always 1; say --ending sigmoid or"):
        export_model(one(), tmp_path / "t.fcam", ending="softmax")
    assert not (tmp_path / "t.fcam").exists()


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_one_output_in_another_precision(precision, one, tmp_path):
    def photos(prep):
        rng = np.random.default_rng(0)
        return (rng.random((3, *prep.size), np.float32) for _ in range(6))

    source = one(size=(24, 32), ending=["Sigmoid"])
    calibrate = photos if precision == "int8" else None
    manifest = export_model(source, tmp_path / "t.fcam", preprocessing="unit", precision=precision, calibrate=calibrate)
    assert manifest.score_precision == {"fp16": "float16", "int8": "int8"}[precision]
    graph = onnx.load(tmp_path / "t.fcam" / SCORE_GRAPH).graph
    assert {n.op_type for n in graph.node if "logits" in n.output} <= {"Mul", "Cast"}, "the last number stays exact"


def test_check_sees_a_side_that_is_wrong(one, tmp_path):
    source = one()
    manifest = export_model(source, tmp_path / "t.fcam")
    model = onnx.load(tmp_path / "t.fcam" / SCORE_GRAPH, load_external_data=False)
    sides = next(i for i in model.graph.initializer if list(i.dims) == [1, 2])
    for wrong in ([[-1, 2]], [[1, 1]], [[-2, 1]]):
        sides.CopyFrom(numpy_helper.from_array(np.array(wrong, np.float32), sides.name))
        onnx.save(model, tmp_path / "t.fcam" / SCORE_GRAPH)
        bad = [f.what for f in compare_logits(tmp_path / "t.fcam", manifest, source) if not f.ok]
        assert bad == [f"output of {SCORE_GRAPH} equals the source's"]


def test_head_of_one_output(one, tmp_path, run):
    manifest = export_model(one(), tmp_path / "t.fcam")
    masks = np.ones((2, 1, *manifest.layer.shape[1:]), np.float32)
    given = run(tmp_path / "t.fcam" / HEAD_GRAPH, {"image": pictures(manifest, 1), "masks": masks})["logits"]
    assert given.shape == (2, 2)
    assert np.array_equal(given[:, 0], -given[:, 1])


def test_inspect(one):
    classifier = inspect_model(one()).classifier
    assert (classifier.outputs, classifier.classes, classifier.ending) == (1, 2, "sigmoid")
