"""Steps of optimisers become arithmetic: the numbers of ONNX's reference, by operators with a gradient."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx.reference import ReferenceEvaluator

from fusioncam.export.gradient import RULES
from fusioncam.export.reading.load import load_converted

KINDS = {"Adagrad": "xgh", "Adam": "xgvh", "Momentum": "xgv"}
CASES = {
    "adagrad": ("Adagrad", "norm_coefficient = 0.1, decay_factor = 0.2, epsilon = 0.01"),
    "adam": ("Adam", "norm_coefficient = 0.1, norm_coefficient_post = 0.05, alpha = 0.8, beta = 0.9"),
    "adam-by-default": ("Adam", "epsilon = 0.001"),
    "momentum": ("Momentum", 'norm_coefficient = 0.1, alpha = 0.8, beta = 0.3, mode = "standard"'),
    "nesterov": ("Momentum", 'norm_coefficient = 0.1, alpha = 0.8, beta = 0.3, mode = "nesterov"'),
}


@pytest.mark.parametrize("updates", [0, 3])
@pytest.mark.parametrize("case", CASES)
def test_as_the_reference(case, updates, tmp_path):
    op, attributes = CASES[case]
    names = [f"{kind}{i}" for kind in KINDS[op] for i in (1, 2)]
    results = [f"{name}_new" for name in names if name[0] != "g"]
    text = f"""<ir_version: 8, opset_import: ["": 18, "ai.onnx.preview.training": 1]>
    m ({", ".join(f"float[3] {name}" for name in names)}) => ({", ".join(f"float[3] {name}" for name in results)})
    <float rate = {{0.3}}, int64 updates = {{{updates}}}>
    {{{", ".join(results)} = ai.onnx.preview.training.{op} <{attributes}> (rate, updates, {", ".join(names)})}}"""
    source = onnx.parser.parse_model(text)
    onnx.save(source, tmp_path / "model.onnx")
    model, _ = load_converted(tmp_path / "model.onnx", newer=True)
    rng = np.random.default_rng(0)
    feeds = {name: np.abs(rng.normal(size=3)).astype(np.float32) for name in names}
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    expected = ReferenceEvaluator(source).run(None, feeds)
    for a, b in zip(session.run(None, feeds), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert {("", node.op_type) for node in model.graph} <= {*RULES, ("", "Greater")}
