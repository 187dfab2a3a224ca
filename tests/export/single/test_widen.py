"""Graphs whose masked passes are in float16."""

import numpy as np
import onnx
import pytest

from fusioncam import Explainer
from fusioncam.export import export_model, single_graph
from fusioncam.export.single import verify


@pytest.fixture(scope="module")
def halved(make_tiny, tmp_path_factory):
    """A bundle with scores in float16."""
    folder = tmp_path_factory.mktemp("half") / "half.fcam"
    source = make_tiny(zero=(1, 5), constant=(3,)).bundle.with_suffix(".onnx")
    export_model(source, folder, layer="layer", size=(24, 32), precision="fp16")
    return folder


def test_maps(halved, pictures, single_of, unrolled_of, farthest):
    wanted = Explainer(halved).explain(pictures[0], 1)
    for run in (single_of(halved), unrolled_of(halved)):
        assert farthest(run(pictures[0], 1), wanted) <= verify.LIMITS["float16"]


def test_weights_are_not_cast_in_every_turn(halved):
    graph = onnx.load_from_string(single_graph(halved)).graph
    (body,) = (a.g for node in graph.node if node.op_type == "Loop" for a in node.attribute if a.name == "body")
    weights = {t.name: t.data_type for t in body.initializer}
    cast = {name for node in body.node if node.op_type == "Cast" for name in node.input}
    assert not cast & weights.keys()
    convolutions = [node for node in body.node if node.op_type == "Conv"]
    assert len(convolutions) == 2
    assert {weights[c.input[1]] for c in convolutions} == {onnx.TensorProto.FLOAT}


def test_for_tensorrt_the_loop_stays_float16(halved, pictures, single_of, farthest):
    data = single_graph(halved, single_for="tensorrt")
    assert len(data) < len(single_graph(halved))
    graph = onnx.load_from_string(data).graph
    (body,) = (a.g for node in graph.node if node.op_type == "Loop" for a in node.attribute if a.name == "body")
    weights = {t.name: t.data_type for t in body.initializer}
    assert {weights[n.input[1]] for n in body.node if n.op_type == "Conv"} == {onnx.TensorProto.FLOAT16}
    found = single_of(halved, single_for="tensorrt")(pictures[0], 1)
    assert farthest(found, Explainer(halved).explain(pictures[0], 1)) <= verify.LIMITS["float16"]


def test_a_picture_that_does_not_fit_is_not_explained(halved, pictures, single_of):
    """As on hardware with float16 units: infinite, and so no number."""
    maps = single_of(halved)(pictures[0] * 1e6, 1)
    assert np.isnan(maps["fusion_cam"]).all()
    assert np.isnan(maps["score_cam"]).all()
