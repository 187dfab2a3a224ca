"""openvino-xai: Recipro-CAM, which runs the head only, once per place of the layer."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from fusioncam.manifest import SCORE_GRAPH, read_bundle
from peers import Explain, Peer, definitions


def open_cam(net: Any, bundle: Path, threads: int) -> Explain:
    """Its Recipro-CAM on the bundle's own graph, in OpenVINO, at the bundle's layer."""
    import openvino
    from openvino_xai.methods.white_box.recipro_cam import ReciproCAM

    manifest = read_bundle(bundle)
    network = openvino.Core().read_model(single_picture(bundle))
    target = next(
        op.get_friendly_name()
        for op in network.get_ordered_ops()
        if any(manifest.layer.name in output.get_names() for output in op.outputs())
    )
    cam = ReciproCAM(network, target_layer=target, prepare_model=False)
    # As it is compiled by itself it takes every core, and bfloat16 where the processor has that.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    cam._model_compiled = openvino.Core().compile_model(cam.prepare_model(load_model=False), "CPU", settings)

    def explain(x: np.ndarray, class_index: int) -> dict[str, np.ndarray]:
        small = cam.generate_saliency_map(x[None])[0, class_index]
        return {"score_cam": definitions.finished(torch.from_numpy(small.astype(np.float32)), x)}

    return explain


def single_picture(bundle: Path) -> bytes:
    """The score graph as bytes, its weights inside."""
    with tempfile.TemporaryDirectory() as room:
        whole = Path(room) / "whole.onnx"
        onnx.save(onnx.load(bundle / SCORE_GRAPH), whole)
        return whole.read_bytes()


PEERS = (
    Peer(
        "openvino-xai: Recipro-CAM", "openvino-xai", "score_cam", lambda layer: 0, open_cam, definitions.recipro_cam,
        "another method: blanks places instead of masking by channels; rounded to 8 bits",
    ),
)  # fmt: skip
