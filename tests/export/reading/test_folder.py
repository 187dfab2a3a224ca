"""A folder in place of a model: what lies in it is found, or named."""

import json

import onnx
import pytest

from fusioncam.errors import ModelError
from fusioncam.export import export_model, inspect_model
from fusioncam.export.reading.folder import model_file


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["model.onnx"], "model.onnx"),
        (["onnx/model.onnx", "onnx/model_quantized.onnx", "onnx/model_fp16.onnx"], "onnx/model.onnx"),
        (["resnet.onnx"], "resnet.onnx"),
        (["onnx/resnet.onnx"], "onnx/resnet.onnx"),
        (["model.onnx", "other.onnx"], "model.onnx"),
    ],
)
def test_the_model_in_it(names, found, tmp_path):
    (tmp_path / "onnx").mkdir()
    for name in names:
        (tmp_path / name).touch()
    assert model_file(tmp_path) == tmp_path / found


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "without an .onnx file"),
        (["a.onnx", "onnx/b.onnx"], "several models (a.onnx, onnx/b.onnx); give one of these files"),
        (["model.onnx", "onnx/model.onnx"], "several models (model.onnx, onnx/model.onnx)"),
        ([f"{n}.onnx" for n in range(7)], "(0.onnx, 1.onnx, 2.onnx, 3.onnx, 4.onnx and 2 more)"),
        (["manifest.json", "explain.onnx", "score.onnx"], "is a bundle, not a model"),
    ],
)
def test_what_cannot_be_told_is_one_line(names, said, tmp_path):
    (tmp_path / "onnx").mkdir()
    for name in names:
        (tmp_path / name).touch()
    for call in (inspect_model, lambda folder: export_model(folder, tmp_path / "b.fcam")):
        with pytest.raises(ModelError) as caught:
            call(tmp_path)
        assert said in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1


def test_files_are_left_alone(tmp_path):
    assert model_file(tmp_path / "none.onnx") == tmp_path / "none.onnx"


def test_a_folder_of_optimum_is_exported_with_what_it_says(classifier, tmp_path):
    (tmp_path / "hub" / "onnx").mkdir(parents=True)
    onnx.save(classifier(), tmp_path / "hub" / "onnx" / "model.onnx")
    config = {"image_processor_type": "ViTImageProcessor", "size": 28, "resample": 3}
    (tmp_path / "hub" / "preprocessor_config.json").write_text(json.dumps(config))
    labels = {str(n): f"class {n}" for n in range(5)}
    (tmp_path / "hub" / "config.json").write_text(json.dumps({"id2label": labels}))
    manifest = export_model(tmp_path / "hub", tmp_path / "b.fcam")
    assert (manifest.preprocessing.interpolation, manifest.preprocessing.mean) == ("bicubic", (0.5,) * 3)
    assert manifest.labels == tuple(labels.values())
    assert manifest.source.path == "../hub/onnx/model.onnx"
    assert inspect_model(tmp_path / "hub").default is not None
