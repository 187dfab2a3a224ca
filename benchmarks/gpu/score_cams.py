"""Programs that fusioncam is timed against: Score-CAM (arXiv 1910.01279) in plain torch, and pytorch-grad-cam's."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from networks import Network
from torch import Tensor

Explain = Callable[[np.ndarray], np.ndarray]


def plain(network: Network, batch: int, class_index: int) -> Explain:
    """Score-CAM as one would write it for a GPU: masks, masked pictures and passes in batches, no copy in between.

    Args:
        network: On the device; its type is that of the passes.
        batch: Pictures per pass.
        class_index: The class.

    Returns:
        Makes the map (H, W), on the host, of a preprocessed picture (3, H, W) on the host.
    """
    weight = next(network.parameters())

    def explain(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            image = torch.from_numpy(x)[None].to(weight.device)
            activations = network.features(image.to(weight.dtype)).float()
            scores = [
                network(masked(image, some).to(weight.dtype))[:, class_index] for some in activations[0].split(batch)
            ]
            weights = torch.cat(scores).float().softmax(0)
            summed = (weights[:, None, None] * activations[0]).sum(0)
            found: np.ndarray = unit(up(summed[None, None], image).relu())[0, 0].cpu().numpy()
        return found

    return explain


def masked(image: Tensor, activations: Tensor) -> Tensor:
    """Masked pictures x * unit(up(A_k)) (B, 3, H, W) of maps (B, h, w)."""
    return image * unit(up(activations[:, None], image))


def up(maps: Tensor, image: Tensor) -> Tensor:
    """Maps (B, 1, h, w) at the size of the picture."""
    return F.interpolate(maps, image.shape[2:], mode="bilinear", align_corners=False)


def unit(maps: Tensor) -> Tensor:
    """Each map brought to [0, 1]."""
    low, high = maps.amin((2, 3), keepdim=True), maps.amax((2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-12)


def packaged(network: Network, batch: int, class_index: int, half: bool) -> Explain:
    """pytorch-grad-cam's Score-CAM; in float16 by torch's autocast.

    Args:
        network: On the device, in float32; it gets hooks.
        batch: Pictures per pass.
        class_index: The class.
        half: Whether to autocast.

    Raises:
        ImportError: It is not installed.
    """
    from pytorch_grad_cam import ScoreCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam = ScoreCAM(model=network, target_layers=[network.features])
    cam.batch_size = batch
    kind = next(network.parameters()).device.type

    def explain(x: np.ndarray) -> np.ndarray:
        image, target = torch.from_numpy(x)[None], ClassifierOutputTarget(class_index)
        with redirect_stderr(io.StringIO()), torch.autocast(kind, torch.float16, enabled=half):  # it draws a bar
            found: np.ndarray = cam(input_tensor=image, targets=[target])[0]
        return found

    return explain
