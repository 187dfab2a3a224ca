"""Detectors of transformers, small ones: their queries need no search for duplicates."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import onnxruntime
import torch
from torch import nn

from detectors.family import SIDE, Detector, Found, calibrate, picture, watched
from fusioncam.kernels.arrays import Array

CLASSES, QUERIES = 20, 40
RESNET = {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1], "layer_type": "basic"}
DECODER = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 2, "num_queries": QUERIES}
OF_DETR = {
    **DECODER, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "encoder_attention_heads": 4, "decoder_attention_heads": 4
}  # fmt: skip
OF_RT_DETR = {
    **OF_DETR, "encoder_hidden_dim": 64, "decoder_in_channels": [64, 64, 64], "num_denoising": 0,
    "anchor_image_size": [SIDE, SIDE],
}  # fmt: skip


class Kind(NamedTuple):
    """A type of model: its class, and what its small configuration has otherwise.

    Attributes:
        model: The class of the model, without `ForObjectDetection`.
        fields: Of the configuration.
        backbone: The class of the configuration of its backbone, and that one's fields.
        heads: Where its last layers of boxes and of classes are.
        softmax: Whether scores are made by a softmax.
        most: How many detections post-processing keeps.
        gain: How large its random weights are: queries must differ, and rounding must not grow.
    """

    model: str
    fields: dict[str, Any]
    backbone: tuple[str, dict[str, Any]] | None = None
    heads: tuple[str, str] = ("bbox_embed", "class_embed")
    softmax: bool = False
    most: int = QUERIES
    gain: float = 1.0


OF_LEVELS = {"out_features": ["stage2", "stage3", "stage4"]}
PREDICTORS = ("bbox_predictor", "class_labels_classifier")
KINDS = {
    "detr": Kind("Detr", OF_DETR, ("ResNet", {**RESNET, "out_features": ["stage4"]}), PREDICTORS, True, gain=1.5),
    "yolos": Kind(
        "Yolos",
        {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128,
         "image_size": [SIDE, SIDE], "num_detection_tokens": QUERIES},
        None, PREDICTORS, True,
    ),
    "conditional_detr": Kind(
        "ConditionalDetr", OF_DETR, ("ResNet", {**RESNET, "out_features": ["stage4"]}), PREDICTORS, most=100
    ),
    "deformable_detr": Kind(
        "DeformableDetr", {**OF_DETR, "disable_custom_kernels": True}, ("ResNet", {**RESNET, **OF_LEVELS}), most=100
    ),
    "rt_detr": Kind("RTDetr", OF_RT_DETR, ("RTDetrResNet", {**RESNET, **OF_LEVELS})),
    "rt_detr_v2": Kind("RTDetrV2", OF_RT_DETR, ("RTDetrResNet", {**RESNET, **OF_LEVELS}), gain=0.7),
    "rf_detr": Kind(
        "RfDetr",
        {"d_model": 64, "decoder_layers": 2, "decoder_ffn_dim": 64, "decoder_self_attention_heads": 4,
         "decoder_cross_attention_heads": 4, "decoder_n_points": 2, "num_queries": QUERIES, "group_detr": 1},
        ("RfDetrDinov2", {"hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": SIDE,
                          "patch_size": 16, "num_windows": 2, "out_features": ["stage2", "stage4"]}),
    ),
    "d_fine": Kind("DFine", {**OF_RT_DETR, "decoder_n_points": [2, 2, 2]}, ("HGNetV2", OF_LEVELS), gain=0.7),
}  # fmt: skip
NAMES = tuple(KINDS)


@dataclass(frozen=True)
class Outputs:
    """The two outputs that post-processing reads."""

    logits: torch.Tensor
    pred_boxes: torch.Tensor


class Pair(nn.Module):
    """A model that gives logits and boxes, and no more."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a model of transformers."""
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (N, Q, classes) and boxes (N, Q, 4)."""
        found = self.model(pixels)
        return found.logits, found.pred_boxes


def make(name: str, folder: Path, photos: list[Path]) -> Detector:
    """Make a small detector of transformers with random weights, its file, and its config.json beside it."""
    library = importlib.import_module("transformers")
    kind = KINDS[name]
    torch.manual_seed(0)
    config = _config(library, kind)
    model = getattr(library, f"{kind.model}ForObjectDetection")(config).eval()
    _wake(model, kind.gain)
    for module in model.modules():
        if hasattr(module, "interpolate_pos_encoding"):  # these are as many as the patches of a picture
            module.interpolate_pos_encoding = lambda *_, own=module: own.position_embeddings
    pair = Pair(model).eval()
    inputs = [torch.from_numpy(picture(photo)[None]) for photo in photos]
    boxes, classes = (_last(pair, place, inputs[:1]) for place in kind.heads)
    calibrate(pair, [boxes], [classes], inputs, softmax=kind.softmax)
    source = folder / f"{name}.onnx"
    torch.onnx.export(
        pair, (torch.rand(1, 3, SIDE, SIDE),), source, dynamo=False, opset_version=17, do_constant_folding=True,
        input_names=["pixel_values"], output_names=["logits", "pred_boxes"], dynamic_axes={"pixel_values": {0: "N"}},
    )  # fmt: skip
    config.save_pretrained(folder)
    processor = getattr(library, f"{kind.model}ImageProcessor", None) or library.RTDetrImageProcessor
    find, options = _finder(processor, source), {"preprocessing": "unit", "most": kind.most}
    closing = "softmax" if kind.softmax else "sigmoid"
    return Detector(source, pair, find, picture, lambda output: output[0][0], closing, options, "transformers")


def _config(library: Any, kind: Kind) -> Any:
    fields = dict(kind.fields)
    if kind.backbone is not None:
        name, of_backbone = kind.backbone
        fields |= {"backbone_config": getattr(library, f"{name}Config")(**of_backbone)}
    labels = {n: f"class {n}" for n in range(CLASSES)}
    return getattr(library, f"{kind.model}Config")(
        **fields, id2label=labels, label2id={v: k for k, v in labels.items()}
    )


def _wake(model: nn.Module, gain: float) -> None:
    """Draw weights so large that queries and pictures differ: those of transformers are drawn for training."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, gain=gain)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)


def _last(model: nn.Module, place: str, inputs: list[torch.Tensor]) -> nn.Module:
    """Return the last linear layer that runs of the heads of a name."""
    heads = [m for name, m in model.named_modules() if f".{place}." in f".{name}." and isinstance(m, nn.Linear)]
    return [m for m, seen in zip(heads, watched(model, heads, inputs), strict=True) if seen][-1]


def _finder(processor: Any, source: Path) -> Callable[[Array, float], Found]:
    session = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])

    def find(x: Array, conf: float) -> Found:
        made = session.run(["logits", "pred_boxes"], {"pixel_values": x[None]})
        outputs = Outputs(*map(torch.from_numpy, made))
        found = processor.post_process_object_detection(None, outputs, threshold=conf, target_sizes=[(SIDE, SIDE)])[0]
        return Found(found["boxes"].numpy(), found["scores"].numpy(), found["labels"].numpy())

    return find
