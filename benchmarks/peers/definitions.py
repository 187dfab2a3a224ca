"""Definitions of the packages, written plainly in torch: nothing is skipped, nothing is fast."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

BATCH = 16


def up(maps: Tensor, size: tuple[int, ...], corners: bool = False) -> Tensor:
    """Maps (..., h, w) at a size (H, W), bilinear."""
    flat = maps.reshape(-1, 1, *maps.shape[-2:])
    return F.interpolate(flat, size, mode="bilinear", align_corners=corners).reshape(*maps.shape[:-2], *size)


def unit(maps: Tensor) -> Tensor:
    """Each map brought to [0, 1]; a constant one becomes zeros."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)


def evidence(net: Any, x: np.ndarray, class_index: int) -> tuple[Tensor, Tensor]:
    """A and g (K, h, w)."""
    kept: list[Tensor] = []

    def keep(module: Any, given: Any, made: Tensor) -> Tensor:
        kept.append(made.detach().requires_grad_(True))
        return kept[-1]

    handle = net.layer.register_forward_hook(keep)
    try:
        logits = net.network(torch.from_numpy(x)[None])
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logits[0, class_index], kept[-1])
    return kept[-1].detach()[0], gradient[0]


def activations(net: Any, x: np.ndarray) -> Tensor:
    """A (K, h, w)."""
    kept: list[Tensor] = []
    handle = net.layer.register_forward_hook(lambda module, given, made: kept.append(made.detach()))
    with torch.no_grad():
        net.network(torch.from_numpy(x)[None])
    handle.remove()
    return kept[-1][0]


def score_cam(net: Any, x: np.ndarray, class_index: int, mask: Callable[[Tensor, tuple[int, ...]], Tensor]) -> Tensor:
    """relu(sum_k w_k A_k) (h, w), w the softmax over the logits of x * mask(A_k)."""
    image, a = torch.from_numpy(x), activations(net, x)
    with torch.no_grad():
        masked = (image * mask(some, x.shape[1:])[:, None] for some in a.split(BATCH))
        scores = [net.network(some)[:, class_index] for some in masked]
        weights = torch.cat(scores).double().softmax(0)
        return (weights[:, None, None] * a.double()).sum(0).relu().float()


def finished(small: Tensor, x: np.ndarray) -> np.ndarray:
    """A map (h, w) brought to [0, 1] at the size of the picture."""
    found: np.ndarray = unit(up(small, x.shape[1:])).numpy()
    return found


def grad_cam(net: Any, x: np.ndarray, class_index: int) -> np.ndarray:
    """unit(up(relu(sum_k mean(g_k) A_k)))."""
    a, g = evidence(net, x, class_index)
    return finished((g.mean((1, 2))[:, None, None] * a).sum(0).relu(), x)


def recipro_cam(net: Any, x: np.ndarray, class_index: int) -> np.ndarray:
    """Logits of the head on A with all but one place blanked, one for every place (arXiv 2209.14074)."""
    a = activations(net, x)
    _, h, w = a.shape
    places = a * torch.eye(h * w).reshape(h * w, 1, h, w)
    handle = net.layer.register_forward_hook(lambda module, given, made: places)
    with torch.no_grad():
        logits = net.network(torch.from_numpy(x)[None])
    handle.remove()
    return finished(logits[:, class_index].reshape(h, w), x)
