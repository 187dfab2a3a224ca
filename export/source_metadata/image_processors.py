"""The defaults of Hugging Face's image processors, for what a configuration leaves out: data only."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

Config = Mapping[str, Any]

# Pillow's numbers of its filters.
RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")

_HALF = {"image_mean": (0.5,) * 3, "image_std": (0.5,) * 3}
IMAGENET = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_CLIP = {
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_BACKWARDS = {name: numbers[::-1] for name, numbers in IMAGENET.items()}
_FLIPPED = {"do_flip_channel_order": True}
_CROPPED = {"do_center_crop": True, "crop_size": 224}
_CUBIC = {"resample": 3}
_EDGE_224 = {"size": {"shortest_edge": 224}, "square": False}
_SHORTER_EDGE = {"size": {"shortest_edge": 800, "longest_edge": 1333}, "max_size": 1333, "square": False}
_DETECTOR = {**IMAGENET, **_SHORTER_EDGE, "do_pad": True}
_VIT = {**_HALF, "resample": 2, "size": 224}
_CLIP_LIKE = {**_CLIP, **_CUBIC, **_EDGE_224, **_CROPPED}
_CONVNEXT = {**_HALF, **_CUBIC, "size": {"shortest_edge": 384}, "square": False, "crop_pct": 0.875, "way": "convnext"}
_LEVIT = {**IMAGENET, **_CUBIC, **_EDGE_224, **_CROPPED, "way": "levit"}
_MOBILENET = {**_HALF, **_CROPPED, "size": {"shortest_edge": 256}, "square": False}

# The defaults of every image processor of a classifier or a detector (transformers 5.24, and those of 4 that are gone),
# by its name without ImageProcessor or FeatureExtractor. Three keys are not transformers': `square` tells whether a
# `size` that is a mere number is a square or the shorter edge, `way` names what differs from resizing and then
# cropping, `always` is what a configuration cannot change.
PROCESSORS: Mapping[str, Config] = MappingProxyType(
    {
        **dict.fromkeys(("Bit", "ChineseCLIP", "CLIP", "ViTHybrid"), _CLIP_LIKE),
        **dict.fromkeys(("ConditionalDetr", "DeformableDetr", "Detr", "RfDetr"), _DETECTOR),
        **dict.fromkeys(("MobileNetV1", "MobileNetV2"), _MOBILENET),
        "Beit": {**_HALF, **_CUBIC, "size": 224, "crop_size": 224},
        "Blip": {**_CLIP, **_CUBIC, "size": 384},
        "ConvNext": _CONVNEXT,
        "DeiT": {**_HALF, **_CUBIC, **_CROPPED, "size": 256},
        "DINOv3ViT": {**IMAGENET, "size": 224},
        "Donut": {**_VIT, "size": (2560, 1920), "do_thumbnail": True},
        "DPT": {**_HALF, **_CUBIC, "size": 384},
        "EfficientFormer": {**IMAGENET, **_CUBIC, **_CROPPED, "size": 224},
        "EfficientNet": {**_HALF, **_CUBIC, "size": 346, "crop_size": 289, "include_top": True},
        "Flava": {**_CLIP, **_CUBIC, **_CROPPED, "size": 224},
        "ImageGPT": {**_HALF, "size": 256, "do_color_quantize": True},
        "Levit": _LEVIT,
        "MobileViT": {
            **_CUBIC,
            **_EDGE_224,
            **_CROPPED,
            **_FLIPPED,
            "crop_size": 256,
            "always": {"do_normalize": False},
        },
        "OwlViT": {**_CLIP, **_CUBIC, "size": 768, "crop_size": 768},
        "Perceiver": {**IMAGENET, **_CUBIC, "size": 224, "do_center_crop": True, "crop_size": 256, "way": "perceiver"},
        "PoolFormer": {**IMAGENET, **_CUBIC, **_EDGE_224, **_CROPPED, "crop_pct": 0.9, "way": "poolformer"},
        "PPLCNet": {**_BACKWARDS, **_CROPPED, "size": 256, "resize_short": 256, "way": "pplcnet", "always": _FLIPPED},
        "Pvt": {**IMAGENET, **_CUBIC, "size": 224},
        "RTDetr": {**IMAGENET, "do_normalize": False, "size": {"height": 640, "width": 640}},
        "Segformer": {**IMAGENET, "size": 512},
        "Siglip": {**_HALF, **_CUBIC, "size": {"height": 224, "width": 224}, "square": False},
        "Siglip2": {**_HALF, "max_num_patches": 256},
        "TextNet": {**IMAGENET, "size": {"shortest_edge": 640}, "square": False, "size_divisor": 32},
        "Tipsv2": {"do_normalize": False, "size": 448},
        "ViT": _VIT,
        "Yolos": {**_DETECTOR, "way": "yolos"},
    }
)

# The processor of a model's type where neither file names it (`model_type` of config.json).
MODEL_TYPES: Mapping[str, str] = MappingProxyType(
    {
        **dict.fromkeys(("beit", "data2vec-vision"), "Beit"),
        **dict.fromkeys(("bit", "dinov2", "dinov2_with_registers", "focalnet", "hiera"), "Bit"),
        **dict.fromkeys(("clip", "metaclip_2", "altclip"), "CLIP"),
        **dict.fromkeys(("convnext", "convnextv2", "cvt", "regnet", "resnet", "van"), "ConvNext"),
        **dict.fromkeys(("mobilevit", "mobilevitv2"), "MobileViT"),
        **dict.fromkeys(("pvt", "pvt_v2"), "Pvt"),
        **dict.fromkeys(
            ("dinat", "ijepa", "nat", "swiftformer", "swin", "swinv2", "vit", "vit_mae", "vit_msn", "clipseg"), "ViT"
        ),
        # A type that is the name of its processor in small letters.
        **{
            name.lower(): name
            for name in ("DeiT", "EfficientFormer", "EfficientNet", "ImageGPT", "Levit", "PoolFormer")
        },
        **{name.lower(): name for name in ("Segformer", "Siglip", "Siglip2", "TextNet")},
        **dict.fromkeys(("conditional_detr", "dab-detr"), "ConditionalDetr"),
        **dict.fromkeys(("d_fine", "deimv2", "rt_detr", "rt_detr_v2"), "RTDetr"),
        **dict.fromkeys(("deformable_detr", "lw_detr"), "DeformableDetr"),
        **dict.fromkeys(("detr", "table-transformer"), "Detr"),
        "rf_detr": "RfDetr",
        "yolos": "Yolos",
        "dinov3_vit": "DINOv3ViT",
        "dinov3_convnext": "DINOv3ViT",
        "donut-swin": "Donut",
        "mobilenet_v1": "MobileNetV1",
        "mobilenet_v2": "MobileNetV2",
        "perceiver": "Perceiver",
        "pp_lcnet": "PPLCNet",
    }
)

# Keys that one processor alone has: by them a configuration without a name is known. The first that is there counts.
SIGNS = (
    ("include_top", "EfficientNet"),
    ("rescale_offset", "EfficientNet"),
    ("do_flip_channel_order", "MobileViT"),
    ("resize_short", "PPLCNet"),
    ("crop_pct", "ConvNext"),
)
