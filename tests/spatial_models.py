"""Small networks of signals and volumes, with trained-like weights, for tests from export to picture."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn


def parts(rank):
    """The modules of torch of this rank, by their names without the number."""
    names = ("Conv", "BatchNorm", "MaxPool", "AvgPool", "ConvTranspose", "InstanceNorm")
    return {name: getattr(nn, f"{name}{rank}d") for name in names}


class Network(nn.Module):
    """A classifier of signals (N, C, L), rank 1, or of volumes (N, C, D, H, W), rank 3."""

    def __init__(self, rank, channels=2, classes=4, last=False, video=False):
        super().__init__()
        torch.manual_seed(rank)
        of = parts(rank)
        self.last, self.video = last, video
        self.features = nn.Sequential(
            of["Conv"](channels, 8, 3, padding=1), of["BatchNorm"](8), nn.ReLU(), of["MaxPool"](2),
            of["Conv"](8, 8, 3, padding=1, groups=4), nn.SiLU(), of["Conv"](8, 6, 3, padding=2, dilation=2), nn.ReLU(),
        )  # fmt: skip
        self.after = nn.Sequential(
            of["ConvTranspose"](6, 6, 2, stride=2), nn.GELU(), of["AvgPool"](2), of["InstanceNorm"](6, affine=True),
            nn.Upsample(scale_factor=2, mode={1: "linear", 3: "trilinear"}[rank]), of["Conv"](6, 10, 3, stride=2),
            nn.GroupNorm(2, 10), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(10, classes)
        with torch.no_grad():
            for name, value in self.named_buffers():
                if value.is_floating_point():
                    value.uniform_(0.5, 1.5) if name.endswith("var") else value.normal_(0, 0.2)
            self.head.weight.mul_(8)

    def forward(self, x):
        """The logits (N, classes)."""
        if self.last:
            x = x.movedim(-1, 1)
        if self.video:
            x = x.transpose(1, 2)
        return self.head(self.after(self.features(x)).flatten(2).mean(2))


SIZES = {1: (60,), 3: (6, 10, 12)}


def save_classifier(path, rank, channels=2, classes=3, seed=0):
    """Write a small ONNX classifier (conv, relu, conv, relu, mean, linear) whose layer has half the input's sides."""
    rng = np.random.default_rng(seed)
    size, kernel = SIZES[rank], (3,) * rank
    weights = {
        "w1": rng.normal(size=(6, channels, *kernel)), "w2": rng.normal(size=(5, 6, *kernel)) / 3,
        "head": rng.normal(size=(classes, 5)) * 8, "bias": rng.normal(size=classes),
    }  # fmt: skip
    pads, strides = [1] * 2 * rank, [2] * rank
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=pads),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=pads, strides=strides),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "head", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", channels, *size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", classes])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
