"""Small networks that leave height and width open, or seem to."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OWN = (24, 32)  # a size that all of them take
OTHER = (40, 28)  # and another one


def _resized(node):
    """A skip connection to features of half the size, enlarged to its own by their shape."""
    return [
        node("MaxPool", ["layer"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["half", "w3"], ["below"], pads=[1] * 4),
        node("Shape", ["layer"], ["shape"]),
        node("Resize", ["below", "", "", "shape"], ["up"], mode="linear"),
        node("Add", ["up", "layer"], ["sum"]),
        node("Relu", ["sum"], ["fused"]),
        node("GlobalAveragePool", ["fused"], ["pooled"]),
    ]


def _pooled(node):
    """Adaptive pooling to 2 x 3 places."""
    return [node("Resize", ["layer", "", "", "places"], ["pooled"], mode="linear", axes=[2, 3])]


def _strided(node):
    """A skip connection to features that are enlarged twofold, so that only even grids fit."""
    return [
        node("MaxPool", ["layer"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Resize", ["half", "", "twice"], ["up"], mode="nearest"),
        node("Add", ["up", "layer"], ["sum"]),
        node("GlobalAveragePool", ["sum"], ["pooled"]),
    ]


def _fixed(node):
    """Places that are counted: the shape of the input promises more than the model keeps."""
    return [node("AveragePool", ["layer"], ["pooled"], kernel_shape=[6, 8])]


def _valid(node):
    """Pools without padding, of which nothing is left of a small picture."""
    return [
        node("MaxPool", ["layer"], ["m1"], kernel_shape=[3, 3], strides=[2, 2]),
        node("MaxPool", ["m1"], ["m2"], kernel_shape=[3, 3], strides=[2, 2]),
        node("Conv", ["m2", "w3"], ["deep"], pads=[1] * 4),
        node("GlobalAveragePool", ["deep"], ["pooled"]),
    ]


def _maps(node):
    """Maps of classes, a quarter of the picture high and wide."""
    return [node("Conv", ["layer", "w5"], ["logits"])]


PARTS = {
    "plain": (lambda node: [node("GlobalAveragePool", ["layer"], ["pooled"])], 1),
    "resized": (_resized, 1),
    "pooled": (_pooled, 6),
    "strided": (_strided, 1),
    "fixed": (_fixed, 1),
    "valid": (_valid, 1),
    "maps": (_maps, 1),
}


def write(path, kind="plain", size=("H", "W")):
    """Conv, Relu, Conv, Relu, what the kind says, Gemm; five classes, layer K x H/4 x W/4 at least."""
    rng = np.random.default_rng(5)
    part, places = PARTS[kind]
    shapes = {"w1": (8, 3, 3, 3), "w2": (10, 8, 3, 3), "w3": (10, 10, 3, 3), "w4": (10 * places, 5)}
    shapes["w5"] = (5, 10, 1, 1)
    constants = {n: (rng.standard_normal(s) / np.sqrt(np.prod(s[1:]))).astype(np.float32) for n, s in shapes.items()}
    constants["places"], constants["twice"] = np.array([2, 3], np.int64), np.array([1, 1, 2, 2], np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["c2"], ["layer"]),
        *part(helper.make_node),
    ]
    if kind != "maps":
        nodes.append(helper.make_node("Flatten", ["pooled"], ["flat"]))
        nodes.append(helper.make_node("Gemm", ["flat", "w4"], ["logits"]))
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 5, *["h", "w"] * (kind == "maps")])],
        [numpy_helper.from_array(v, name) for name, v in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def write_places(path, axes):
    """Conv, Relu, pool, Gemm of a signal (N, 2, L) or a volume (N, 2, D, H, W) of any size; four classes."""
    rng = np.random.default_rng(6)
    constants = {"w1": rng.standard_normal((6, 2, *[3] * axes)), "w2": rng.standard_normal((6, 4))}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["c1"], pads=[1] * 2 * axes, strides=[2] * axes),
        helper.make_node("Relu", ["c1"], ["layer"]),
        helper.make_node("GlobalAveragePool", ["layer"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w2"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "places",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, *"DHW"[-axes:]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
