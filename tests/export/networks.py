"""What the tests know of a network: how to build it, and which layer it ought to be explained by."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class Network:
    """A small network that is built like a well-known one.

    Attributes:
        build: Makes it, with random weights.
        size: (H, W) of its input.
        last: The module whose output `export` should pick by default; with `:input`, whose input.
        shape: (K, h, w) of that layer.
        middle: A module further forward, written likewise.
        roles: Meaning of the axes of the last layer's tensor as the module gives it.
        middle_roles: The same for the middle one.
        offset: Tokens before those of the grid.
    """

    build: Callable[[], nn.Module]
    size: tuple[int, int]
    last: str
    shape: tuple[int, int, int]
    middle: str
    roles: str = "NCHW"
    middle_roles: str = "NCHW"
    offset: int = 0

    def make(self) -> nn.Module:
        """The network, the same every time, with statistics and affine parameters that are not those of a new one."""
        torch.manual_seed(0)
        module = self.build().eval()
        for part in module.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight)
            if isinstance(part, nn.BatchNorm2d):
                nn.init.normal_(part.running_mean, 0, 0.1)
                nn.init.uniform_(part.running_var, 0.5, 1.5)
            if isinstance(part, nn.BatchNorm2d | nn.LayerNorm) and part.weight is not None:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.normal_(part.bias, 0, 0.1)
        return module
