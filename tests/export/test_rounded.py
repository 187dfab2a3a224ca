"""Models with QuantizeLinear / DequantizeLinear pairs of every type: the gradient goes through them unchanged."""

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam import Explainer
from fusioncam.export import check, export_model

RANGES = {"UINT8": (0, 255), "INT16": (-32768, 32767), "UINT16": (0, 65535), "INT4": (-8, 7), "UINT4": (0, 15)}
FLOATS = {"FLOAT8E4M3FN": ml_dtypes.float8_e4m3fn, "FLOAT8E5M2": ml_dtypes.float8_e5m2}
CLASSES, CHANNELS, SIZE = 5, 6, (8, 10)


def rounded(values, kind, scale, zero):
    """What a pair makes of float32 values."""
    if kind in FLOATS:
        return (values / scale).astype(FLOATS[kind]).astype(np.float32) * scale
    return (np.clip(np.rint(values / scale) + zero, *RANGES[kind]) - zero) * scale


def pair(value, name, kind, scale, zero, domain="", **attributes):
    """Nodes that round `value` to `NAME`, and their constants."""
    numbers = [numpy_helper.from_array(np.asarray(scale, np.float32), f"{name}_scale")]
    numbers += [
        helper.make_tensor(f"{name}_zero", getattr(TensorProto, kind), np.shape(scale), np.full(np.size(scale), zero))
    ]
    given = [t.name for t in numbers]
    return [
        helper.make_node(o, [i, *given], [r], f"{name}_{o}", domain=domain, **attributes)
        for o, i, r in (("QuantizeLinear", value, f"{name}_q"), ("DequantizeLinear", f"{name}_q", name))
    ], numbers


def saved(path, kind, *, opset=21, domain="", block=0, folded=False):
    """A network whose layer and whose last weights are rounded; returns those weights as (CLASSES, CHANNELS).

    Args:
        path: The file.
        kind: Type of the integers, or floats, between a pair.
        opset: Of the file.
        domain: Of the pairs.
        block: Length of the blocks along the channels that have a scale each, or 0 for one scale.
        folded: Whether the weights are kept as integers.
    """
    rng = np.random.default_rng(0)
    conv, last = rng.normal(0, 0.5, (CHANNELS, 3, 3, 3)), rng.normal(size=(CLASSES, CHANNELS)).astype(np.float32)
    zero = 0 if kind in FLOATS or kind.startswith("INT") else RANGES[kind][1] // 2
    step = 0.02 if kind in FLOATS else 3 / (RANGES[kind][1] - zero)
    steps, wide, attributes = np.float32(step), np.float32(2 * step), {}
    if block:
        steps = np.full((CLASSES, CHANNELS // block), step, np.float32) * [[1, 2, 3][: CHANNELS // block]]
        attributes = {"block_size": block, "axis": 1}
    shape = {"dims": (CLASSES, CHANNELS)}
    layer, numbers = pair("r", "layer", kind, wide, zero, domain)
    weight, more = pair("last", "weight", kind, steps, zero, domain, **attributes)
    each = np.repeat(steps, block, axis=1).astype(np.float32) if block else steps
    wanted = rounded(last, kind, each, zero).astype(np.float32)
    tensors = {"conv": conv.astype(np.float32), "bias": rng.normal(size=CLASSES).astype(np.float32), "last": last}
    constants = [numpy_helper.from_array(v, k) for k, v in tensors.items()]
    if folded:
        kept = [float(v) for v in (wanted / each + zero).ravel()]
        constants[-1] = helper.make_tensor("weight_q", getattr(TensorProto, kind), vals=np.rint(kept), **shape)
        weight = weight[1:]
    nodes = [
        helper.make_node("Conv", ["image", "conv"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        *layer,
        *weight,
        helper.make_node("GlobalAveragePool", ["layer"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "weight", "bias"], ["scores"], transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, *SIZE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES])
    graph = helper.make_graph(nodes, "rounded", [image], [scores], constants + numbers + more)
    domains = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=10), path)
    return wanted


CONTRIB = "com.microsoft"
CASES = {
    "uint8": {"kind": "UINT8", "opset": 13},
    "int16": {"kind": "INT16"},
    "int16_kept": {"kind": "INT16", "folded": True},
    "uint16": {"kind": "UINT16"},
    "contrib_uint8": {"kind": "UINT8", "opset": 17, "domain": CONTRIB},
    "contrib_int16": {"kind": "INT16", "opset": 17, "domain": CONTRIB},
    "contrib_uint16_kept": {"kind": "UINT16", "opset": 13, "domain": CONTRIB, "folded": True},
    "float8": {"kind": "FLOAT8E4M3FN", "opset": 19},
    "float8_wide": {"kind": "FLOAT8E5M2"},
    "int4": {"kind": "INT4"},
    "uint4": {"kind": "UINT4"},
    "int4_kept": {"kind": "INT4", "folded": True},
    "int4_in_blocks": {"kind": "INT4", "block": 2},
    "uint4_in_blocks_kept": {"kind": "UINT4", "block": 3, "folded": True},
}


def as_written(source, image):
    """The scores of a model without onnxruntime's optimizations, which drop a Relu before 4 bits and float8."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return session.run(["scores"], {"image": image})[0]


@pytest.mark.parametrize("name", CASES)
def test_gradient_goes_straight_through(name, tmp_path, run):
    source, bundle = tmp_path / "rounded.onnx", tmp_path / "r.fcam"
    weight = saved(source, **CASES[name])
    manifest = export_model(source, bundle, preprocessing="unit")
    assert manifest.layer.name == "layer"
    assert [f.what for f in check(bundle) if not f.ok] == []
    image = np.random.default_rng(1).random((1, 3, *SIZE), np.float32)
    given = run(bundle / "explain.onnx", {"image": image, "class_index": np.array([2])})
    assert np.allclose(given["logits"], as_written(source, image), atol=1e-5)
    assert np.allclose(given["gradients"][0], weight[2][:, None, None] / np.prod(SIZE), rtol=1e-5)
    explanation = Explainer(bundle, methods=["grad_cam", "score_cam"]).explain(image[0], class_index=2)
    wanted = np.maximum(np.tensordot(weight[2], given["activations"][0], 1), 0)
    assert np.argmax(explanation.maps["grad_cam"]) == np.argmax(wanted)
    assert np.ptp(explanation.maps["score_cam"]) > 0.5
