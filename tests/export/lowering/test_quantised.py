"""Quantised operators on whole numbers become pairs around those on real ones, and carry a gradient.

Without the activations that quantisers absorb, the gradients differ by more than 0.6 of their norm.
"""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from fusioncam.export import check, export_model

SIZE = 16, 12
# Activations of all kinds that onnxruntime has in whole numbers; the ReLUs become a part of what is before them.
NETWORK = """<ir_version: 8, opset_import: ["": 17]>
net (float[N, 3, 16, 12] image) => (float[N, 5] scores) {
    c1 = Conv <pads = [1, 1, 1, 1]> (image, w1, b1)
    first = Relu (c1)
    leaky = LeakyRelu <alpha = 0.1> (first)
    gate = Sigmoid (first)
    gated = Mul (leaky, gate)
    joined = Concat <axis = 1> (gated, first)
    c2 = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (joined, w2, b2)
    r2 = Relu (c2)
    c3 = Conv <pads = [1, 1, 1, 1]> (r2, w3, b3)
    a3 = Add (c3, r2)
    last = Relu (a3)
    smooth = AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1], count_include_pad = 1> (last)
    p = GlobalAveragePool (smooth)
    f = Flatten (p)
    h = MatMul (f, w4)
    scores = Gemm <transB = 1> (h, w5, b5)
}"""
WEIGHTS = {"w1": (6, 3, 3, 3), "b1": 6, "w2": (8, 12, 3, 3), "b2": 8, "w3": (8, 8, 3, 3), "b3": 8}
WEIGHTS |= {"w4": (8, 7), "w5": (5, 7), "b5": 5}
KINDS = {
    "uint8_int8_by_channel": (QuantType.QUInt8, QuantType.QInt8, True),
    "uint8_uint8": (QuantType.QUInt8, QuantType.QUInt8, False),
    "int8_int8_by_channel": (QuantType.QInt8, QuantType.QInt8, True),
}


class Pictures(CalibrationDataReader):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.left = [rng.random((1, 3, *SIZE), np.float32) for _ in range(4)]

    def get_next(self):
        return {"image": self.left.pop()} if self.left else None


@pytest.fixture(scope="module")
def exact(tmp_path_factory):
    """The network in real numbers, and its bundle by the layer `first`."""
    rng, model = np.random.default_rng(1), onnx.parser.parse_model(NETWORK)
    for name, shape in WEIGHTS.items():
        values = rng.normal(0, 0.3, shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    path = tmp_path_factory.mktemp("quantised") / "exact.onnx"
    onnx.save(model, path)
    export_model(path, path.with_suffix(".fcam"), layer="first", preprocessing="unit")
    return path


@pytest.mark.parametrize("form", [QuantFormat.QOperator, QuantFormat.QDQ])
@pytest.mark.parametrize("kind", KINDS)
def test_its_gradient_is_that_of_real_numbers(kind, form, exact, run, tmp_path):
    activations, weights, by_channel = KINDS[kind]
    source, bundle, early = tmp_path / "q.onnx", tmp_path / "q.fcam", tmp_path / "early.fcam"
    settings = {"activation_type": activations, "weight_type": weights, "per_channel": by_channel}
    settings["reduce_range"] = kind.startswith("uint8_int8")  # CPUs without VNNI cut off sums of larger products
    quantize_static(exact, source, Pictures(), form, **settings)
    manifest = export_model(source, bundle, preprocessing="unit")
    assert manifest.layer.shape == (8, 8, 6)
    assert not manifest.layer.bypassed
    assert [f for f in check(bundle) if not f.ok] == []
    nodes = onnx.load(bundle / "explain.onnx").graph.node
    assert not any(n.op_type.startswith(("QLinear", "QG")) for n in nodes)
    assert sum(n.op_type == "QuantizeLinear" for n in nodes) > 8
    layers = [n.output[0] for n in nodes if n.op_type == "DequantizeLinear" and n.output[0].startswith(("first", "c1"))]
    export_model(source, early, layer=layers[0], preprocessing="unit")
    assert [f for f in check(early) if not f.ok] == []
    feeds = {"image": Pictures().left[0], "class_index": np.array([2])}
    mine, wanted = (run(b / "explain.onnx", feeds)["gradients"] for b in (early, exact.with_suffix(".fcam")))
    assert np.linalg.norm(mine - wanted) < 0.25 * np.linalg.norm(wanted)


@pytest.mark.parametrize("saved", ["quantised", "optimised"])
def test_dynamic_quantisation_counts_as_the_identity(saved, exact, rewrites, run, tmp_path):
    source = rewrites.dynamic(exact, tmp_path / "d.onnx")
    source = rewrites.optimised(source, tmp_path / "o.onnx") if saved == "optimised" else source
    default, early = tmp_path / "m.fcam", tmp_path / "early.fcam"
    assert export_model(source, default, preprocessing="unit").layer.shape == (8, 8, 6)
    export_model(source, early, layer="first", preprocessing="unit")
    for bundle in (default, early):
        assert [f for f in check(bundle) if not f.ok] == []
    feeds = {"image": Pictures().left[0], "class_index": np.array([2])}
    mine, wanted = (run(b / "explain.onnx", feeds)["gradients"] for b in (early, exact.with_suffix(".fcam")))
    assert np.linalg.norm(mine - wanted) < 0.1 * np.linalg.norm(wanted)
