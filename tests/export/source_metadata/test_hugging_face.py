"""Configurations of Hugging Face's image processors: what is read from them is what their processors do with Pillow."""

import json
from pathlib import Path

import numpy as np
import pytest

from fusioncam.errors import ModelError
from fusioncam.export.source_metadata.image_processors import MODEL_TYPES, PROCESSORS
from fusioncam.export.source_metadata.labels import read_labels
from fusioncam.export.source_metadata.preprocessing import read_preprocessing
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.model_input import preprocess

IMAGENET = np.array((0.485, 0.456, 0.406)), np.array((0.229, 0.224, 0.225))
CLIP = np.array((0.48145466, 0.4578275, 0.40821073)), np.array((0.26862954, 0.26130258, 0.27577711))
TOP_STD = np.array((0.47853944, 0.4732864, 0.47434163))
NEAREST, LANCZOS, BILINEAR, BICUBIC, BOX, HAMMING = range(6)
# None is much higher than wide: those Pillow 13 resizes in another order than any before, and than torchvision.
SIZES = [(96, 131), (75, 133), (61, 61), (40, 57), (64, 60)]


def half(p):
    return (p / 255 - 0.5) / 0.5


def like(numbers):
    mean, std = numbers
    return lambda p: (p / 255 - mean) / std


def shorter(edge):
    def resize(picture, resample):
        scale = edge / min(picture.size)
        return picture.resize(tuple(int(side * scale + 1e-9) for side in picture.size), resample)

    return resize


def squash(height, width=None):
    return lambda picture, resample: picture.resize((width or height, height), resample)


def cut(height, width=None):
    def crop(picture, _):
        left, top = (picture.width - (width or height)) // 2, (picture.height - height) // 2
        return picture.crop((left, top, left + (width or height), top + height))

    return crop


def cut_share(share):
    return lambda picture, resample: cut(int(share * min(picture.size)))(picture, resample)


# The configuration, what is done with Pillow, by which filter, and the arithmetic on RGB pixels.
CASES = {
    "MobileViT: BGR": (
        {"do_flip_channel_order": True, "size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}},
        [shorter(32), cut(28)], BICUBIC, lambda p: p[..., ::-1] / 255,
    ),
    "MobileViT never normalises": (
        {"feature_extractor_type": "MobileViTFeatureExtractor", "size": 32, "crop_size": 28, "resample": 2,
         "do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        [shorter(32), cut(28)], BILINEAR, lambda p: p[..., ::-1] / 255,
    ),
    "PPLCNet flips what it normalised": (
        {"image_processor_type": "PPLCNetImageProcessor", "resize_short": 32, "crop_size": 32},
        [shorter(32), cut(32)], BILINEAR,
        lambda p: ((p / 255 - IMAGENET[0][::-1]) / IMAGENET[1][::-1])[..., ::-1],
    ),
    "EfficientNet divides twice": (
        {"include_top": True, "size": {"height": 28, "width": 28}, "resample": 0,
         "image_mean": list(IMAGENET[0]), "image_std": list(TOP_STD)},
        [squash(28)], NEAREST, lambda p: (p / 255 - IMAGENET[0]) / TOP_STD / TOP_STD,
    ),
    "EfficientNet divides once without normalising": (
        {"include_top": True, "do_normalize": False, "size": 28, "resample": 0, "image_std": list(TOP_STD)},
        [squash(28)], NEAREST, lambda p: p / 255 / TOP_STD,
    ),
    "EfficientNet with an offset": (
        {"rescale_offset": True, "rescale_factor": 1 / 127.5, "do_normalize": False, "include_top": False, "size": 28},
        [squash(28)], BICUBIC, lambda p: p / 127.5 - 1,
    ),
    "EfficientNet with an offset, then normalised": (
        {"rescale_offset": True, "rescale_factor": 1 / 127.5, "size": 32, "do_center_crop": True, "crop_size": 28,
         "image_processor_type": "EfficientNetImageProcessorFast"},
        [squash(32), cut(28)], BICUBIC, lambda p: (p / 127.5 - 1.5) / 0.25,
    ),
    "ConvNeXt of a mere number": (
        {"crop_pct": 0.875, "size": 28, "resample": 3, "image_mean": list(IMAGENET[0]), "image_std": list(IMAGENET[1])},
        [shorter(32), cut(28)], BICUBIC, like(IMAGENET),
    ),
    "ConvNeXt rounds down": (
        {"image_processor_type": "ConvNextImageProcessor", "crop_pct": 0.95, "size": {"shortest_edge": 28}},
        [shorter(29), cut(28)], BICUBIC, half,
    ),
    "ConvNeXt by default": (
        {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 32}, [shorter(36), cut(32)], BICUBIC, half,
    ),
    "ConvNeXt squashes large ones": (
        {"crop_pct": 0.875, "size": 384, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, [squash(384)], BICUBIC, half,
    ),
    "DeiT resizes to a square, then cuts": (
        {"feature_extractor_type": "DeiTFeatureExtractor", "size": 32, "crop_size": 28}, [squash(32), cut(28)],
        BICUBIC, half,
    ),
    "an oblong, then a part of it": (
        {"size": {"height": 32, "width": 48}, "do_center_crop": True, "crop_size": {"height": 16, "width": 24},
         "image_mean": 0.5, "image_std": 0.5},
        [squash(32, 48), cut(16, 24)], BILINEAR, half,
    ),
    "height and width": ({"size": [20, 30], "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, [squash(20, 30)],
                         BILINEAR, half),
    "Perceiver cuts first": (
        {"image_processor_type": "PerceiverImageProcessor", "size": 28, "crop_size": 32},
        [cut_share(0.875), squash(28)], BICUBIC, like(IMAGENET),
    ),
    "Perceiver without cutting": (
        {"image_processor_type": "PerceiverFeatureExtractor", "size": 28, "do_center_crop": False}, [squash(28)],
        BICUBIC, like(IMAGENET),
    ),
    "LeViT's shorter side is larger": (
        {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 28}, "crop_size": 28},
        [shorter(32), cut(28)], BICUBIC, like(IMAGENET),
    ),
    "PoolFormer": (
        {"image_processor_type": "PoolFormerImageProcessor", "size": 28, "crop_size": 28}, [shorter(31), cut(28)],
        BICUBIC, like(IMAGENET),
    ),
    "PoolFormer as it was first written": (
        {"do_resize_and_center_crop": True, "feature_extractor_type": "PoolFormerFeatureExtractor", "crop_pct": 0.95,
         "size": 224, "do_normalize": True, "resample": 3, "image_mean": list(IMAGENET[0]),
         "image_std": list(IMAGENET[1])},
        [shorter(235), cut(224)], BICUBIC, like(IMAGENET),
    ),
    "a step of training": (
        {"feature_extractor_type": "SegformerFeatureExtractor", "size": 28, "do_random_crop": True, "do_pad": True,
         "resample": 2},
        [squash(28)], BILINEAR, like(IMAGENET),
    ),
    "CLIP's means are its class's": (
        {"image_processor_type": "CLIPImageProcessor", "size": 32, "crop_size": 28, "do_normalize": True},
        [shorter(32), cut(28)], BICUBIC, like(CLIP),
    ),
    "null is the class's, too": (
        {"image_processor_type": "ViTImageProcessor", "size": 28, "image_mean": None, "image_std": None,
         "resample": None},
        [squash(28)], BILINEAR, half,
    ),
    "no arithmetic": (
        {"image_processor_type": "ViTImageProcessor", "size": 28, "do_rescale": False, "do_normalize": False},
        [squash(28)], BILINEAR, lambda p: p,
    ),
    "means of 0..255": (
        {"image_processor_type": "ViTImageProcessor", "size": 28, "do_rescale": False, "image_mean": [127.5] * 3,
         "image_std": [127.5] * 3},
        [squash(28)], BILINEAR, lambda p: p / 127.5 - 1,
    ),
    **{
        f"filter {resample}": (
            {"image_processor_type": "ViTImageProcessor", "size": 28, "resample": resample},
            [squash(28)], resample, half,
        )
        for resample in range(6)
    },
    "a filter by its name": (
        {"image_processor_type": "ViTImageProcessor", "size": 28, "resample": "PILImageResampling.LANCZOS"},
        [squash(28)], LANCZOS, half,
    ),
}  # fmt: skip


def write(folder, config, name="preprocessor_config.json"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(config))


def found(folder, size=(28, 28), **given):
    return read_preprocessing({}, folder, size, given)


def scene(height, width):
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3))
    fine = np.repeat(np.repeat(coarse, 5, axis=0), 5, axis=1)[:height, :width]
    return (fine + rng.integers(-25, 26, fine.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("case", CASES)
def test_what_the_processor_does_with_pillow(case, tmp_path):
    image = pytest.importorskip("PIL.Image")
    config, steps, resample, arithmetic = CASES[case]
    write(tmp_path, config)
    for size in SIZES:
        photo = scene(*size)
        picture = image.fromarray(photo)
        for step in steps:
            picture = step(picture, resample)
        expected = arithmetic(np.asarray(picture, np.float64)).transpose(2, 0, 1)
        p = found(tmp_path, expected.shape[1:])
        assert (p.origin, p.remarks[1:]) == ("config", ())
        levels = np.abs(preprocess(photo, p) - expected) * np.array(p.std)[:, None, None] / p.rescale
        assert levels.max() <= (0.01 if resample == NEAREST else 1.01), size
        assert levels.mean() <= 0.5, size


def test_the_tables_hold_together():
    assert set(MODEL_TYPES.values()) <= set(PROCESSORS)


@pytest.mark.parametrize("name", PROCESSORS)
def test_every_processor_is_followed_or_refused(name, tmp_path):
    write(tmp_path, {"image_processor_type": f"{name}ImageProcessor"})
    try:
        p = found(tmp_path)
    except ModelError as error:
        assert f"cannot be followed: {name} " in str(error)  # noqa: PT017
        assert str(error).endswith("--resize, or give the whole preprocessing with --preset")  # noqa: PT017
        p = found(tmp_path, resize="squash")
    assert p.std != (1, 1, 1) or name in ("MobileViT", "RTDetr", "Tipsv2")


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"image_processor_type": "YolosImageProcessor", "do_pad": False}, "shortest_edge 800 and longest_edge 1333"),
        ({"size": {"longest_edge": 224}}, "keeps the aspect ratio and cuts nothing"),
        ({"image_processor_type": "SiglipImageProcessor", "size": 224}, "keeps the aspect ratio and cuts nothing"),
        ({"size": {"shortest_edge": 224}}, "keeps the aspect ratio and cuts nothing"),
        ({"size": {"max_height": 224, "max_width": 224}}, "keeps the aspect ratio"),
        ({"size": {"shortest_edge": 224}, "do_center_crop": True, "crop_size": 256}, "pads pictures of 224 x 224"),
        ({"size": 224, "do_center_crop": True, "crop_size": {"height": 224, "width": 250}}, "pads pictures"),
        ({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": [224, 192]}, "cuts 224 x 192"),
        ({"size": 256, "do_center_crop": True, "crop_size": [224, 192]}, "of another aspect ratio"),
        ({"size": 224, "do_pad": True, "pad_size": {"height": 256, "width": 256}}, "pads the picture"),
        ({"do_resize": False}, "at their own size"),
        ({"size": 224, "do_polarise": True}, "do_polarise"),
        ({"size": 224, "size_divisor": 32}, "multiple of 32"),
        ({"image_processor_type": "DPTImageProcessor", "keep_aspect_ratio": True}, "keep_aspect_ratio"),
        ({"image_processor_type": "ImageGPTImageProcessor"}, "do_color_quantize"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"height": 224, "width": 224}}, "shortest_edge"),
    ],
)
def test_what_cannot_be_followed_is_refused(config, why, tmp_path):
    write(tmp_path, {"image_mean": [0.4] * 3, "image_std": [0.2] * 3, **config})
    with pytest.raises(ModelError, match=r"preprocessor_config\.json cannot be followed") as caught:
        found(tmp_path)
    assert why in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    p = found(tmp_path, resize="crop", crop_fraction=0.9)
    assert (p.resize, p.mean, p.origin) == ("crop", (0.4,) * 3, "user")


@pytest.mark.parametrize(
    "config",
    [
        {"image_processor_type": "FooImageProcessor", "do_normalize": True, "size": 28},
        {"do_normalize": True, "image_mean": [0.5] * 3},
        {"resample": 6},
        {"resample": True},
        {"resample": "area"},
        {"size": "large"},
        {"include_top": True, "image_std": [0.5]},
    ],
)
def test_what_makes_no_sense_is_refused(config, tmp_path):
    write(tmp_path, config)
    with pytest.raises(ModelError, match=r"preprocessor_config\.json cannot be read .*; give it with --preset$"):
        found(tmp_path)


def test_what_is_not_followed_to_the_letter_is_said(tmp_path):
    write(tmp_path, {"image_processor_type": "FooImageProcessorFast", "size": 28, "image_mean": 0.5, "image_std": 0.5})
    assert "'FooImageProcessorFast' is not known" in found(tmp_path).remarks[0]
    write(tmp_path, {"image_processor_type": "ViTImageProcessor", "size": 28})
    assert found(tmp_path).remarks == ()
    (remark,) = found(tmp_path, (56, 56)).remarks
    assert remark.endswith("makes pictures of 28 x 28, the model takes 56 x 56: the proportions were kept")


def test_the_type_of_the_model_tells_the_processor(tmp_path):
    write(tmp_path, {"do_normalize": True, "size": 32, "crop_size": 28})
    write(tmp_path, {"model_type": "clip"}, "config.json")
    p = found(tmp_path)
    assert (p.mean, p.interpolation, p.resize, p.crop_fraction) == (tuple(CLIP[0]), "bicubic", "crop", 0.875)


def test_nested_in_the_configuration_of_a_processor(tmp_path):
    nested = {"image_processor_type": "ViTImageProcessor", "size": 28, "resample": 3}
    write(tmp_path, {"processor_class": "CLIPProcessor", "image_processor": nested}, "processor_config.json")
    assert found(tmp_path).interpolation == "bicubic"
    write(tmp_path, {**nested, "resample": 0})
    assert found(tmp_path).interpolation == "bicubic", "the nested one counts more"
    write(tmp_path, {"processor_class": "CLIPProcessor"}, "processor_config.json")
    assert found(tmp_path).interpolation == "nearest"


def test_a_model_in_onnx_has_its_configuration_one_level_up(tmp_path, monkeypatch):
    write(tmp_path, {"image_processor_type": "ViTImageProcessor", "size": 28, "resample": 1})
    write(tmp_path, {"id2label": {"0": "cat", "1": "dog"}}, "config.json")
    (tmp_path / "onnx").mkdir()
    (tmp_path / "other").mkdir()
    assert found(tmp_path / "onnx").interpolation == "lanczos"
    assert read_labels({}, tmp_path / "onnx", 2, None) == ("cat", "dog")
    monkeypatch.chdir(tmp_path / "onnx")
    assert found(Path()).interpolation == "lanczos", "a file that is named from within"
    assert read_labels({}, Path(), 2, None) == ("cat", "dog")
    assert found(tmp_path / "other").origin == "assumed"
    assert read_labels({}, tmp_path / "other", 2, None) is None
    write(tmp_path / "onnx", {"image_processor_type": "ViTImageProcessor", "size": 28, "resample": 0})
    assert found(tmp_path / "onnx").interpolation == "nearest", "what lies beside the model counts more"


def test_older_manifests_can_be_read():
    old = {"size": [8, 8], "resize": "crop", "crop_fraction": 0.875, "origin": "config"}
    p = Preprocessing.model_validate(old)
    assert (p.interpolation, p.crop_rounding, p.remarks) == ("bilinear", "even", ())
