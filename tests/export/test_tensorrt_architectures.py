"""TensorRT takes every graph of the architectures: its own builder makes engines of them."""

import onnx_ir as ir
import pytest

from fusioncam.export import export_model, single_graph
from fusioncam.export.canonical import canonicalize
from fusioncam.export.precision.score_graph import score_graph
from fusioncam.export.reading.shapes import noise
from fusioncam.manifest import SCORE_GRAPH, SINGLE_GRAPH

# `benchmarks/tensorrt.py` builds the graphs of all networks.
FEW = ("resnet_basic", "shufflenet_v2", "vit", "swin")


def test_architecture(few, export_of, middle_of, refused):
    for exported in (export_of(few), middle_of(few)):
        assert refused(exported.bundle) == []


@pytest.mark.parametrize("name", FEW)
def test_the_whole_method_of_an_architecture(name, export_of, refused, tmp_path):
    (tmp_path / SINGLE_GRAPH).write_bytes(single_graph(export_of(name).bundle))
    # Building takes seconds each, and is done of real models in `test_tensorrt.py`.
    assert refused(tmp_path, parsed={SINGLE_GRAPH}) == []


@pytest.mark.parametrize("name", FEW)
def test_architecture_in_float16(name, export_of, refused, tmp_path):
    export_model(export_of(name).source, tmp_path / "scores.fcam", precision="fp16")
    assert refused(tmp_path / "scores.fcam", (SCORE_GRAPH,)) == []
    # Its score graph is a float16 model like any other.
    manifest = export_model(tmp_path / "scores.fcam" / SCORE_GRAPH, tmp_path / "all.fcam")
    assert manifest.precision == "float16"
    assert refused(tmp_path / "all.fcam") == []


@pytest.mark.parametrize("name", FEW)
def test_architecture_in_symmetric_int8(name, export_of, refused, tmp_path):
    classifier = canonicalize(export_of(name).source)
    images = noise(classifier.model, 3, seed=3)
    score, _ = score_graph(classifier, "int8", lambda: [images], (-9, 9), symmetric=True)
    ir.save(score, tmp_path / SCORE_GRAPH)
    assert refused(tmp_path) == []
