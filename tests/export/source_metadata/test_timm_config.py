"""What timm's configuration says."""

import json

import pytest

from fusioncam.errors import ModelError
from fusioncam.export.source_metadata.preprocessing import read_preprocessing

HALF = (0.5,) * 3
IMAGENET = (0.485, 0.456, 0.406)


def found(folder, config, size=(224, 224), **given):
    (folder / "config.json").write_text(json.dumps(config))
    return read_preprocessing({}, folder, size, given)


@pytest.mark.parametrize(
    ("config", "resize", "fraction", "interpolation", "mean"),
    [
        ({"pretrained_cfg": {"input_size": [3, 224, 224], "crop_pct": 0.95, "mean": HALF, "std": HALF}},
         "crop", 224 / 235, "bicubic", HALF),
        ({"pretrained_cfg": {"interpolation": "bilinear", "crop_pct": 0.9, "crop_mode": "squash"}},
         "squash_crop", 224 / 248, "bilinear", IMAGENET),
        ({"architecture": "resnet18", "interpolation": "nearest", "crop_pct": 1.0, "mean": HALF, "std": HALF},
         "crop", 1, "nearest", HALF),
        ({"data_config": {"crop_pct": 0.875, "interpolation": "lanczos", "input_size": [3, 224, 224]}},
         "crop", 0.875, "lanczos", IMAGENET),
        ({"pretrained_cfg": {"input_size": [3, 192, 192], "test_input_size": [3, 224, 224], "test_crop_pct": 1.0}},
         "crop", 1, "bicubic", IMAGENET),
    ],
)  # fmt: skip
def test_it_is_followed(config, resize, fraction, interpolation, mean, tmp_path):
    p = found(tmp_path, config)
    assert (p.resize, p.interpolation, p.mean, p.rescale) == (resize, interpolation, mean, 1 / 255)
    assert p.crop_fraction == pytest.approx(fraction)
    assert (p.origin, p.crop_rounding, p.remarks) == ("config", "even", ())


def test_another_size_is_said(tmp_path):
    (remark,) = found(tmp_path, {"pretrained_cfg": {"input_size": [3, 288, 288]}}).remarks
    assert remark.startswith("config.json makes pictures of 288 x 288, the model takes 224 x 224")


def test_what_cannot_be_followed_is_refused(tmp_path):
    config = {"pretrained_cfg": {"crop_mode": "border", "mean": HALF, "std": HALF}}
    with pytest.raises(ModelError, match=r"config\.json cannot be followed: it asks for crop_mode 'border'"):
        found(tmp_path, config)
    assert found(tmp_path, config, resize="squash").mean == HALF
    with pytest.raises(ModelError, match=r"config\.json cannot be read \(resample 'random'"):
        found(tmp_path, {"pretrained_cfg": {"interpolation": "random"}})


def test_a_configuration_of_transformers_is_none_of_timms(tmp_path):
    assert found(tmp_path, {"model_type": "vit", "image_size": 224}).origin == "assumed"
