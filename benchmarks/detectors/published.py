"""Heads by the published definitions of families that install with no package: YOLOv5 and YOLOv7, YOLOX, SSD.

A small backbone of three levels carries them. Post-processing is that of the families, written out: a score is
objectness times class, each box has its best class, duplicates are those of one class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import nn

from detectors.family import SIDE, Detector, Found, calibrate, picture
from fusioncam.kernels.arrays import Array

CLASSES, IOU = 12, 0.45
STRIDES, WIDTHS = (8, 16, 32), (24, 32, 48)
ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.ReLU())


class Levels(nn.Module):
    """Features of three levels (N, C, h, w), and a neck that makes more of each."""

    def __init__(self) -> None:
        """Make a network of random weights."""
        super().__init__()
        a, b, c = WIDTHS
        self.stem = nn.Sequential(_conv(3, 12, 2), _conv(12, 16, 2), _conv(16, a, 2))
        self.further = nn.ModuleList([_conv(a, b, 2), _conv(b, c, 2)])
        self.neck = nn.ModuleList([nn.Sequential(_conv(w, w), _conv(w, w)) for w in WIDTHS])

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the levels of pictures."""
        found = [self.stem(x)]
        for step in self.further:
            found.append(step(found[-1]))
        return [neck(level) for neck, level in zip(self.neck, found, strict=True)]


def _cells(level: torch.Tensor) -> torch.Tensor:
    """Return x, y (h w, 2) of the cells of a level."""
    rows, columns = (torch.arange(n, dtype=level.dtype) for n in level.shape[2:])
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


class Head(nn.Module):
    """A backbone with heads of boxes, of objectness and of classes on each level, of some anchors a cell."""

    def __init__(self, anchors: int = 1, classes: int = CLASSES, objectness: bool = True) -> None:
        """Make a network of random weights."""
        super().__init__()
        self.levels, self.anchors = Levels(), anchors
        self.boxes = nn.ModuleList([nn.Conv2d(w, anchors * 4, 1) for w in WIDTHS])
        self.objects = nn.ModuleList([nn.Conv2d(w, anchors, 1) for w in WIDTHS] if objectness else [])
        self.classes = nn.ModuleList([nn.Conv2d(w, anchors * classes, 1) for w in WIDTHS])

    def rows(self, y: torch.Tensor) -> torch.Tensor:
        """Return the numbers of a head (N, anchors h w, columns), those of one anchor after those of another."""
        n, _, h, w = y.shape
        return y.view(n, self.anchors, -1, h, w).permute(0, 1, 3, 4, 2).reshape(n, self.anchors * h * w, -1)


class OfAnchors(Head):
    """YOLOv5 and YOLOv7: offsets from cells and factors on anchors, through sigmoids."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, A, 5 + C): centre and size in pixels, objectness, classes."""
        found = []
        for n, (level, stride) in enumerate(zip(self.levels(x), STRIDES, strict=True)):
            sides = self.rows(self.boxes[n](level)).sigmoid()
            sizes = torch.tensor(ANCHORS[n], dtype=x.dtype).repeat_interleave(level.shape[2] * level.shape[3], 0)
            centre = (sides[..., :2] * 2 - 0.5 + _cells(level).repeat(3, 1)) * stride
            likely = [self.rows(head[n](level)).sigmoid() for head in (self.objects, self.classes)]
            found.append(torch.cat([centre, (sides[..., 2:] * 2) ** 2 * sizes, *likely], 2))
        return torch.cat(found, 1)


class OfCells(Head):
    """YOLOX: one box a cell, coded by offset and logarithm; decoded in the graph or not."""

    def __init__(self, decoded: bool) -> None:
        """Make a network of random weights."""
        super().__init__()
        self.decoded = decoded

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (N, A, 5 + C)."""
        found, levels = [], self.levels(x)
        for n, level in enumerate(levels):
            likely = [head[n](level).sigmoid() for head in (self.objects, self.classes)]
            found.append(torch.cat([self.boxes[n](level), *likely], 1).flatten(2))
        rows = torch.cat(found, 2).permute(0, 2, 1)
        return decode_cells(rows, levels) if self.decoded else rows


def decode_cells(rows: torch.Tensor, levels: list[torch.Tensor]) -> torch.Tensor:
    """Return the rows (N, A, 5 + C) of YOLOX with centres and sizes in pixels."""
    cells = torch.cat([_cells(level) for level in levels])
    strides = torch.cat(
        [torch.full((v.shape[2] * v.shape[3], 1), float(s)) for v, s in zip(levels, STRIDES, strict=True)]
    )
    strides = strides.to(rows.dtype)
    return torch.cat([(rows[..., :2] + cells) * strides, rows[..., 2:4].exp() * strides, rows[..., 4:]], 2)


class OfPriors(Head):
    """SSD: a softmax over background and classes, and corners in shares of the picture, in two outputs."""

    def __init__(self) -> None:
        """Make a network of random weights."""
        super().__init__(classes=CLASSES + 1, objectness=False)
        self.closed = True  # by the softmax, as the file is

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores or logits (N, A, 1 + C), and boxes (N, A, 4)."""
        boxes, scores = [], []
        for n, (level, stride) in enumerate(zip(self.levels(x), STRIDES, strict=True)):
            sides = self.rows(self.boxes[n](level))
            centre = (_cells(level) + 0.5 + sides[..., :2] * 0.5) * stride / SIDE
            half = (sides[..., 2:] * 0.2).exp() * stride / SIDE
            boxes.append(torch.cat([centre - half, centre + half], 2))
            scores.append(self.rows(self.classes[n](level)))
        logits = torch.cat(scores, 1)
        return logits.softmax(2) if self.closed else logits, torch.cat(boxes, 1)


@dataclass(frozen=True)
class Kind:
    """A family: its network, what its output says, and what the export is told.

    Attributes:
        build: Makes the network.
        outputs: The names of its outputs.
        read: Returns corners in pixels and scores of classes, (A, 4) and (A, C), of an output.
        options: Further options of the export.
    """

    build: Callable[[], Head]
    outputs: tuple[str, ...]
    read: Callable[[Any, Head], tuple[torch.Tensor, torch.Tensor]]
    options: dict[str, Any]


def _of_rows(output: torch.Tensor, net: Head) -> tuple[torch.Tensor, torch.Tensor]:
    rows = output[0]
    half = rows[:, 2:4] / 2
    return torch.cat([rows[:, :2] - half, rows[:, :2] + half], 1), rows[:, 4:5] * rows[:, 5:]


def _of_raw(output: torch.Tensor, net: Head) -> tuple[torch.Tensor, torch.Tensor]:
    levels = [torch.zeros(1, 1, SIDE // s, SIDE // s, dtype=output.dtype) for s in STRIDES]
    return _of_rows(decode_cells(output, levels), net)


def _of_pair(output: tuple[torch.Tensor, torch.Tensor], net: Head) -> tuple[torch.Tensor, torch.Tensor]:
    return output[1][0] * SIDE, output[0][0]


KINDS = {
    "yolov5-definition": Kind(lambda: OfAnchors(3), ("output",), _of_rows, {}),
    "yolox-raw": Kind(lambda: OfCells(False), ("output",), _of_raw, {}),
    "yolox-decoded": Kind(lambda: OfCells(True), ("output",), _of_rows, {}),
    "ssd": Kind(OfPriors, ("scores", "boxes"), _of_pair, {"reader": "ssd", "iou": IOU}),
}
NAMES = tuple(KINDS)


def make(name: str, folder: Path, photos: list[Path]) -> Detector:
    """Make a network of a family with random weights, and its file."""
    kind = KINDS[name]
    torch.manual_seed(0)
    net = kind.build().eval()
    inputs = [torch.from_numpy(picture(photo)[None]) for photo in photos]
    softmax = isinstance(net, OfPriors)
    calibrate(net, [*net.boxes, *net.objects], net.classes, inputs, softmax=softmax)
    for head in net.objects:
        head.bias.data += 4  # most cells hold an object: scores are those of classes
    if softmax:
        for head in net.classes:
            head.bias.data[0] += 8  # most boxes hold no object
    source = folder / f"{name}.onnx"
    torch.onnx.export(
        net, (inputs[0],), source, dynamo=False, opset_version=17, input_names=["images"],
        output_names=list(kind.outputs),
    )  # fmt: skip
    net.closed = False
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])

    def find(x: Array, conf: float) -> Found:
        made = [torch.from_numpy(np.asarray(a)) for a in session.run(None, {"images": x[None]})]
        boxes, scores = kind.read(made if softmax else made[0], net)
        return suppressed(boxes.double().numpy(), scores.double().numpy(), conf, softmax)

    def numbers(output: Any) -> torch.Tensor:
        return output[0][0] if softmax else kind.read(output, net)[1]

    options = {"preprocessing": "unit", **kind.options}
    return Detector(source, net, find, picture, numbers, "softmax" if softmax else "value", options)


def suppressed(boxes: Array, scores: Array, conf: float, background: bool) -> Found:
    """Return the detections of boxes (A, 4) and scores (A, C), as the families search for duplicates.

    Args:
        boxes: Corners.
        scores: Those of all classes.
        conf: The least score.
        background: Whether the first class is none.
    """
    of_classes = scores[:, int(background) :]
    classes, best = of_classes.argmax(axis=1) + int(background), of_classes.max(axis=1)
    left = [int(n) for n in np.argsort(-best, kind="stable") if best[n] >= conf]
    kept = []
    while left:
        first, *left = left
        kept.append(first)
        left = [n for n in left if classes[n] != classes[first] or overlap(boxes[n], boxes[first]) <= IOU]
    return Found(boxes[kept], best[kept], classes[kept])


def overlap(a: Array, b: Array) -> float:
    """Return the intersection over union of two boxes."""
    shared = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))
