"""Networks of torchvision, timm and transformers with random weights, made small: the shapes of a family remain."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

CLASSES = 7


@dataclass(frozen=True)
class Entry:
    """A network of a library.

    Attributes:
        library: `torchvision`, `timm` or `transformers`.
        make: Name of the model; of transformers the stem of its class.
        size: (H, W) of the input in pixels.
        options: What makes it small.
        head: Of transformers the rest of its class.
        output: The field of its answer that is exported, where there are several.
    """

    library: str
    make: str
    size: tuple[int, int] = (64, 64)
    options: Mapping[str, Any] = field(default_factory=dict)
    head: str = "ForImageClassification"
    output: str | None = None


def _of(library: str, size: int = 64, **models: Mapping[str, Any]) -> dict[str, Entry]:
    found = {}
    for name, options in models.items():
        given = dict(options)
        side = given.pop("size", size)
        known = {key: given.pop(key) for key in ("head", "output") if key in given}
        found[f"{library}/{name}"] = Entry(library, given.pop("make", name), (side, side), given, **known)
    return found


_TINY_HF: dict[str, Any] = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48}

ENTRIES: dict[str, Entry] = {
    **_of(
        "torchvision",
        alexnet={"size": 128},
        vgg11={"size": 128},
        resnet18={},
        densenet121={},
        mobilenet_v3_small={},
        shufflenet_v2_x0_5={},
        efficientnet_b0={},
        regnet_x_400mf={},
        mnasnet0_5={},
        googlenet={"init_weights": False, "aux_logits": False},
        convnext_tiny={},
        swin_t={},
        swin_v2_t={},
        vit_b_16={"image_size": 64, "make": "VisionTransformer", "patch_size": 16, "num_layers": 2, "num_heads": 2,
                  "hidden_dim": 32, "mlp_dim": 48},
        maxvit={"size": 64, "make": "MaxVit", "input_size": (64, 64), "stem_channels": 16, "partition_size": 2,
                "block_channels": [16, 32], "block_layers": [1, 1], "head_dim": 8,
                "stochastic_depth_prob": 0.0},
    ),
    **_of(
        "timm",
        xcit_nano_12_p16_224={"img_size": 64, "depth": 2},
        cait_xxs24_224={"img_size": 64, "depth": 2, "embed_dim": 48},
        tnt_s_patch16_224={"img_size": 64, "depth": 2, "embed_dim": 48},
        hiera_tiny_224={"img_size": 64, "stages": (1, 1, 1, 1), "embed_dim": 24},
        coat_tiny={"img_size": 64},
        coat_lite_tiny={"img_size": 64},
        levit_128s={"img_size": 64},
        efficientvim_m1={},
        maxvit_pico_rw_256={"size": 64, "img_size": 64},
        coatnet_nano_rw_224={"size": 64, "img_size": 64},
        vit_tiny_patch16_224={"img_size": 64, "depth": 2},
        vit_small_resnet26d_224={"img_size": 64, "depth": 2},
        deit_tiny_distilled_patch16_224={"img_size": 64, "depth": 2},
        beit_base_patch16_224={"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2},
        eva02_tiny_patch14_224={"img_size": 56, "size": 56, "depth": 2},
        swin_tiny_patch4_window7_224={"img_size": 64, "window_size": 2, "depths": (1, 2)},
        swinv2_cr_tiny_ns_224={"img_size": 224, "size": 224, "depths": (1, 2, 1, 1)},
        mvitv2_tiny={"img_size": 64, "depths": (1, 1, 1, 1)},
        pvt_v2_b0={},
        twins_svt_small={"img_size": 64, "depths": (1, 1, 1, 1)},
        crossvit_9_240={"img_size": 96, "size": 96},
        davit_tiny={"depths": (1, 1, 1, 1)},
        edgenext_xx_small={},
        efficientformer_l1={"size": 224},
        efficientformerv2_s0={"size": 224},
        fastvit_t8={},
        focalnet_tiny_srf={"depths": (1, 1, 1, 1)},
        gcvit_xxtiny={"img_size": 64, "depths": (1, 1, 1, 1), "window_size": (2, 2, 2, 2)},
        gmlp_ti16_224={"img_size": 64},
        mixer_s32_224={"img_size": 96, "size": 96},
        resmlp_12_224={"img_size": 64},
        mobilevit_xxs={},
        mobilevitv2_050={},
        nest_tiny_jx={"img_size": 64, "depths": (1, 1, 1)},
        nextvit_small={},
        pit_ti_224={"img_size": 64},
        poolformer_s12={},
        repvit_m0_9={},
        sequencer2d_s={"img_size": 64, "layers": (1, 1, 1, 1)},
        shvit_s1={},
        starnet_s1={},
        tiny_vit_5m_224={"img_size": 224, "size": 224},
        visformer_tiny={"img_size": 64},
        volo_d1_224={"img_size": 64},
        convit_tiny={"img_size": 64, "depth": 3},
        hrnet_w18_small={},
        mambaout_femto={},
        efficientvit_b0={},
        efficientvit_m0={"size": 224, "img_size": 224},
        dpn68={},
        convmixer_768_32={"depth": 2, "dim": 48},
        vovnet39a={},
        ghostnet_100={},
        caformer_s18={"depths": (1, 1, 1, 1)},
        swiftformer_xs={},
        hgnetv2_b0={},
        samvit_base_patch16_224={"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 2},
        nasnetalarge={"size": 96},
    ),
    **_of(
        "transformers",
        ViT={**_TINY_HF, "num_hidden_layers": 2, "image_size": 64, "patch_size": 16},
        DeiT={**_TINY_HF, "num_hidden_layers": 2, "image_size": 64, "patch_size": 16},
        Beit={**_TINY_HF, "num_hidden_layers": 2, "image_size": 64, "patch_size": 16},
        Dinov2={"hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 2, "image_size": 56, "patch_size": 14,
                "size": 56},
        Swin={"image_size": 64, "embed_dim": 24, "depths": [1, 2], "num_heads": [2, 2], "window_size": 4},
        ConvNext={"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
        MobileViT={"image_size": 64, "hidden_sizes": [24, 32, 48], "neck_hidden_sizes": [8, 8, 16, 24, 32, 32, 64]},
        Segformer={"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2]},
        Pvt={"image_size": 64, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1],
             "num_attention_heads": [1, 1, 2, 2]},
        Cvt={"embed_dim": [8, 16, 32], "num_heads": [1, 2, 2], "depth": [1, 1, 2], "cls_token": [False, False, True]},
        LevitModel={"make": "Levit", "image_size": 64, "hidden_sizes": [32, 48, 64], "num_attention_heads": [2, 2, 2],
                    "depths": [1, 1, 1], "key_dim": [8, 8, 8]},
        Hiera={"image_size": [64, 64], "embed_dim": 24, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 2],
               "masked_unit_size": [8, 8]},
        Siglip={"vision_config": {**_TINY_HF, "num_hidden_layers": 2, "image_size": 64, "patch_size": 16}},
        ResNet={"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
        MobileNetV2={"image_size": 64},
        PoolFormer={"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]},
        Swiftformer={"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [16, 16, 24, 32]},
        FocalNet={"image_size": 64, "embed_dim": 16, "depths": [1, 1, 1, 1]},
        ViTMSN={**_TINY_HF, "num_hidden_layers": 2, "image_size": 64, "patch_size": 16},
    ),
}  # fmt: skip


_DINO: dict[str, Any] = {**_TINY_HF, "make": "Dinov2", "head": "Model", "num_hidden_layers": 2, "image_size": 56,
                         "patch_size": 14, "size": 56}  # fmt: skip

# Segmenters, whose output is a map of logits, and embedders.
TARGET_ENTRIES: dict[str, Entry] = {
    **_of(
        "torchvision",
        fcn_resnet50={"output": "out"},
        deeplabv3_mobilenet_v3_large={"output": "out"},
        lraspp_mobilenet_v3_large={"output": "out"},
    ),
    **_of(
        "transformers",
        SegformerSemantic={"make": "Segformer", "head": "ForSemanticSegmentation", "hidden_sizes": [8, 16, 24, 32],
                           "depths": [1, 1, 1, 1], "num_attention_heads": [1, 1, 2, 2], "decoder_hidden_size": 32,
                           "output": "logits"},
        CLIPVision={**_TINY_HF, "num_hidden_layers": 2, "image_size": 64, "patch_size": 16, "projection_dim": 24,
                    "head": "ModelWithProjection", "output": "image_embeds"},
        Dinov2Tokens={**_DINO, "output": "last_hidden_state"},
        Dinov2Pooler={**_DINO, "output": "pooler_output"},
    ),
}  # fmt: skip


class Answer(nn.Module):
    """A model that gives one field of its answer only."""

    def __init__(self, model: nn.Module, field: str) -> None:
        """Wrap a model that returns more than is explained."""
        super().__init__()
        self.model, self.field = model, field

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return that field of the answer."""
        found: torch.Tensor = self.model(pixel_values)[self.field]
        return found


def declare_operators() -> None:
    """Declare the operators of torchvision's compiled part, without which it imports with its own torch only."""
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", "(Tensor a, Tensor b, float c) -> Tensor")


def example(entry: Entry) -> torch.Tensor:
    """Return an input (1, 3, H, W)."""
    return torch.zeros(1, 3, *entry.size)


def build(entry: Entry) -> nn.Module:
    """Make a network with random weights, none of them zero: an untrained classifier would give no gradient.

    Raises:
        ImportError: Its library is missing.
    """
    declare_operators()
    torch.manual_seed(0)
    makers: dict[str, Callable[[Entry], nn.Module]] = {
        "torchvision": _torchvision, "timm": _timm, "transformers": _transformers,
    }  # fmt: skip
    module = makers[entry.library](entry).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim == 0 or parameter.abs().max() < 1e-3:
                scale = 1 / math.sqrt(parameter.shape[-1]) if parameter.ndim > 1 else 0.2
                parameter.normal_(0, scale)
        for part in module.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.running_var is not None:
                part.running_mean.normal_(0, 0.1)
                part.running_var.uniform_(0.5, 1.5)
    return module


def _torchvision(entry: Entry) -> nn.Module:
    import torchvision.models as library

    options = dict(entry.options)
    if entry.make[0].isupper():
        made: nn.Module = getattr(library, entry.make)(num_classes=CLASSES, **options)
        return made
    if entry.output is not None:
        options["weights_backbone"] = None
    made = library.get_model(entry.make, weights=None, num_classes=CLASSES, **options)
    return made if entry.output is None else Answer(made, entry.output)


def _timm(entry: Entry) -> nn.Module:
    import timm

    timm.layers.set_fused_attn(False)  # Hiera calls torch's own attention on five axes, which torch cannot export
    made: nn.Module = timm.create_model(entry.make, pretrained=False, num_classes=CLASSES, **entry.options)
    return made


def _transformers(entry: Entry) -> nn.Module:
    import transformers

    config = getattr(transformers, f"{entry.make}Config")(num_labels=CLASSES, **entry.options)
    return Answer(getattr(transformers, f"{entry.make}{entry.head}")(config), entry.output or "logits")
