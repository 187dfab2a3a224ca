"""Models that come as files."""

import json

import numpy as np

from fusioncam.runtime.demo import MODEL


def test_without_assets_there_is_the_demo_model(part):
    (name, file), *more = part("files").model_files(None).items()
    assert (name, file.path, file.preprocessing, more) == ("demo", MODEL, None, [])
    assert np.asarray(file.photo).dtype == np.uint8


def test_models_of_a_folder_get_what_their_names_say(part, tmp_path):
    for name in ("mobilenetv2_x", "squeezenet_fp16", "cifar10_y", "other"):
        (tmp_path / "models").mkdir(exist_ok=True)
        (tmp_path / "models" / f"{name}.onnx").touch()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "annotations.json").write_text(json.dumps([{"file": "a.png"}, {"file": "b.png"}]))
    found = part("files").model_files(tmp_path)
    assert {n: f.preprocessing["preset"] for n, f in found.items()} == {
        "cifar10_y": "raw", "mobilenetv2_x": "tf", "other": "unit", "squeezenet_fp16": "raw"
    }  # fmt: skip
    assert {f.photo for f in found.values()} == {tmp_path / "images" / "a.png"}
    assert found["squeezenet_fp16"].precisions == ("fp16",)
    assert found["other"].precisions == ("fp32", "fp16")


def test_the_maps_of_the_cpu_are_kept_for_other_processes(part, lab):
    wanted = lab.reference("mobile")
    other = part("lab").Lab(lab.device, lab.folder)
    assert other.bundle("mobile", "fp32")[1] == lab.bundle("mobile", "fp32")[1]
    kept = other.reference("mobile")
    assert kept is not wanted
    np.testing.assert_array_equal(kept.maps["fusion_cam"], wanted.maps["fusion_cam"])
