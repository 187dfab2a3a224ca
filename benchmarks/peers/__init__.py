"""Other packages that draw such maps: one module per package, and what each of them says that it computes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Explain = Callable[[np.ndarray, int], dict[str, np.ndarray]]
_KEPT: list[Any] = []  # declared operators live as long as what declared them


@dataclass(frozen=True)
class Peer:
    """A package's way to a map.

    Attributes:
        name: What to call it.
        package: Its distribution.
        method: The map of ours that its map is compared with.
        passes: Passes of K channels on a grid of h x w: how many, of (K, h, w).
        open: open(torch network, bundle, threads) gives explain(x, class_index), which gives maps (H, W) by method.
        defined: defined(torch network, x, class_index): the same map, made plainly by the package's own definition;
            None where that is method.md's.
        note: What is different from method.md's map.
    """

    name: str
    package: str
    method: str
    passes: Callable[[tuple[int, int, int]], int]
    open: Callable[[Any, Any, int], Explain]
    defined: Callable[[Any, np.ndarray, int], np.ndarray] | None
    note: str


def torchvision_without_operators() -> None:
    """Let torchvision be imported where its compiled part does not fit this torch: some packages only need its rest."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        import torchvision  # noqa: F401


def every_peer() -> list[Peer]:
    """All of them; what a package needs is imported when it is opened."""
    from peers import captum_grad_cam, openvino_recipro_cam, pytorch_grad_cam_, torch_cam, transcription

    modules = (pytorch_grad_cam_, torch_cam, captum_grad_cam, openvino_recipro_cam, transcription)
    return [peer for module in modules for peer in module.PEERS]
