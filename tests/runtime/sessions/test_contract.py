"""Graphs are held against their manifest on opening: of bundles that say what they are, and of older ones."""

import hashlib
import json
import shutil

import numpy as np
import onnx
import pytest

from fusioncam import Explainer
from fusioncam.errors import BundleError
from fusioncam.manifest import EXPLAIN_GRAPH, FACTS, HEAD_GRAPH, MANIFEST, SCORE_GRAPH, signed

CHANGES = {
    "layer's channels": {"layer": {"shape": [11, 6, 8]}},
    "layer's height": {"layer": {"shape": [12, 5, 8]}},
    "layer's axes": {"layer": {"roles": "NHWC"}},
    "layer's name": {"layer": {"name": "elsewhere"}},
    "size": {"preprocessing": {"size": [32, 24]}},
    "mean": {"preprocessing": {"mean": [0.5, 0.5, 0.25]}},
    "classes": {"classes": 4},
    "ending": {"ending": "sigmoid"},
    "gradient": {"gradient": False},
    "precision": {"precision": "float16"},
    "score_precision": {"score_precision": "float16"},
    "int8": {"score_precision": "int8"},
    "opset": {"opset": 20},
    "labels": {"labels": ["a", "b", "c", "d", "e"]},
}
SEEN_IN_SHAPES = ("layer's channels", "layer's height", "size", "classes", "gradient", "score_precision")


@pytest.fixture
def bundle(tiny, tmp_path):
    return shutil.copytree(tiny.bundle, tmp_path / "b.fcam")


def edit(bundle, changes=None):
    """Change fields of the manifest, enter the files as they are, and sign it: as if all were meant."""
    content = json.loads((bundle / MANIFEST).read_text())
    for name, value in (changes or {}).items():
        content[name] = {**content[name], **value} if isinstance(value, dict) else value
    content["files"] = {n: hashlib.sha256((bundle / n).read_bytes()).hexdigest() for n in content["files"]}
    (bundle / MANIFEST).write_bytes(signed(json.dumps(content).encode()))


def refused(bundle, **options):
    with pytest.raises(
        BundleError, match=r"\.onnx does not fit the manifest\.json beside it: .*; export the model"
    ) as e:
        Explainer(bundle, **options)
    assert "\n" not in str(e.value)
    return str(e.value)


@pytest.mark.parametrize("change", CHANGES)
def test_a_manifest_that_does_not_fit(bundle, change):
    edit(bundle, CHANGES[change])
    refused(bundle, methods=("score_cam",))


def without_facts(bundle):
    graph = onnx.load(bundle / EXPLAIN_GRAPH, load_external_data=False)
    kept = [p for p in graph.metadata_props if p.key != FACTS]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    onnx.save(graph, bundle / EXPLAIN_GRAPH)
    edit(bundle)


@pytest.mark.parametrize("change", SEEN_IN_SHAPES)
def test_the_manifest_of_an_older_bundle_that_does_not_fit(bundle, change):
    without_facts(bundle)
    assert Explainer(bundle).manifest
    edit(bundle, CHANGES[change])
    refused(bundle, methods=("score_cam",))


def renamed(graph, old, new):
    for node in graph.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
    for value in (*graph.graph.input, *graph.graph.output):
        value.name = new if value.name == old else value.name


def resized(graph, old, _):
    for value in graph.graph.input:
        if value.name == old:
            value.type.tensor_type.shape.dim[2].dim_value += 1


@pytest.mark.parametrize(
    ("name", "tensor", "change"),
    [
        (EXPLAIN_GRAPH, "image", renamed),
        (EXPLAIN_GRAPH, "image", resized),
        (EXPLAIN_GRAPH, "class_index", renamed),
        (EXPLAIN_GRAPH, "activations", renamed),
        (SCORE_GRAPH, "image", renamed),
        (SCORE_GRAPH, "image", resized),
        (SCORE_GRAPH, "logits", renamed),
    ],
)
def test_a_graph_of_another_bundle(bundle, name, tensor, change):
    graph = onnx.load(bundle / name, load_external_data=False)
    change(graph, tensor, "other")
    onnx.save(graph, bundle / name)
    edit(bundle)
    with pytest.raises(BundleError, match="export the model again"):
        Explainer(bundle)


def test_the_head_when_it_is_needed(bundle):
    graph = onnx.load(bundle / HEAD_GRAPH, load_external_data=False)
    renamed(graph, "masks", "other")
    onnx.save(graph, bundle / HEAD_GRAPH)
    edit(bundle)
    explainer = Explainer(bundle, methods=("recipro_cam",))
    with pytest.raises(BundleError, match=r"head\.onnx does not fit .*it has no masks"):
        explainer.explain(np.zeros((3, 24, 32), np.float32))


@pytest.mark.parametrize("text", [b'"classes"', b"activations"])
def test_a_text_that_is_damaged(bundle, text):
    graph = bundle / EXPLAIN_GRAPH
    graph.write_bytes(graph.read_bytes().replace(text, b"\xff" + text[1:]))
    edit(bundle)
    with pytest.raises(BundleError) as error:
        Explainer(bundle)
    assert "explain.onnx" in str(error.value)
    assert "\n" not in str(error.value)
