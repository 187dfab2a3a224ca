import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam import Explainer
from fusioncam.export import check, export_model

TYPES = ("INT4", "UINT4", "FLOAT8E4M3FN", "FLOAT8E5M2", "INT8", "UINT8", "INT16")
ACTIVATIONS = {"Relu": (), "Clip": ("least", "most"), "Clip_above": ("", "most")}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("kind", TYPES)
def test_activations_before_a_quantisation(kind, activation, classifier, tmp_path):
    """onnxruntime's optimizations, which the source is run without, leave the bundle's graphs as they are."""
    model = classifier(opset=21, ir_version=10)
    graph = model.graph
    kind = getattr(TensorProto, kind)
    graph.initializer.append(helper.make_tensor("zero", kind, [], [0]))
    graph.initializer.extend(
        numpy_helper.from_array(np.float32(v), k) for k, v in {"scale": 0.25, "least": 0, "most": 1.5}.items()
    )
    at, pool = next((i, n) for i, n in enumerate(graph.node) if n.op_type == "GlobalAveragePool")
    before = graph.node[at - 1]
    before.op_type = activation.partition("_")[0]
    before.input.extend(ACTIVATIONS[activation])
    pool.input[0] = "back"
    graph.node.insert(at, helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["back"]))
    graph.node.insert(at, helper.make_node("QuantizeLinear", ["relu", "scale", "zero"], ["q"]))
    onnx.save(model, tmp_path / "m.onnx")
    manifest = export_model(tmp_path / "m.onnx", tmp_path / "m.fcam", preprocessing="unit")
    assert all(f.ok for f in check(tmp_path / "m.fcam"))
    x = np.random.default_rng(0).normal(size=(3, *manifest.preprocessing.size)).astype(np.float32)
    reference = onnx.reference.ReferenceEvaluator(model).run(None, {"image": x[None]})[0][0]
    found = Explainer(tmp_path / "m.fcam", methods=["grad_cam"]).explain(x)
    assert np.allclose(found.logits, reference, atol=0.05)
