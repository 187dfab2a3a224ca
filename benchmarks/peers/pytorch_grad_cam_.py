"""pytorch-grad-cam: Score-CAM and Grad-CAM."""

import io
from contextlib import redirect_stderr
from functools import partial
from typing import Any

import numpy as np
import torch

from peers import Explain, Peer, definitions, torchvision_without_operators


def open_cam(name: str, method: str, net: Any, bundle: Any, threads: int) -> Explain:
    """Its class called `name`, as its readme uses it: 16 masked pictures per pass."""
    torchvision_without_operators()
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = getattr(pytorch_grad_cam, name)(model=net.network, target_layers=[net.layer])

    def explain(x: np.ndarray, class_index: int) -> dict[str, np.ndarray]:
        image = torch.from_numpy(x)[None].requires_grad_(name != "ScoreCAM")  # its gradients need something to start at
        with redirect_stderr(io.StringIO()):  # it draws a bar
            found: np.ndarray = cam(input_tensor=image, targets=[ClassifierOutputTarget(class_index)])[0]
        return {method: np.clip(found, 0, 1)}

    return explain


def _defined(net: Any, x: np.ndarray, class_index: int) -> np.ndarray:
    def mask(some: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return definitions.unit(definitions.up(some, size, corners=True))

    return definitions.finished(definitions.score_cam(net, x, class_index, mask), x)


PEERS = (
    Peer(
        "pytorch-grad-cam: Score-CAM", "grad-cam", "score_cam", lambda layer: layer[0],
        partial(open_cam, "ScoreCAM", "score_cam"), _defined,
        "masks enlarged with align_corners=True; the map is cut off at zero before it is enlarged",
    ),
    Peer(
        "pytorch-grad-cam: Grad-CAM", "grad-cam", "grad_cam", lambda layer: 0,
        partial(open_cam, "GradCAM", "grad_cam"), definitions.grad_cam, "as defined",
    ),
)  # fmt: skip
