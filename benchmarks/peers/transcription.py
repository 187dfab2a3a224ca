"""Fusion-CAM as its authors' program does it, in torch: channel by channel, one masked picture per pass."""

from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peers import Explain, Peer, definitions
from peers.definitions import unit, up

THETA = 10  # percent


def fusion_cam(net: Any, x: np.ndarray, class_index: int) -> dict[str, np.ndarray]:
    """The three maps (H, W): arXiv 2603.05386, mode "official"."""
    image, size = torch.from_numpy(x)[None], x.shape[1:]
    a, g = definitions.evidence(net, x, class_index)

    def logits(m: Tensor) -> Tensor:
        with torch.no_grad():
            found: Tensor = net.network(image * m)[0]
        return found

    def confidence(m: Tensor) -> Tensor:
        return logits(m).softmax(0)[class_index]

    gradient = unit(up((g.mean((1, 2))[:, None, None] * a).sum(0).relu(), size))
    threshold = torch.quantile(gradient.double(), THETA / 100).float()
    denoised = unit(torch.where(gradient >= threshold, gradient, 0))
    scores = torch.stack([logits(unit(up(channel, size)))[class_index] for channel in a])
    region = unit(up((scores.softmax(0)[:, None, None] * a).sum(0), size).relu())

    blank = confidence(torch.zeros(size))
    first, second = shares(confidence(denoised) - blank, confidence(region) - blank)
    united = unit(first * denoised + second * region)
    first, second = shares(confidence(united) - blank, second)
    one, two = first * united, second * region
    similar = (1 - (one - two).abs()).clip(0, 1)
    fused = unit(similar * torch.maximum(one, two) + (1 - similar) * (one + two) / 2)
    return {"grad_cam": gradient.numpy(), "score_cam": region.numpy(), "fusion_cam": fused.numpy()}


def shares(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The two over their sum."""
    total = one + other + 1e-8
    return one / total, other / total


def open_cam(net: Any, bundle: Any, threads: int) -> Explain:
    """Return all three maps."""
    return partial(fusion_cam, net)


PEERS = (
    Peer(
        "plain torch, channel by channel: Fusion-CAM", "torch", "fusion_cam", lambda layer: layer[0] + 4, open_cam,
        None, "as defined, nothing skipped",
    ),
)  # fmt: skip
