"""An explain graph whose layer a Pad reads, which onnxruntime moves into the node behind it."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from fusioncam.export import check, export_model
from fusioncam.manifest import EXPLAIN_GRAPH

PADDED = """
    <ir_version: 8, opset_import: ["": 18]>
    g (float[N, 3, 8, 8] image) => (float[N, 4] scores) <int64[8] widths = {0, 0, 1, 1, 0, 0, 1, 1}> {
        c = Conv (image, w)
        layer = Relu (c)
        wider = Pad (layer, widths)
        e = READER
        pooled = GlobalAveragePool (e)
        flat = Flatten (pooled)
        scores = MatMul (flat, u)
    }
"""


@pytest.mark.parametrize("reader", ["Conv (wider, v)", "MaxPool <kernel_shape=[3, 3]> (wider)"])
def test_a_layer_that_is_padded_loads(reader, tmp_path):
    model, rng = onnx.parser.parse_model(PADDED.replace("READER", reader)), np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 3, 3, 3)), "v": rng.normal(size=(4, 4, 3, 3)), "u": rng.normal(size=(4, 4))}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.float32(a), k) for k, a in weights.items())
    onnx.save(model, tmp_path / "m.onnx")
    export_model(tmp_path / "m.onnx", tmp_path / "m.fcam", preprocessing="unit", layer="layer")
    assert all(f.ok for f in check(tmp_path / "m.fcam"))
    graph = ir.load(tmp_path / "m.fcam" / EXPLAIN_GRAPH).graph
    assert next(o for o in graph.outputs if o.name == "activations").producer().op_type == "Reshape"
