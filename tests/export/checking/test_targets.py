"""Damage to a bundle of maps or of an embedding is found."""

import shutil

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fusioncam.export import check, export_model
from fusioncam.export.targets.probes import checked_targets
from fusioncam.manifest import read_manifest, sha256, write_manifest

TASKS = {"segment": "y = Softmax <axis = 1> (z)", "embed": "y = Identity (e)"}


@pytest.fixture(scope="module", params=TASKS)
def exported(request, dense, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    export_model(dense.save(folder / "m.onnx", TASKS[request.param]), folder / "m.fcam", task=request.param)
    return folder


@pytest.fixture
def bundle(exported, tmp_path):
    shutil.copytree(exported / "m.fcam", tmp_path / "m.fcam")
    return tmp_path / "m.fcam"


def failures(bundle, exported):
    return [f.what for f in check(bundle, exported / "m.onnx") if not f.ok]


def change(bundle, name, edit):
    model = onnx.load(bundle / name, load_external_data=False)
    edit(model.graph)
    onnx.save(model, bundle / name)
    manifest = read_manifest(bundle / "manifest.json")
    files = {**manifest.files, name: sha256(bundle / name)}
    write_manifest(bundle, manifest.model_copy(update={"files": files}))


def twice(output):
    """Doubles an output of a graph."""

    def edit(graph):
        graph.initializer.append(numpy_helper.from_array(np.float32(2), "two"))
        for node in graph.node:
            node.output[:] = ["half" if name == output else name for name in node.output]
        graph.node.append(helper.make_node("Mul", ["half", "two"], [output]))

    return edit


@pytest.mark.parametrize("graph", ["explain.onnx", "score.onnx", "head.onnx"])
@pytest.mark.parametrize("output", ["scores", "confidences"])
def test_other_scores_are_found(graph, output, bundle, exported):
    assert failures(bundle, exported) == []
    change(bundle, graph, twice(output))
    assert f"{output} of targets by {graph} are those of the source's output" in failures(bundle, exported)


def test_another_gradient_is_found(bundle, exported):
    change(bundle, "explain.onnx", twice("gradients"))
    found = failures(bundle, exported)
    assert found
    assert all(what.startswith("gradient of a ") for what in found)


def test_another_output_is_found(bundle, exported):
    output = read_manifest(bundle / "manifest.json").form.output.name
    change(bundle, "explain.onnx", twice(output))
    assert "output of explain.onnx equals the source's" in failures(bundle, exported)


def test_a_checked_maximum_has_no_rivals(exported):
    """Beside places that are about as high, the maximum of a map has kinks that differences stumble over."""
    form = read_manifest(exported / "m.fcam" / "manifest.json").form
    if form.kind == "embedding":
        return
    rows, columns = np.mgrid[-1:1:6j, -1:1:8j]
    output = np.stack([-(rows**2) - columns**2] * form.output.shape[0])
    *_, (_, targets, _) = checked_targets(form, output)
    higher = output[0] > np.median(output[0])
    assert ((targets["region"][0] > 0) & higher).sum() == 1
