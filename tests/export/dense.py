"""A small network written by hand that gives maps and vectors, and the same in torch; handed out as fixtures."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper, parser

SIZE = 12, 16
FEATURES = 6
CONSTANTS = {
    "class_axis": np.array([1]),
    "spatial": np.array([2, 3]),
    "double": np.float32([1, 1, 2, 2]),
    "tokens": np.array([0, FEATURES, -1]),
    "roi": np.zeros(0, np.float32),
    "least": np.float32(1e-12),
    "n1": np.float32(1),
    "n100": np.float32(100),
}


def weights(classes, length=7):
    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 3, 3, 3), "w2": (FEATURES, 4, 3, 3), "w3": (classes, FEATURES, 1, 1), "w4": (FEATURES, length)}
    return {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}


def save(path, text, outputs=("y",), classes=4, kinds=None):
    """Save a model whose features `f` (N, 6, 6, 8) and maps `z` (N, classes, 6, 8) go through the operators of a text.

    `e` is an embedding (N, 7) made of the mean of the features.
    """
    body = parser.parse_graph(f"g (float[N] f) => (float[N] y) {{ {text} }}").node
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["f"], "relu2"),
        helper.make_node("Conv", ["f", "w3"], ["z"], "conv3"),
        helper.make_node("ReduceMean", ["f", "spatial"], ["pooled"], keepdims=0),
        helper.make_node("MatMul", ["pooled", "w4"], ["e"], "project"),
        *body,
    ]
    used = {name for node in nodes for name in node.input}
    arrays = {**weights(classes), **CONSTANTS}
    kinds = kinds or {}
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ("N", 3, *SIZE))],
        [helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), None) for name in outputs],
        [numpy_helper.from_array(np.asarray(arrays[name]), name) for name in sorted(used & arrays.keys())],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def features(x, classes=4):
    """The features in torch, float64."""
    w = {name: torch.from_numpy(array).double() for name, array in weights(classes).items()}
    hidden = torch.relu(torch.nn.functional.conv2d(torch.from_numpy(x).double(), w["w1"], padding=1))
    return torch.relu(torch.nn.functional.conv2d(hidden, w["w2"], padding=1, stride=2)), w


def maps(f, w):
    """The maps of classes in torch."""
    return torch.nn.functional.conv2d(f, w["w3"])


def embedding(f, w):
    """The embedding in torch."""
    return f.mean((2, 3)) @ w["w4"]
