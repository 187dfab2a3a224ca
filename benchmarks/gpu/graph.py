"""A torch network of `networks.py` as an ONNX file, written node by node: no exporter is needed."""

from pathlib import Path

import numpy as np
import onnx
from networks import Network, Residual
from onnx import TensorProto, helper, numpy_helper
from torch import nn

OPSET, IR = 17, 8


class Graph:
    """Nodes and weights in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, operator: str, inputs: list[str], output: str | None = None, **attributes: object) -> str:
        """Append a node; returns the name of its output."""
        output = output or f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def weight(self, value: object) -> str:
        """Keep a constant; returns its name."""
        array = np.asarray(value, np.float32)
        self.weights.append(numpy_helper.from_array(array, f"w{len(self.weights)}"))
        return str(self.weights[-1].name)

    def emit(self, module: nn.Module, x: str) -> str:
        """Append what a module does; returns the name of its output.

        Raises:
            TypeError: The networks hold no such module.
        """
        match module:
            case nn.Sequential():
                for part in module:
                    x = self.emit(part, x)
            case Residual():
                both = [self.emit(module.branch, x), self.emit(module.shortcut, x)]
                x = self.emit(module.activation, self.add("Add", both))
            case nn.Conv2d():
                x = self._conv(module, x)
            case nn.BatchNorm2d():
                names = [self.weight(v) for v in (module.weight, module.bias, module.running_mean, module.running_var)]
                x = self.add("BatchNormalization", [x, *names], epsilon=module.eps)
            case nn.ReLU6():
                x = self.add("Clip", [x, self.weight(0), self.weight(6)])
            case nn.ReLU():
                x = self.add("Relu", [x])
            case nn.MaxPool2d():
                size, stride, pad = module.kernel_size, module.stride, module.padding
                x = self.add("MaxPool", [x], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)
            case nn.AdaptiveAvgPool2d():
                x = self.add("GlobalAveragePool", [x])
            case nn.Flatten():
                x = self.add("Flatten", [x])
            case nn.Linear():
                x = self.add("Gemm", [x, self.weight(module.weight), self.weight(module.bias)], transB=1)
            case nn.Identity():
                pass
            case _:
                raise TypeError(f"no node for {type(module).__name__}")
        return x

    def _conv(self, module: nn.Conv2d, x: str) -> str:
        return self.add(
            "Conv", [x, self.weight(module.weight)], kernel_shape=list(module.kernel_size),
            strides=list(module.stride), pads=2 * list(map(int, module.padding)), group=module.groups,
        )  # fmt: skip


def save(network: Network, size: int, classes: int, path: Path) -> Path:
    """Write the network to an ONNX file: `image` (N, 3, size, size) to `logits` (N, classes).

    Args:
        network: In evaluation mode.
        size: Side of the picture.
        classes: Number of classes.
        path: The file.
    """
    graph = Graph()
    graph.add("Identity", [graph.emit(network.head, graph.emit(network.features, "image"))], "logits")
    made = helper.make_graph(
        graph.nodes,
        "network",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        graph.weights,
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR), path)
    return path
