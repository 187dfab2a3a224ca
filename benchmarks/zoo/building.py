"""Networks of libraries with random weights, none of them zero."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from zoo.entry import Entry
from zoo.shrinking import smallest, tiny

CLASSES = 7
UNFUSED = ("hiera",)  # of timm: they call torch's own attention on five axes, which torch cannot export


class Answer(nn.Module):
    """A model that gives one field of its answer only."""

    def __init__(self, model: nn.Module, field: str, video: bool = False) -> None:
        """Wrap a model that returns more than is explained; one of videos takes the frames before the channels."""
        super().__init__()
        self.model, self.field, self.video = model, field, video

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return that field of the answer."""
        found: torch.Tensor = self.model(pixel_values.transpose(1, 2) if self.video else pixel_values)[self.field]
        return found


def declare_operators() -> None:
    """Declare the operators of torchvision's compiled part, without which it imports with its own torch only."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")


def example(entry: Entry) -> torch.Tensor:
    """Return an input (1, 3, H, W), or (1, 3, T, H, W) of a video."""
    return torch.zeros(1, 3, *entry.size)


def build(entry: Entry) -> nn.Module:
    """Make a network with random weights; see `made`."""
    return made(entry)[0]


def made(entry: Entry) -> tuple[nn.Module, torch.Tensor]:
    """Make a network with random weights, none of them zero: an untrained classifier would give no gradient.

    Returns:
        The network, and an input.

    Raises:
        ImportError: Its library is missing.
    """
    declare_operators()
    torch.manual_seed(0)
    makers: dict[str, Callable[[Entry], nn.Module]] = {
        "torchvision": _torchvision, "timm": _timm, "transformers": _transformers,
    }  # fmt: skip
    make = makers[entry.library]
    module, picture = (make(entry), example(entry)) if entry.fitted else smallest(make, entry)
    _randomise(module.eval())
    return module, picture


def _randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() and (parameter.ndim == 0 or parameter.abs().max() < 1e-3):
                scale = 1 / math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 0.2
                parameter.normal_(0, scale)
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)


def _torchvision(entry: Entry) -> nn.Module:
    import torchvision.models as library

    options: dict[str, Any] = dict(entry.options)
    if entry.make[0].isupper():
        made: nn.Module = getattr(library, entry.make)(num_classes=CLASSES, **options)
        return made
    if entry.output is not None:
        options["weights_backbone"] = None
    made = library.get_model(entry.make, weights=None, num_classes=CLASSES, **options)
    return made if entry.output is None else Answer(made, entry.output)


def _timm(entry: Entry) -> nn.Module:
    import timm

    timm.layers.set_fused_attn(not entry.make.startswith(UNFUSED))
    options = {"num_classes": CLASSES, **entry.options}
    made: nn.Module = timm.create_model(entry.make, pretrained=False, **options)
    return made


def _transformers(entry: Entry) -> nn.Module:
    import transformers

    of_config = getattr(transformers, f"{entry.make}Config")
    config = of_config(num_labels=CLASSES, **entry.options)
    if not entry.fitted:
        tiny(config, entry.size[-1])
    network = getattr(transformers, f"{entry.make}{entry.head}")(config)
    return Answer(network, entry.output or "logits", video=len(entry.size) == 3)
