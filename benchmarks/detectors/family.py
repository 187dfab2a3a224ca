"""A detector as the comparison asks for it, and heads whose random weights give some tens of detections."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
        logits: Whether these are logits, not scores.
        options: Options of the export.
    """

    source: Path
    module: nn.Module
    find: Callable[[Any, float], Found]
    pictures: Callable[[Path], Any]
    numbers: Callable[[Any], torch.Tensor]
    logits: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def explained(self, output: Any, ending: str) -> torch.Tensor:
        """Return what a bundle with an ending explains (A, C), by the output of the module."""
        numbers = self.numbers(output)
        if self.logits:
            return numbers.softmax(-1) if ending == "value" else numbers
        return torch.logit(numbers) if ending == "sigmoid" else numbers


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
) -> None:
    """Change the last layers of heads so that boxes differ, and `LIKELY` scores of every picture or more exceed `CONF`.

    Args:
        module: The detector.
        boxes: The last layers of the heads of boxes.
        classes: Those of the heads of classes.
        inputs: Pictures.
        softmax: Whether a softmax makes the scores, so that only their deviation counts.
    """
    for layer in boxes:
        spread(layer, watched(module, [layer], inputs)[0], 0.0, 1.0)
    for layer in classes:
        spread(layer, watched(module, [layer], inputs)[0], 0.0, 2.5 if softmax else 1.5)
    if softmax:
        return
    seen = zip(*watched(module, classes, inputs), strict=True)
    least = min(float(torch.cat([s.flatten() for s in of]).topk(LIKELY).values[-1]) for of in seen)
    for layer in classes:
        layer.bias.data += np.log(CONF / (1 - CONF)) - least + 0.01  # no score is at the very threshold
