"""captum: Grad-CAM. It has no Score-CAM."""

from typing import Any

import numpy as np
import torch

from peers import Explain, Peer, definitions


def open_cam(net: Any, bundle: Any, threads: int) -> Explain:
    """Its LayerGradCam, enlarged by its own interpolation."""
    from captum.attr import LayerAttribution, LayerGradCam

    cam = LayerGradCam(net.network, net.layer)

    def explain(x: np.ndarray, class_index: int) -> dict[str, np.ndarray]:
        image = torch.from_numpy(x)[None].requires_grad_(True)
        small = cam.attribute(image, target=class_index, relu_attributions=True).detach()
        large = LayerAttribution.interpolate(small, x.shape[1:], "bilinear")
        return {"grad_cam": definitions.unit(large[0, 0]).numpy()}

    return explain


PEERS = (
    Peer(
        "captum: Grad-CAM", "captum", "grad_cam", lambda layer: 0, open_cam, definitions.grad_cam,
        "as defined; it returns no map in [0, 1]: brought there afterwards",
    ),
)  # fmt: skip
