"""`--image` and `--input` of export, inspect, explain, evaluate and bench: from a model to the pictures."""

import json

import numpy as np
import pytest

from fusioncam import Explainer, UsageError
from fusioncam.export.triton import write_repository
from fusioncam.runtime.service.settings import Settings

NUMBERS = "0.5,-1,2,0"


@pytest.fixture
def folder(several, work, tmp_path, monkeypatch, run):
    """Models of several inputs, and two photos."""
    for name in ("siamese", "metadata", "two_towers"):
        (tmp_path / f"{name}.onnx").write_bytes(several(name).source.read_bytes())
    words, mask = several("two_towers").module.example()
    np.save(tmp_path / "words.npy", words.numpy())
    np.save(tmp_path / "mask.npy", mask.numpy())
    (tmp_path / "texts.txt").write_text("a cat\na dog\na bird\na car\n")
    (tmp_path / "photos").mkdir()
    for name in ("one.png", "two.jpg"):
        (tmp_path / "photos" / name).write_bytes((work / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_pictures(folder, run):
    status, out, err = run("inspect", "siamese.onnx")
    assert status == 2
    assert "name it with --image" in err
    status, out, _ = run("inspect", "siamese.onnx", "--image", "image")
    assert "'other' float32 (3, 24, 32), for each picture" in out
    assert (
        json.loads(run("inspect", "siamese.onnx", "--image", "image", "--json")[1])["further_inputs"][0]["name"]
        == "other"
    )
    assert run("export", "siamese.onnx", "--image", "image", "--preset", "unit")[0] == 0
    assert run("explain", "siamese.fcam", "photos/one.png", "--input", "other=photos/two.jpg")[0] == 0
    with Explainer("siamese.fcam") as explainer:
        expected = explainer.explain("photos/one.png", inputs={"other": "photos/two.jpg"})
    assert np.array_equal(np.load("out/one.npz")["fusion_cam"], expected.maps["fusion_cam"])
    status, _, err = run("explain", "siamese.fcam", "photos/one.png", "-o", "other")
    assert status == 1
    assert "the model also takes 'other' float32 (3, 24, 32) for each picture" in err


def test_metadata(folder, run):
    status, out, err = run("export", "metadata.onnx", "--preset", "unit")
    assert out.endswith("(12 x 6 x 8), 5 classes, input 'numbers' float32 (4), input 'kind' int64 ()\n")
    given = ("--input", f"numbers={NUMBERS}", "--input", "kind=3")
    assert run("explain", "metadata.fcam", "photos", *given, "-q")[0] == 0
    assert run("explain", "metadata.fcam", "photos", *given, "--resume", "-q")[0] == 0
    status, _, err = run("explain", "metadata.fcam", "photos", *given[:3], "kind=4", "--resume", "-q")
    assert status != 0
    assert "made with other settings (inputs was" in err
    assert run("evaluate", "metadata.fcam", "photos", *given, "--steps", "4", "-q")[0] == 0
    assert run("bench", "metadata.fcam", "photos/one.png", *given, "--rounds", "1", "--budget", "exact", "-q")[0] == 0
    status, _, err = run("explain", "metadata.fcam", "photos", "--input", "kind", "-q")
    assert (status, err) == (2, "error: --input kind names no value; write --input kind=VALUE\n")


def test_texts_become_classes(folder, run):
    texts = ("--input", "words=words.npy", "--input", "mask=mask.npy", "--labels", "texts.txt")
    assert run("export", "two_towers.onnx", "--scores", "per_picture", *texts, "--preset", "unit")[0] == 0
    assert run("check", "two_towers.fcam")[0] == 0
    assert run("explain", "two_towers.fcam", "photos/one.png", "-c", "a dog", "-q")[0] == 0
    assert json.loads((folder / "out" / "one.json").read_bytes())["label"] == "a dog"


def test_fronts_that_give_no_inputs(folder, several):
    bundle = several("metadata").bundle
    for call, what in (
        (lambda: Settings().check_bundle(bundle), "the service"),
        (lambda: write_repository(bundle, folder / "models", ("score_cam",)), "a model of Triton"),
    ):
        with pytest.raises(UsageError, match=rf"^{what} takes models of one input, and this one also takes 'numbers'"):
            call()
