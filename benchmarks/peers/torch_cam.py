"""torch-cam: Score-CAM."""

from typing import Any

import numpy as np
import torch

from peers import Explain, Peer, definitions


def open_cam(net: Any, bundle: Any, threads: int) -> Explain:
    """Its Score-CAM with its own batch of 32; the map comes at the layer's size and is enlarged as ours are."""
    from torchcam.methods import ScoreCAM

    cam = ScoreCAM(net.network, net.layer)

    def explain(x: np.ndarray, class_index: int) -> dict[str, np.ndarray]:
        with torch.no_grad():
            net.network(torch.from_numpy(x)[None])
            (small,) = cam(class_index)
        return {"score_cam": definitions.finished(small[0], x)}

    return explain


def _defined(net: Any, x: np.ndarray, class_index: int) -> np.ndarray:
    def mask(some: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return definitions.up(definitions.unit(some), size)

    return definitions.finished(definitions.score_cam(net, x, class_index, mask), x)


PEERS = (
    Peer(
        "torch-cam: Score-CAM", "torchcam", "score_cam", lambda layer: layer[0], open_cam, _defined,
        "masks brought to [0, 1] before they are enlarged; the map is cut off at zero before it is enlarged",
    ),
)  # fmt: skip
