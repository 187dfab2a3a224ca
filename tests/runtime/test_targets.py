"""Explaining what is no usual classifier: without a gradient, of one output, a regression."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export import export_model
from fusioncam.manifest import HEAD_GRAPH, MANIFEST, read_manifest, write_manifest
from fusioncam.runtime.methods import METHODS, WITHOUT_GRADIENT

PREPROCESSING = {"rescale": 1 / 255, "mean": (0.5,) * 3, "std": (0.25,) * 3}


@pytest.fixture
def exported(tiny, tmp_path):
    """The tiny network as another kind of model, in a bundle."""

    def export(change=None, name="other", **options):
        model = onnx.load(tiny.bundle.parent / "tiny.onnx")
        if change is not None:
            change(model.graph)
        onnx.save(model, tmp_path / f"{name}.onnx")
        export_model(tmp_path / f"{name}.onnx", tmp_path / f"{name}.fcam", preprocessing=PREPROCESSING, **options)
        return tmp_path / f"{name}.fcam"

    return export


def one_output(graph):
    """Of the five classes the second alone."""
    for tensor in graph.initializer:
        if tensor.name in ("w4", "b4"):
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[1:2], tensor.name))
    graph.output[0].CopyFrom(helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, ["N", 1]))


def test_without_a_gradient_the_other_methods_are_what_they_are_with_one(tiny, exported, pictures):
    bundle = exported(gradient=False)
    found = Explainer(bundle, methods=WITHOUT_GRADIENT).explain(pictures[0], 2)
    wanted = Explainer(tiny.bundle, methods=WITHOUT_GRADIENT).explain(pictures[0], 2)
    for method in WITHOUT_GRADIENT:
        np.testing.assert_allclose(found.maps[method], wanted.maps[method], atol=1e-5)
    assert found.maps["score_cam"].any()
    assert found.maps["recipro_cam"].any()
    assert "no_gradient" in found.flags
    assert "no_gradient" not in wanted.flags
    with pytest.raises(UsageError, match=r"fusion_cam needs a gradient, .* exported without; choose from score_cam, "):
        Explainer(bundle, methods=["fusion_cam"])
    assert Explainer(bundle).methods == ("score_cam",)


def end_in(*nodes):
    """Put operators behind the logits; each (type, names of its inputs, name of its output, attributes)."""

    def change(graph):
        last = graph.output[0].name
        for node in graph.node:
            node.output[:] = ["z" if name == last else name for name in node.output]
        graph.node.extend(helper.make_node(kind, inputs, [output], **more) for kind, inputs, output, more in nodes)
        graph.initializer.append(numpy_helper.from_array(np.float32(0.5), "half"))
        graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None))

    return change


SOFTMAXES = (
    ("Softmax", ["z"], "a", {"axis": 1}),
    ("Sin", ["z"], "s", {}),
    ("Softmax", ["s"], "b", {"axis": 1}),
    ("Mean", ["a", "b"], "y", {}),
)
DOUBTFUL = (("Sin", ["z"], "s", {}), ("Mul", ["s", "half"], "t", {}), ("Add", ["t", "half"], "y", {}))


@pytest.mark.parametrize(
    ("nodes", "flags"),
    [
        (SOFTMAXES, ["logits_out_of_reach"]),
        (DOUBTFUL, ["doubtful_logits"]),
        ([("LogSoftmax", ["z"], "l", {"axis": 1}), ("Exp", ["l"], "y", {})], []),
    ],
    ids=["mean", "within 0 and 1", "reached"],
)
def test_logits_that_are_not_the_models_own_are_flagged(nodes, flags, tiny, exported, pictures):
    bundle = exported(end_in(*nodes))
    found = Explainer(bundle, methods=["grad_cam"]).explain(pictures[0], 2)
    assert [f for f in found.flags if "logits" in f] == flags
    if flags != ["doubtful_logits"]:
        source = onnxruntime.InferenceSession(bundle.with_suffix(".onnx"))
        (given,) = source.run(None, {source.get_inputs()[0].name: pictures[0][None]})
        assert found.probability == pytest.approx(given[0, 2], abs=1e-5)
    if not flags:
        wanted = Explainer(tiny.bundle, methods=["grad_cam"]).explain(pictures[0], 2)
        np.testing.assert_allclose(found.maps["grad_cam"], wanted.maps["grad_cam"], atol=1e-5)


@pytest.mark.parametrize("budget", ["auto", 0.5])
def test_scores_are_guessed_without_a_gradient_too(exported, pictures, budget):
    found = Explainer(exported(gradient=False), methods=["score_cam"], budget=budget).explain(pictures[0], 2)
    assert np.isfinite(found.maps["score_cam"]).all()


@pytest.mark.parametrize("methods", [["recipro_cam"], ["fusion_cam", "fusion_cam:grad_cam+recipro_cam"]])
def test_a_bundle_without_a_head_says_so_before_anything_is_run(tiny, tmp_path, methods):
    old = tmp_path / "old.fcam"
    old.mkdir()
    for file in tiny.bundle.iterdir():
        if file.name not in (HEAD_GRAPH, MANIFEST):
            (old / file.name).write_bytes(file.read_bytes())
    manifest = read_manifest(tiny.bundle / MANIFEST)
    files = {name: digest for name, digest in manifest.files.items() if name != HEAD_GRAPH}
    write_manifest(old, manifest.model_copy(update={"files": files}))
    Explainer(old)
    with pytest.raises(UsageError, match=r"recipro_cam runs head.onnx, which the bundle lacks; export the model again"):
        Explainer(old, methods=methods)


def test_one_output_is_explained_for_and_against(tiny, exported, pictures):
    explainer = Explainer(exported(one_output, labels=["cat"]), methods=["grad_cam", "layer_cam", "score_cam"])
    for_it, against = explainer.explain_batch([pictures[0]], [[1, 0]])
    assert (for_it.label, against.label) == ("cat", "not cat")
    assert for_it.probability + against.probability == pytest.approx(1)
    wanted = Explainer(tiny.bundle, methods=["grad_cam", "layer_cam", "score_cam"]).explain(pictures[0], 1)
    for method, m in wanted.maps.items():  # the logit is that of the class it was
        np.testing.assert_allclose(for_it.maps[method], m, atol=1e-5)
    assert not np.allclose(against.maps["grad_cam"], for_it.maps["grad_cam"])


def test_a_regression_is_explained_by_its_value(tiny, oracle, exported, pictures):
    bundle = exported(one_output, ending="value", labels=["age"])
    found = Explainer(bundle, methods=[*METHODS, "score_cam_probability"]).explain(pictures[0], 1)
    value = oracle(tiny.bundle).logits(pictures[0])[1]
    assert found.label == "higher age"
    assert found.probability == pytest.approx(value, abs=1e-4)
    assert all(np.isfinite(m).all() for m in found.maps.values())
    wanted = Explainer(tiny.bundle, methods=["grad_cam", "score_cam"]).explain(pictures[0], 1)
    for method, m in wanted.maps.items():
        np.testing.assert_allclose(found.maps[method], m, atol=1e-5)
    with pytest.raises(UsageError, match="a regression has values, not probabilities"):
        Explainer(bundle).explain_batch([pictures[0]], above=0.5)
