"""Every graph of a bundle runs wholly on Qualcomm's simulator of its NPU, and gives the CPU's numbers.

The networks have one block in question between layer and logits, with weights read by the forward nodes and by the
gradient. Without a refusal QNN gives wrong numbers for weights that two nodes read in different orders, for padding
beyond the kernel, and for `output_padding` of depthwise ConvTransposes.
"""

from importlib.util import find_spec

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.export import export_model
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH
from fusioncam.runtime.sessions.open import open_session

CHANNELS, SIZE = 8, 12
CONV = (CHANNELS, CHANNELS, 3, 3)
SAME = {"pads": [1, 1, 1, 1]}
# Nodes in order: operator, shape of its weights or values of its further inputs, attributes. Each reads the one before;
# `Residual` adds what entered the block.
BLOCKS = {
    "conv": [("Conv", CONV, SAME)],
    "conv-stride": [("Conv", CONV, {"strides": [2, 2], **SAME})],
    "conv-stride-rest": [("Conv", (CHANNELS, CHANNELS, 1, 1), {"strides": [2, 2]})],
    "conv-dilated": [("Conv", CONV, {"dilations": [2, 2], "pads": [2, 2, 2, 2]})],
    "depthwise": [("Conv", (CHANNELS, 1, 3, 3), {"group": CHANNELS, **SAME}), ("Conv", (6, CHANNELS, 1, 1), {})],
    "depthwise-stride": [("Conv", (CHANNELS, 1, 5, 5), {"group": CHANNELS, "strides": [2, 2], "pads": [2, 2, 2, 2]})],
    "depthwise-stride-rest": [("Conv", (CHANNELS, 1, 1, 1), {"group": CHANNELS, "strides": [2, 2]})],
    "group": [("Conv", (CHANNELS, 2, 3, 3), {"group": 4, **SAME})],
    "transposed": [("ConvTranspose", (CHANNELS, 6, 2, 2), {"strides": [2, 2]})],
    "transposed-cropped": [("ConvTranspose", (CHANNELS, 6, 3, 3), {"pads": [3, 3, 3, 3]})],
    "max-pool": [("MaxPool", None, {"kernel_shape": [3, 3], "strides": [2, 2], **SAME})],
    "average-pool": [("AveragePool", None, {"kernel_shape": [3, 3], **SAME})],
    "average-pool-stride": [("AveragePool", None, {"kernel_shape": [2, 2], "strides": [2, 2]})],
    "residual": [("Conv", CONV, SAME), ("Relu", None, {}), ("Conv", CONV, SAME), ("Residual", None, {})],
    "relu6": [("Conv", CONV, SAME), ("Clip", ([0.0], [6.0]), {}), ("Conv", CONV, SAME), ("Clip", (0.0, 6.0), {})],
    "silu": [("Conv", CONV, SAME), ("Sigmoid", None, {}), ("Residual", None, {})],
    "hard-swish": [("Conv", CONV, SAME), ("HardSwish", None, {}), ("Conv", CONV, SAME)],
    "leaky": [("Conv", CONV, SAME), ("LeakyRelu", None, {"alpha": 0.1}), ("Conv", CONV, SAME)],
}


def network(block):
    """A classifier of 5 classes, its layer `layer`, then the block, a global pool and two Gemms."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(0, 0.4, (CHANNELS, 3, 3, 3)), "hidden": None, "last": rng.normal(0, 0.5, (5, 8))}
    nodes = [helper.make_node("Conv", ["image", "w"], ["c"], **SAME), helper.make_node("Relu", ["c"], ["layer"])]
    x, channels = "layer", CHANNELS
    for i, (kind, inputs, attributes) in enumerate(block):
        if kind == "Residual":
            nodes.append(helper.make_node("Add", [x, "layer"], [f"v{i}"]))
        else:
            given = inputs if kind == "Clip" else [] if inputs is None else [rng.normal(0, 0.3, inputs)]
            names = [f"v{i}_{k}" for k in range(len(given))]
            weights |= dict(zip(names, given, strict=True))
            nodes.append(helper.make_node(kind, [x, *names], [f"v{i}"], **attributes))
            if given and kind != "Clip":
                channels = inputs[1] if kind == "ConvTranspose" else inputs[0]
        x = f"v{i}"
    weights["hidden"] = rng.normal(0, 0.5, (8, channels))
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "hidden"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["t"]),
        helper.make_node("Gemm", ["t", "last"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("block", BLOCKS)
def test_runs_wholly_and_right(block, tmp_path):
    if find_spec("onnxruntime_qnn") is None:
        pytest.skip("the wheel onnxruntime-qnn is not installed")
    onnx.save(network(BLOCKS[block]), tmp_path / "model.onnx")
    export_model(tmp_path / "model.onnx", tmp_path / "model.fcam", layer="layer")
    rng = np.random.default_rng(1)
    for graph in (EXPLAIN_GRAPH, SCORE_GRAPH, HEAD_GRAPH):
        path = tmp_path / "model.fcam" / graph
        npu = open_session(path, ["qnn"], sizes={"N": 1, "M": 1})  # refuses a graph whose nodes are left to the CPU
        cpu = open_session(path)
        feeds = {}
        for value in cpu.get_inputs():
            shape = [d if isinstance(d, int) else 1 for d in value.shape]
            given = np.full(shape, -1) if value.type == "tensor(int64)" else rng.normal(size=shape).astype(np.float32)
            feeds[value.name] = given
        for output, got, expected in zip(cpu.get_outputs(), npu.run(None, feeds), cpu.run(None, feeds), strict=True):
            distance = np.linalg.norm(got - expected) / np.linalg.norm(expected)
            assert distance < 0.01, (graph, output.name)  # in float16; most are within 0.001
