"""Networks of known sizes with random weights, calibrated so that activations and probabilities are those of a network.

ResNet-18 and ResNet-50 (arXiv 1512.03385) and MobileNetV2 (arXiv 1801.04381), from their papers' tables.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

SPREAD = 2.5  # standard deviation of the logits over the classes: the top one of 1000 then stands out
CALIBRATION = 8  # pictures


@dataclass(frozen=True)
class Kind:
    """A network to measure: how to build it, its picture's side in pixels, its classes."""

    build: Callable[[int], "Network"]
    size: int = 224
    classes: int = 1000


class Residual(nn.Module):
    """activation(branch(x) + shortcut(x))."""

    def __init__(self, branch: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.branch, self.shortcut, self.activation = branch, shortcut, activation

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of the block."""
        summed: Tensor = self.activation(self.branch(x) + self.shortcut(x))
        return summed


class Network(nn.Module):
    """`features` gives the target layer (N, K, h, w), and `head` pools it and classifies."""

    def __init__(self, layers: Sequence[nn.Module], channels: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, classes)."""
        logits: Tensor = self.head(self.features(x))
        return logits


def conv(
    given: int, made: int, size: int = 1, stride: int = 1, groups: int = 1, end: nn.Module | None = None
) -> list[nn.Module]:
    """Convolution, batch normalisation, activation."""
    return [
        nn.Conv2d(given, made, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(made),
        *([] if end is None else [end]),
    ]


def basic(given: int, inner: int, stride: int) -> tuple[list[nn.Module], int]:
    """The branch of a ResNet's basic block, and the channels it makes."""
    return [*conv(given, inner, 3, stride, end=nn.ReLU()), *conv(inner, inner, 3)], inner


def bottleneck(given: int, inner: int, stride: int) -> tuple[list[nn.Module], int]:
    """The branch of a ResNet's bottleneck block, and the channels it makes."""
    middle = conv(inner, inner, 3, stride, end=nn.ReLU())
    return [*conv(given, inner, end=nn.ReLU()), *middle, *conv(inner, 4 * inner)], 4 * inner


Block = Callable[[int, int, int], tuple[list[nn.Module], int]]


def residual_network(depths: Sequence[int], width: int, classes: int, block: Block = bottleneck) -> Network:
    """A ResNet; (3, 4, 6, 3) of width 64 is ResNet-50, (2, 2, 2, 2) of basic blocks ResNet-18."""
    layers: list[nn.Module] = [*conv(3, width, 7, 2, end=nn.ReLU()), nn.MaxPool2d(3, 2, 1)]
    given = width
    for stage, depth in enumerate(depths):
        for number in range(depth):
            stride = 2 if number == 0 and stage else 1
            branch, made = block(given, width << stage, stride)
            shortcut = nn.Identity() if (given, stride) == (made, 1) else nn.Sequential(*conv(given, made, 1, stride))
            layers.append(Residual(nn.Sequential(*branch), shortcut, nn.ReLU()))
            given = made
    return Network(layers, given, classes)


# Expansion, channels, blocks, stride of the first: table 2 of the paper.
MOBILE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobile_network(table: Sequence[tuple[int, int, int, int]], first: int, last: int, classes: int) -> Network:
    """A MobileNetV2 of inverted residual blocks."""
    layers, given = conv(3, first, 3, 2, end=nn.ReLU6()), first
    for expansion, made, blocks, first_stride in table:
        for block in range(blocks):
            stride, inner = first_stride if block == 0 else 1, expansion * given
            branch = conv(given, inner, end=nn.ReLU6()) if expansion > 1 else []
            branch += [*conv(inner, inner, 3, stride, inner, nn.ReLU6()), *conv(inner, made)]
            whole: nn.Module = nn.Sequential(*branch)
            layers.append(Residual(whole, nn.Identity(), nn.Identity()) if stride == 1 and given == made else whole)
            given = made
    return Network([*layers, *conv(given, last, end=nn.ReLU6())], last, classes)


def wide_network(channels: int, classes: int) -> Network:
    """A small network whose layer has as many channels as is wanted: what masks cost shows, passes being cheap."""
    trunk = [*conv(3, 32, 3, 2, end=nn.ReLU()), *conv(32, 64, 3, 2, end=nn.ReLU()), *conv(64, 64, 3, 2, end=nn.ReLU())]
    return Network([*trunk, *conv(64, channels, end=nn.ReLU())], channels, classes)


def wide(channels: int) -> Kind:
    """The same, as a kind."""
    return Kind(lambda classes: wide_network(channels, classes), size=96, classes=100)


NETWORKS = {
    "resnet18": Kind(lambda classes: residual_network((2, 2, 2, 2), 64, classes, basic)),
    "resnet50": Kind(lambda classes: residual_network((3, 4, 6, 3), 64, classes)),
    "mobilenetv2": Kind(lambda classes: mobile_network(MOBILE, 32, 1280, classes)),
}


def pictures(size: int, count: int, seed: int) -> list[np.ndarray]:
    """Pictures (size, size, 3) uint8: a bright blob or two over a texture, each its own."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    made = []
    for _ in range(count):
        coarse = rng.random((8, 8, 3)).repeat(-(-size // 8), 0).repeat(-(-size // 8), 1)[:size, :size]
        picture = 60 + 60 * coarse + 15 * rng.standard_normal((size, size, 3))
        for _ in range(2):
            (row, column), color = rng.uniform(0.2, 0.8, 2), rng.uniform(-60, 130, 3)
            picture += np.exp(-((y - row) ** 2 + (x - column) ** 2) / 0.02)[..., None] * color
        made.append(picture.clip(0, 255).astype(np.uint8))
    return made


def build(kind: Kind, inputs: np.ndarray) -> Network:
    """The network, in evaluation mode, its weights the same every time.

    Batch normalisation gets the statistics of `inputs` (N, 3, H, W), preprocessed. The classifier is such that a blank
    picture gives no class more than another, and a picture one class far more than the others.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = kind.build(kind.classes)
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.0)
                nn.init.uniform_(module.bias, -0.2, 0.2)
                module.momentum = None  # the plain mean over what it sees
        seen = torch.from_numpy(inputs)
        network.train()
        network.features(seen)
        network.eval()
        pool, flatten, linear = network.head
        pooled = flatten(pool(network.features(torch.cat([seen, torch.zeros_like(seen[:1])]))))
        apart = (pooled[:-1] - pooled[-1]).norm(dim=1).mean()
        nn.init.normal_(linear.weight, std=float(SPREAD / apart))
        linear.bias.copy_(-linear.weight @ pooled[-1])
    return network.requires_grad_(False)
