"""A detector as the comparison asks for it, and heads whose random weights give some tens of detections."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from torch import nn

from fusioncam.kernels.arrays import Array

SIDE = 320  # pixels of the inputs
LIKELY = 20  # scores of a picture that are above the threshold, at least
CONF = 0.25


@dataclass(frozen=True)
class Found:
    """Detections of a picture by a library: boxes (n, 4) as corners, scores, classes (n,), perhaps masks (n, H, W)."""

    boxes: Array
    scores: Array
    classes: Array
    masks: Array | None = None


@dataclass(frozen=True)
class Detector:
    """A detector of a library.

    Attributes:
        source: Its ONNX file.
        module: The same in torch.
        find: Returns what the library detects in a picture, of those that `pictures` yields, from a score on.
        pictures: Returns what `Explainer` takes for the path of a photo: the path itself, or a preprocessed array.
        numbers: Returns the numbers of classes (A, C) of the output of the module, whose gradient is compared.
        closing: What makes scores of these numbers; `value` where they are scores.
        options: Options of the export.
        library: Whose post-processing `find` is.
        search: Returns what the library's search finds in outputs of the file for a preprocessed picture, in float64;
            by default what `find` does, where the file holds the search itself.
    """

    source: Path
    module: nn.Module
    find: Callable[[Any, float], Found]
    pictures: Callable[[Path], Any]
    numbers: Callable[[Any], torch.Tensor]
    closing: Literal["value", "sigmoid", "softmax"] = "value"
    options: dict[str, Any] = field(default_factory=dict)
    library: str = "the published definition"
    search: Callable[[Any, Array, float], Found] | None = None

    def explained(self, output: Any, ending: str) -> torch.Tensor:
        """Return what a bundle with an ending explains (A, C), by the output of the module."""
        numbers = self.numbers(output)
        if ending == self.closing:
            return numbers
        if ending == "value":
            return numbers.softmax(-1) if self.closing == "softmax" else numbers.sigmoid()
        return torch.logit(numbers)


def picture(photo: Path, side: int = SIDE) -> Array:
    """Return a photo as (3, H, W), 0 to 1.

    Args:
        photo: The file.
        side: H and W.
    """
    pixels = cv2.resize(cv2.imread(str(photo)), (side, side), interpolation=cv2.INTER_AREA)[..., ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32) / 255


def spread(layer: nn.Conv2d | nn.Linear, seen: Sequence[torch.Tensor], mean: float, deviation: float) -> None:
    """Give the outputs of a layer a mean and a deviation over what was seen of them, each by itself.

    Args:
        layer: The last of a head.
        seen: Its outputs for some pictures.
        mean: The mean.
        deviation: The standard deviation.
    """
    axis = 1 if isinstance(layer, nn.Conv2d) else -1
    numbers = torch.cat([s.movedim(axis, 0).flatten(1) for s in seen], 1)
    scale = deviation / numbers.std(1).clamp(min=1e-6)
    bias = torch.zeros(len(scale)) if layer.bias is None else layer.bias.detach()
    layer.weight.data *= scale.view(-1, *[1] * (layer.weight.ndim - 1))
    layer.bias = nn.Parameter(mean + (bias - numbers.mean(1)) * scale)


def watched(module: nn.Module, layers: Iterable[nn.Module], inputs: Sequence[torch.Tensor]) -> list[list[torch.Tensor]]:
    """Return the outputs of some layers of a module for some inputs."""
    layers, seen = list(layers), []
    for layer in layers:
        outputs: list[torch.Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, y, kept=outputs: kept.append(y.detach()))
        with torch.no_grad():
            for x in inputs:
                module(x)
        hook.remove()
        seen.append(outputs)
    return seen


def calibrate(
    module: nn.Module,
    boxes: Sequence[Any],
    classes: Sequence[Any],
    inputs: Sequence[torch.Tensor],
    softmax: bool = False,
    apart: float = 0.0,
) -> None:
    """Change the last layers of heads so that boxes differ, and `LIKELY` scores of every picture or more exceed `CONF`.

    Args:
        module: The detector.
        boxes: The last layers of the heads of boxes.
        classes: Those of the heads of classes.
        inputs: Pictures.
        softmax: Whether a softmax makes the scores, so that only their deviation counts.
        apart: The mean of the numbers of boxes.
    """
    for layer in boxes:
        spread(layer, watched(module, [layer], inputs)[0], apart, 1.0)
    for layer in classes:
        spread(layer, watched(module, [layer], inputs)[0], 0.0, 2.5 if softmax else 1.5)
    if softmax:
        return
    seen = zip(*watched(module, classes, inputs), strict=True)
    least = min(float(torch.cat([s.flatten() for s in of]).topk(LIKELY).values[-1]) for of in seen)
    for layer in classes:
        layer.bias.data += np.log(CONF / (1 - CONF)) - least + 0.01  # no score is at the very threshold
