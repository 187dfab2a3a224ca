import json

import numpy as np
import onnx
import pytest

from fusioncam.errors import ModelError, UsageError
from fusioncam.export import export_model
from fusioncam.export.source_metadata.preprocessing import read_preprocessing

SIZE = (8, 6)
IMAGENET = (0.485, 0.456, 0.406)


def prep(tmp_path, metadata=None, **given):
    return read_preprocessing(metadata or {}, tmp_path, SIZE, given)


def test_assumed(tmp_path):
    p = prep(tmp_path)
    assert (p.origin, p.mean, p.size) == ("assumed", IMAGENET, SIZE)


@pytest.mark.parametrize(("name", "black", "white"), [("unit", 0, 1), ("tf", -1, 1), ("raw", 0, 255)])
def test_presets(name, black, white, tmp_path):
    p = prep(tmp_path, preset=name)
    assert p.origin == "user"
    ends = [(pixel * p.rescale - np.array(p.mean)) / np.array(p.std) for pixel in (0, 255)]
    assert np.allclose(ends, [[black] * 3, [white] * 3])


def test_preset_with_more(tmp_path):
    p = prep(tmp_path, preset="torchvision", channel_order="bgr", resize="crop", crop_fraction=0.875)
    assert (p.mean, p.channel_order, p.resize, p.crop_fraction) == (IMAGENET, "bgr", "crop", 0.875)


def test_unknown_preset(tmp_path):
    with pytest.raises(UsageError, match=r"no preset 'caffe'; the presets are torchvision"):
        prep(tmp_path, preset="caffe")


def test_a_given_mean_drops_the_assumed_arithmetic(tmp_path):
    p = prep(tmp_path, mean=(104, 117, 123))
    assert (p.rescale, p.mean, p.std) == (1.0, (104, 117, 123), (1, 1, 1))
    assert prep(tmp_path, channel_order="bgr").mean == IMAGENET


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"std": (0, 1, 1)}, "std"),
        ({"std": (np.inf, 1, 1)}, "std"),
        ({"mean": (0, np.nan, 0)}, "mean"),
        ({"mean": "grey"}, "mean"),
        ({"rescale": np.nan}, "rescale"),
        ({"rescale": 0}, "rescale"),
        ({"crop_fraction": np.nan}, "crop_fraction"),
        ({"resize": "stretch"}, "resize"),
        ({"sharp\nness": 3}, "sharp ness"),
        ({5: 3}, "5"),
    ],
)
def test_nonsense(given, field, tmp_path):
    with pytest.raises(UsageError, match=f"preprocessing cannot be read.*{field}") as caught:
        read_preprocessing({}, tmp_path, SIZE, given)
    assert len(str(caught.value).splitlines()) == 1
    assert "Value error" not in str(caught.value)


def test_a_mere_name_is_that_of_a_preset(tmp_path):
    assert read_preprocessing({}, tmp_path, SIZE, "tf") == prep(tmp_path, preset="tf")
    for given in ("caffe", {"preset": ["tf"]}, 5):
        with pytest.raises(UsageError, match="preset"):
            read_preprocessing({}, tmp_path, SIZE, given)


@pytest.mark.parametrize(
    ("keys", "rescale", "mean", "order"),
    [
        ({"Image.NominalPixelRange": "NominalRange_0_255", "Image.BitmapPixelFormat": "Bgr8"}, 1, 0, "bgr"),
        ({"Image.NominalPixelRange": "Normalized_0_1", "Image.BitmapPixelFormat": "Rgb8"}, 1 / 255, 0, "rgb"),
        ({"Image.NominalPixelRange": "Normalized_1_1"}, 1 / 127.5, 1, "rgb"),
        ({"author": "Ultralytics"}, 1 / 255, 0, "rgb"),
        ({"fusioncam.preprocessing": '{"rescale": 0.5, "mean": [1, 1, 1]}'}, 0.5, 1, "rgb"),
    ],
)
def test_in_the_model(keys, rescale, mean, order, tmp_path):
    p = prep(tmp_path, keys)
    assert (p.origin, p.rescale, p.mean, p.channel_order) == ("model", rescale, (mean,) * 3, order)
    assert prep(tmp_path, keys, preset="torchvision").mean == IMAGENET


@pytest.mark.parametrize("text", ["{", "[1]", "7", '{"nonsense": 1}', '{"rescale": NaN}', "[" * 9000])
def test_broken_key_in_the_model(text, tmp_path):
    with pytest.raises(ModelError, match="the preprocessing in the model's metadata cannot be read"):
        prep(tmp_path, {"fusioncam.preprocessing": text})


def config(tmp_path, name="preprocessor_config.json", **content):
    (tmp_path / name).write_text(json.dumps(content))


def test_hugging_face_vit(tmp_path):
    config(tmp_path, do_normalize=True, do_resize=True, image_mean=[0.5] * 3, image_std=[0.5] * 3, size=224)
    p = prep(tmp_path)
    assert (p.origin, p.rescale, p.mean, p.std, p.resize) == ("config", 1 / 255, (0.5,) * 3, (0.5,) * 3, "squash")


def test_hugging_face_resnet(tmp_path):
    config(tmp_path, crop_pct=0.875, size={"shortest_edge": 224}, image_mean=[0.4] * 3, image_std=[0.2] * 3)
    p = prep(tmp_path)
    assert (p.resize, p.crop_fraction, p.mean) == ("crop", 0.875, (0.4,) * 3)


def test_hugging_face_center_crop(tmp_path):
    crop = {"height": 224, "width": 224}
    config(tmp_path, do_center_crop=True, crop_size=crop, size={"shortest_edge": 256}, rescale_factor=1 / 127.5)
    p = prep(tmp_path)
    assert (p.resize, p.crop_fraction, p.rescale, p.mean) == ("crop", 0.875, 1 / 127.5, (0, 0, 0))


def test_hugging_face_without_arithmetic(tmp_path):
    config(tmp_path, do_rescale=False, do_normalize=False, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    p = prep(tmp_path)
    assert (p.rescale, p.mean, p.std) == (1, (0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"image_mean": 0.5}',
        '{"image_mean": [0.5, 0.5, 0.5]}',
        '{"image_mean": null, "image_std": null}',
        '{"rescale_factor": "a"}',
        '{"crop_pct": "x", "size": {"shortest_edge": 224}}',
        '{"crop_pct": 0.9, "size": {"shortest_edge": "a"}}',
        '{"rescale_factor": 1e999}',
        "[" * 9000,
    ],
)
def test_odd_configuration(content, tmp_path):
    (tmp_path / "preprocessor_config.json").write_text(content)
    with pytest.raises(ModelError, match=r"preprocessor_config\.json cannot be read") as caught:
        prep(tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert prep(tmp_path, preset="unit").origin == "user", "what the user gives needs no configuration"


@pytest.mark.parametrize(
    ("said", "given", "ending"),
    [
        ({"problem_type": "multi_label_classification"}, None, "sigmoid"),
        ({"problem_type": "regression"}, None, "value"),
        ({"problem_type": "single_label_classification"}, None, "logits"),
        ({"problem_type": None}, None, "logits"),
        ({"problem_type": ["regression"]}, None, "logits"),
        ({}, None, "logits"),
        ({"problem_type": "multi_label_classification"}, "softmax", "softmax"),
    ],
)
def test_what_a_configuration_calls_the_problem_is_the_ending(said, given, ending, classifier, tmp_path):
    (tmp_path / "onnx").mkdir()
    model = tmp_path / "onnx" / "model.onnx"
    onnx.save(classifier(), model)
    config(tmp_path, "config.json", model_type="vit", **said)
    manifest = export_model(model, tmp_path / "bundle.fcam", ending=given, preprocessing="unit")
    assert (manifest.ending, manifest.source.ending) == (ending, "logits")


def test_in_the_manifest(classifier, tmp_path):
    model = classifier()
    onnx.helper.set_model_props(model, {"Image.NominalPixelRange": "Normalized_1_1", "names": str(list("abcde"))})
    onnx.save(model, tmp_path / "m.onnx")
    manifest = export_model(tmp_path / "m.onnx", tmp_path / "m.fcam")
    assert manifest.preprocessing.origin == "model"
    assert manifest.labels == tuple("abcde")
