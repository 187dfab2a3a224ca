"""Further networks: a member of each family of torchvision and timm, and every image classifier of transformers."""

from dataclasses import replace
from typing import Any

from zoo.entry import Entry, entries, words
from zoo.small import ENTRIES, TARGET_ENTRIES

TIMM = words(
    """
    beitv2_base_patch16_224 botnet26t_256 halonet26t lambda_resnet26t sebotnet33ts_256 bat_resnext26ts
    gcresnext26ts gernet_s repvgg_a0 mobileone_s0 cait_xxs24_224 coat_lite_mini convit_small convmixer_768_32
    convnext_atto convnext_atto_rms convnextv2_atto cpubone_nano crossvit_9_dagger_240 csatv2 cs3darknet_focus_s
    cspresnet50 darknetaa53 cspnext_tiny deepseek_vit_412m deit3_small_patch16_224 densenetblur121d dla46_c
    dla60_res2net dpn48b edgenext_small efficientnet_b0_gn mixnet_s tinynet_e tf_efficientnetv2_b0
    mobilenetv4_conv_small mobilenetv4_hybrid_medium mnasnet_small fbnetc_100 spnasnet_100 efficientvim_m2
    efficientvit_b1 efficientvit_l1 efficientvit_m1 eva_giant_patch14_224 vit_small_patch16_rope_224 fasternet_t0
    fastvit_sa12 fastvit_mci0 gemma4_vit_167m ghostnetv2_100 ghostnetv3_050 hardcorenas_a hgnet_tiny hgnetv2_b1
    hiera_small_abswin_256 hieradet_small iformer_t inception_next_atto inception_resnet_v2 inception_v3
    inception_v4 lcnetv2_small levit_conv_128s lowformer_b0 mambaout_small_rw coatnet_rmlp_nano_rw_256
    maxxvit_rmlp_nano_rw_256 maxvit_rmlp_pico_rw_256 convformer_s18 poolformerv2_s12 gmixer_12_224 fbnetv3_b
    lcnet_050 mobilenetv3_rw mobilenetv5_300m mobilevitv2_075 mvitv2_small_cls naflexvit_base_patch16_gap
    naflexvit_base_patch16_map nest_tiny dm_nfnet_f0 nf_resnet26 nf_regnet_b0 eca_nfnet_l0 pit_ti_distilled_224
    pnasnet5large pvt_v2_b2_li qwen3_vit_88m rdnet_tiny regnetx_002 regnety_002 regnetz_040 regnetv_040
    repghostnet_050 repvit_m1 res2net50_26w_4s res2next50 resnest14d resnet10t seresnext26d_32x4d ecaresnet26t
    resnetrs50 resnetblur18 resnetaa50 resnetv2_18 resnetv2_50d_gn resnetv2_50x1_bit resnetv2_50d_evos
    resnetv2_50d_frn rexnet_100 rexnetr_100 selecsls42 legacy_senet154 legacy_seresnet18 sequencer2d_m shvit_s2
    skresnet18 starnet_s050 swiftformer_s swin_s3_tiny_224 swinv2_tiny_window8_256 swinv2_cr_small_224
    tnt_b_patch16_224 tresnet_m twins_pcpvt_small vgg11_bn visformer_small vit_tiny_r_s16_p8_224
    vit_small_resnet50d_s16_224 vit_base_mci_224 vit_relpos_small_patch16_224 vit_relpos_base_patch16_cls_224
    vit_relpos_base_patch16_rpn_224 samvit_base_patch16 test_vit test_vit2 test_vit3 test_vit4
    vit_base_patch16_siglip_224 vit_so150m_patch16_reg4_gap_256 vit_base_patch16_clip_quickgelu_224
    vit_xsmall_patch16_clip_224 aimv2_large_patch14_224 beit3_base_patch16_224 vit_small_patch14_dinov2
    vit_small_patch14_reg4_dinov2 vit_small_patch16_dinov3 vitamin_small_224 volo_d2_224 ese_vovnet19b_slim
    eca_vovnet39b legacy_xception xception41 xception41p xcit_tiny_12_p8_224
    """
)
TORCHVISION = words(
    """
    alexnet squeezenet1_0 squeezenet1_1 vgg11_bn resnet50 wide_resnet50_2 resnext50_32x4d densenet161 mobilenet_v2
    mobilenet_v3_large efficientnet_v2_s regnet_y_400mf mnasnet1_0 shufflenet_v2_x1_0 inception_v3 convnext_small
    maxvit_t swin_s vit_b_32 quantized_mobilenet_v2
    """
)
# Of transformers, by the stem of the class.
CLASSIFIERS = words(
    """
    Beit Bit CLIP ConvNext ConvNextV2 Cvt Data2VecVision DeiT Dinov2 Dinov2WithRegisters DonutSwin
    EfficientNet FocalNet HGNetV2 Hiera IJepa Levit MetaClip2 MobileNetV1 MobileNetV2 MobileViT
    MobileViTV2 PoolFormer PPLCNet Pvt PvtV2 RegNet ResNet Segformer Siglip SwiftFormer Swin Swinv2
    TextNet ViT ViTMSN
    """
)
PERCEIVERS = ("Learned", "Fourier", "ConvProcessing")
SEGMENTERS = words("DPT MobileNetV2 MobileViT MobileViTV2 Segformer UperNet")
EMBEDDERS = words(
    """
    BeitModel ViTModel DeiTModel Dinov2Model Dinov2WithRegistersModel DINOv3ViTModel DINOv3ConvNextModel
    ConvNextModel SwinModel Swinv2Model ViTMSNModel ResNetModel CLIPVisionModel SiglipVisionModel PvtModel
    """
)
SMALL_DPT: dict[str, Any] = {
    "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 4, "intermediate_size": 64, "image_size": 64,
    "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16,
}  # fmt: skip
VIDEOS = words("Timesformer VideoMAE Vivit")


def every_entry() -> dict[str, Entry]:
    """Return all networks by name; those of the tests first."""
    found = {**ENTRIES, **TARGET_ENTRIES}
    seek: dict[str, Any] = {"fitted": False}
    found |= entries("timm", **{name: seek for name in TIMM if f"timm/{name}" not in found})
    found |= entries("torchvision", **{name: seek for name in TORCHVISION if f"torchvision/{name}" not in found})
    found["torchvision/inception_v3"] = Entry(
        "torchvision", "inception_v3", (96, 96), {"init_weights": False, "aux_logits": False}
    )
    for name in ("r3d_18", "mc3_18", "r2plus1d_18", "mvit_v2_s", "swin3d_t"):
        size = (16, 224, 224) if name.startswith("mvit") else (16, 64, 64)
        found[f"torchvision/{name}"] = Entry("torchvision", name, size)
    for stem in CLASSIFIERS:
        found[f"transformers/{stem}ForImageClassification"] = Entry("transformers", stem, fitted=False)
    plain = {"hidden_dim": 1280, "width_coefficient": 1.0, "depth_coefficient": 1.0}  # three that must fit each other
    found["transformers/EfficientNetForImageClassification"] = Entry("transformers", "EfficientNet", options=plain)
    for rest in PERCEIVERS:
        head = f"ForImageClassification{rest}"
        found[f"transformers/Perceiver{head}"] = Entry(
            "transformers", "Perceiver", (32, 32), {"num_cross_attention_heads": 1}, head=head, fitted=False
        )
    for stem in SEGMENTERS:
        head = "ForSemanticSegmentation"
        found[f"transformers/{stem}{head}"] = Entry("transformers", stem, head=head, fitted=False)
    for stem in ("DepthAnything", "DPT", "GLPN"):
        head = "ForDepthEstimation"
        found[f"transformers/{stem}{head}"] = Entry(
            "transformers", stem, head=head, fitted=False, output="predicted_depth", asked={"task": "segment"}
        )
    for name in EMBEDDERS:
        found[f"transformers/{name}"] = Entry(
            "transformers", name.removesuffix("Model"), head="Model", fitted=False, output="pooler_output",
            asked={"task": "embed"},
        )  # fmt: skip
    for stem in VIDEOS:
        head = "ForVideoClassification"
        frames = {"num_frames": 8}
        found[f"transformers/{stem}{head}"] = Entry("transformers", stem, (8, 64, 64), frames, head=head, fitted=False)
    for head in ("ForSemanticSegmentation", "ForDepthEstimation"):
        entry = found[f"transformers/DPT{head}"]
        found[f"transformers/DPT{head}"] = replace(entry, options=SMALL_DPT, fitted=True)
    return found
