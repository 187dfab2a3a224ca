"""Detectors of torchvision with a single stage, whose files end in a search for duplicates."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime
import torch
from torch import nn

from detectors.family import SIDE, Detector, Found, calibrate, picture
from fusioncam.kernels.arrays import Array

CLASSES = 12


@dataclass(frozen=True)
class Kind:
    """A detector of torchvision.

    Attributes:
        model: The name of its builder.
        closing: What makes scores of its logits.
        centred: Whether another head says how far a cell lies from the centre of its object; scores hold both.
        side: Pixels of its input.
    """

    model: str
    closing: Literal["sigmoid", "softmax"]
    centred: bool = False
    side: int = SIDE


KINDS = {
    "ssdlite320": Kind("ssdlite320_mobilenet_v3_large", "softmax"),
    "ssd300": Kind("ssd300_vgg16", "softmax", side=300),
    "retinanet": Kind("retinanet_resnet50_fpn", "sigmoid"),
    "fcos": Kind("fcos_resnet50_fpn", "sigmoid", centred=True),
}
NAMES = tuple(KINDS)


class OfPicture(nn.Module):
    """A detector that takes one picture, 0 to 1, in a batch of one."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model of torchvision."""
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return boxes, scores and classes."""
        (found,) = self.model(list(x))
        return found["boxes"], found["scores"], found["labels"]


class Heads(nn.Module):
    """The part of a detector above its search."""

    def __init__(self, model: Any) -> None:
        """Wrap a model of torchvision."""
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what the heads give."""
        images, _ = self.model.transform(list(x))
        features = list(self.model.backbone(images.tensors).values())
        found: dict[str, torch.Tensor] = self.model.head(features)
        return found


def make(name: str, folder: Path, photos: list[Path]) -> Detector:
    """Make a detector of torchvision with random weights, and its file."""
    library = importlib.import_module("torchvision.models.detection")
    kind = KINDS[name]
    torch.manual_seed(0)
    sizes = {} if kind.model.startswith("ssd") else {"min_size": kind.side, "max_size": kind.side}
    model = getattr(library, kind.model)(
        weights=None, weights_backbone=None, num_classes=CLASSES + (kind.closing == "softmax"), **sizes
    ).eval()
    _wake(model)
    whole, heads = OfPicture(model).eval(), Heads(model).eval()
    inputs = [torch.from_numpy(picture(photo, kind.side)[None]) for photo in photos]
    boxes, classes = _last(model.head.regression_head), _last(model.head.classification_head)
    calibrate(heads, boxes, classes, inputs, softmax=kind.closing == "softmax")
    for layer in classes if kind.closing == "softmax" else ():
        layer.bias.data[:: CLASSES + 1] += 6  # most boxes hold no object
    if kind.centred:
        model.head.regression_head.bbox_ctrness.bias.data += 4
    source = folder / f"{name}.onnx"
    torch.onnx.export(
        whole, (inputs[0],), source, dynamo=False, opset_version=17, input_names=["image"],
        output_names=["boxes", "scores", "labels"],
    )  # fmt: skip

    def numbers(output: dict[str, torch.Tensor]) -> torch.Tensor:
        logits = output["cls_logits"][0]
        return (logits.sigmoid() * output["bbox_ctrness"][0].sigmoid()).sqrt() if kind.centred else logits

    return Detector(
        source, heads, _finder(source), lambda photo: picture(photo, kind.side), numbers,
        "value" if kind.centred else kind.closing, {"preprocessing": "unit"}, "torchvision",
    )  # fmt: skip


def _wake(model: nn.Module) -> None:
    """Draw weights so large that pictures differ, and statistics of batch norms that do not let them vanish."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)


def _last(head: Any) -> list[nn.Conv2d]:
    """Return the last layers of a head, one for each level or one for all."""
    levels = getattr(head, "module_list", None)
    if levels is None:
        return [next(getattr(head, n) for n in ("bbox_reg", "cls_logits") if hasattr(head, n))]
    return [level if isinstance(level, nn.Conv2d) else level[-1] for level in levels]


def _finder(source: Path) -> Callable[[Array, float], Found]:
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])

    def find(x: Array, conf: float) -> Found:
        boxes, scores, classes = (np.asarray(a) for a in session.run(None, {"image": x[None]}))
        likely = scores >= conf
        return Found(boxes[likely], scores[likely], classes[likely])

    return find
