"""A small detector of three levels in the form of YOLOv8, in torch and in float64, with its bundle."""

import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from fusioncam.export import export_model

SIZE, STRIDES, CHANNELS = 96, (8, 16, 32), (8, 12, 16)
LABELS = ("person", "dog", "light")
FIELDS = {"size": (SIZE, SIZE), "mean": (0.0,) * 3, "std": (0.5,) * 3, "rescale": 1 / 255, "resize": "letterbox"}


def _conv(inputs, outputs, stride=1):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.SiLU())


class SmallDetector(nn.Module):
    """A backbone and a neck of three levels, each of which the next one sees; heads of boxes and of classes."""

    def __init__(self):
        super().__init__()
        first, second, third = CHANNELS
        self.stem = nn.Sequential(_conv(3, 8, 2), _conv(8, 8, 2), _conv(8, first, 2))
        self.further = nn.ModuleList([_conv(first, second, 2), _conv(second, third, 2)])
        self.down = nn.ModuleList([_conv(first, second, 2), _conv(second, third, 2)])
        self.neck = nn.ModuleList([_conv(first, first), _conv(2 * second, second), _conv(2 * third, third)])
        self.boxes = nn.ModuleList([nn.Sequential(_conv(c, 8), nn.Conv2d(8, 4, 1)) for c in CHANNELS])
        self.classes = nn.ModuleList([nn.Sequential(_conv(c, 8), nn.Conv2d(8, len(LABELS), 1)) for c in CHANNELS])

    def levels(self, x):
        """The activations of the levels."""
        early = self.stem(x)
        found = [self.neck[0](early)]
        for further, down, neck in zip(self.further, self.down, self.neck[1:], strict=True):
            early = further(early)
            found.append(neck(torch.cat([early, down(found[-1])], 1)))
        return found

    def normal_form(self, levels):
        """Boxes and logits (N, A, 4 + C)."""
        parts = []
        for level, stride, boxes, classes in zip(levels, STRIDES, self.boxes, self.classes, strict=True):
            side = SIZE // stride
            centres = (torch.arange(side, dtype=level.dtype) + 0.5) * stride
            y, x = (grid.reshape(1, -1) for grid in torch.meshgrid(centres, centres, indexing="ij"))
            left, up, right, down = (boxes(level).sigmoid() * 3 * stride).flatten(2).unbind(1)
            corners = torch.stack([x - left, y - up, x + right, y + down], 2)
            parts.append(torch.cat([corners, classes(level).flatten(2).transpose(1, 2)], 2))
        return torch.cat(parts, 1)

    def forward(self, x):
        """Return the output that Ultralytics exports: (N, 4 + C, A), centres and sizes, and probabilities."""
        form = self.normal_form(self.levels(x))
        x1, y1, x2, y2 = form[..., :4].unbind(2)
        sides = torch.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 2)
        return torch.cat([sides, form[..., 4:].sigmoid()], 2).transpose(1, 2)

    def likeness(self, x, box, column, anchor=None):
        """D-RISE's similarity of pictures (N, 3, H, W), by the probability of a class; or the overlap of an anchor."""
        form = self.normal_form(self.levels(x))
        box = torch.as_tensor(np.asarray(box, np.float64))
        low, high = torch.maximum(form[..., :2], box[:2]), torch.minimum(form[..., 2:4], box[2:])
        shared = (high - low).clamp(min=0).prod(-1)
        areas = (form[..., 2:4] - form[..., :2]).prod(-1) + (box[2:] - box[:2]).prod()
        overlap = shared / (areas - shared)
        return overlap[:, anchor] if anchor is not None else (overlap * form[..., 4 + column].sigmoid()).amax(1)

    def evidence(self, x, level, anchor, weights, column):
        """Activations and gradients (K, h, w) of a weighted sum of an anchor's edges and its logit."""
        levels = self.levels(torch.as_tensor(x[None]).double())
        row = self.normal_form(levels)[0, anchor]
        score = row[:4] @ torch.as_tensor(weights[:4]).double() + float(weights[4]) * row[4 + column]
        (gradient,) = torch.autograd.grad(score, levels[level], allow_unused=True)
        activations = levels[level].detach().numpy()[0]
        return activations, np.zeros_like(activations) if gradient is None else gradient.numpy()[0]


def level_of(anchor):
    """The level of an anchor."""
    ends = np.cumsum([(SIZE // stride) ** 2 for stride in STRIDES])
    return int(np.searchsorted(ends, anchor, side="right"))


class MadeDetector(NamedTuple):
    """A network and its bundle."""

    network: SmallDetector
    bundle: Path
    source: Path


def make_network():
    """The network with its weights, which find something everywhere."""
    torch.manual_seed(8)
    network = SmallDetector()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 2.5 if parameter.ndim > 1 else 1
        levels = network.levels(torch.from_numpy(blobs(1)[None]))
        for heads, mean, spread in ((network.boxes, -0.5, 0.6), (network.classes, -1.5, 1.5)):
            for head, level in zip(heads, levels, strict=True):
                numbers = head(level).transpose(0, 1).flatten(1)
                scale = spread / numbers.std(1)
                head[1].weight *= scale[:, None, None, None]
                head[1].bias.copy_(mean + (head[1].bias - numbers.mean(1)) * scale)
    return network


def export(folder):
    """Write the network as ONNX, and its bundle."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            make_network(), (torch.rand(1, 3, SIZE, SIZE),), folder / "m.onnx", dynamo=False, opset_version=17,
            input_names=["images"], output_names=["output0"], dynamic_axes={"images": {0: "batch"}},
        )  # fmt: skip
    model = onnx.load(folder / "m.onnx")
    onnx.helper.set_model_props(model, {"task": "detect", "names": repr(dict(enumerate(LABELS)))})
    onnx.save(model, folder / "m.onnx")
    export_model(folder / "m.onnx", folder / "m.fcam", preprocessing=FIELDS)


def blobs(seed):
    """A picture (3, H, W) of soft blobs, preprocessed."""
    coarse = torch.from_numpy(np.random.default_rng(seed).normal(size=(1, 3, 9, 9)))
    return nn.functional.interpolate(coarse, (SIZE, SIZE), mode="bicubic")[0].numpy().astype(np.float32)


@pytest.fixture(scope="session")
def detectors():
    """This module."""
    return sys.modules[__name__]


@pytest.fixture(scope="session")
def small_detector(once):
    """The network, in float64, and its bundle; exported once for all processes."""
    folder = once("small_detector", export)
    return MadeDetector(make_network().double(), folder / "m.fcam", folder / "m.onnx")
