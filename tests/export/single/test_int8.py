"""The forms of a bundle with int8 scores, whose full-size maps pass through the float32 network."""

import numpy as np
import onnx

from fusioncam import Explainer
from fusioncam.export import single_graph


def test_maps_are_those_of_the_explainer(tiny_int8, single_of, unrolled_of, pictures, farthest):
    single, unrolled = single_of(tiny_int8), unrolled_of(tiny_int8)
    explainer = Explainer(tiny_int8, methods=["fusion_cam", "grad_cam", "score_cam"])
    for x in pictures:
        wanted = explainer.explain(x)
        assert farthest(single(x), wanted) <= 2e-3  # masks differ in their last digit, and round to other steps
        assert farthest(unrolled(x), wanted) <= 2e-3


def test_the_float32_weights_are_stored_once(tiny_int8):
    model = onnx.load_from_string(single_graph(tiny_int8))
    (loop,) = (n for n in model.graph.node if n.op_type == "Loop")
    inside = [a.g for a in loop.attribute if a.name == "body"]
    floats = []
    while inside:
        graph = inside.pop()
        floats += [i for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT]
        inside += [a.g for n in graph.node for a in n.attribute if a.HasField("g")]
    weights = [i for i in model.graph.initializer if np.prod(i.dims) > 800]
    assert weights
    assert max(np.prod(i.dims) for i in floats) < 800  # matrices that enlarge masks
