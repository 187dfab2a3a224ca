"""A Resize by the sizes of some axes: TensorRT takes it with a free batch, and it gives what it gave."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.export import export_model
from fusioncam.export.batch.resizing import SIZES
from fusioncam.manifest import EXPLAIN_GRAPH, SCORE_GRAPH

SHORT = {"axes [2, 3]": ([2, 3], [9, 5]), "axes [3, -2]": ([3, -2], [5, 9]), "axes [3]": ([3], [5])}
LINEAR = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}


def resized(path, batch, attributes, sizes):
    """Write Conv, Relu, Resize, Conv, pool, Flatten, of pictures (batch, 3, 6, 7), and return the path."""
    rng = np.random.default_rng(0)
    rows = [
        ("Conv", ["image", "w"], {"pads": [1] * 4}),
        ("Relu", ["y0"], {}),
        ("Resize", ["y1", "", "", "sizes"], attributes),
        ("Conv", ["y2", "v"], {}),
        ("GlobalMaxPool", ["y3"], {}),
        ("Flatten", ["y4"], {}),
    ]
    nodes = [helper.make_node(kind, given, [f"y{i}"], f"node{i}", **more) for i, (kind, given, more) in enumerate(rows)]
    weights = {"w": rng.normal(size=(5, 3, 3, 3)), "v": rng.normal(size=(5, 5, 2, 2))}
    graph = helper.make_graph(
        nodes,
        "resized",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 6, 7])],
        [helper.make_tensor_value_info("y5", TensorProto.FLOAT, [batch, 5])],
        [
            *(numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()),
            numpy_helper.from_array(np.array(sizes, np.int64), "sizes"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def first_output(path, **feeds):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def held(source, bundle, batch):
    """Export, and compare the logits of one batch, bit for bit, with those of the source; the Resizes of the bundle."""
    export_model(source, bundle, layer="y1")
    images = np.random.default_rng(1).normal(size=(batch, 3, 6, 7)).astype(np.float32)
    np.testing.assert_array_equal(first_output(bundle / SCORE_GRAPH, image=images), first_output(source, image=images))
    return [
        n for name in (EXPLAIN_GRAPH, SCORE_GRAPH) for n in onnx.load(bundle / name).graph.node if n.op_type == "Resize"
    ]


@pytest.mark.parametrize("form", SHORT)
def test_sizes_of_some_axes(form, tmp_path, refused):
    axes, sizes = SHORT[form]
    nodes = held(resized(tmp_path / "m.onnx", "N", {**LINEAR, "axes": axes}, sizes), tmp_path / "t.fcam", 3)
    assert len(nodes) == 2
    assert all("axes" not in {a.name for a in node.attribute} for node in nodes)
    assert refused(tmp_path / "t.fcam") == []


@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_was_fixed(batch, tmp_path, refused):
    held(resized(tmp_path / "m.onnx", batch, LINEAR, [batch, 5, 9, 5]), tmp_path / "t.fcam", batch)
    assert refused(tmp_path / "t.fcam") == []


def test_what_keeps_the_aspect_ratio_stays(tmp_path):
    attributes = {**LINEAR, "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}
    source = resized(tmp_path / "m.onnx", "N", attributes, [9, 9])
    export_model(source, tmp_path / "t.fcam", layer="y1", gradient=False)
    (node,) = [n for n in onnx.load(tmp_path / "t.fcam" / SCORE_GRAPH).graph.node if n.op_type == "Resize"]
    assert "axes" in {a.name for a in node.attribute}
    assert [
        i.name for i in onnx.load(tmp_path / "t.fcam" / SCORE_GRAPH).graph.initializer if i.name == node.input[SIZES]
    ]
