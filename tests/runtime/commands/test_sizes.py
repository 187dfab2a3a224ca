"""`fusioncam export --size any`, and `explain --size`: from a model of open height and width to the pictures."""

import json

import cv2
import numpy as np
import pytest

from fusioncam import Explainer


@pytest.fixture
def folder(run, free_nets, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    free_nets.write(tmp_path / "net.onnx", "resized")
    rng = np.random.default_rng(0)
    for name, size in (("tall", (60, 40)), ("wide", (30, 52))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), rng.integers(0, 256, (*size, 3), np.uint8))
    return tmp_path


def test_from_export_to_picture(folder, run):
    status, out, err = run("export", "net.onnx", "--size", "any", "24", "32", "--preset", "unit")
    assert (status, out) == (0, "net.fcam: layer fused (10 x 6 x 8), 5 classes\n")
    sizes = "any height from 1 on and any width from 1 on"
    assert (
        f"pictures are explained at 24 x 32, unless `explain --size H W` or `--size photo` says otherwise: {sizes}"
        in err
    )
    assert run("explain", "net.fcam", "tall.png", "wide.png", "--size", "photo", "--separate")[0] == 0
    for name, size in (("tall", (60, 40)), ("wide", (30, 52))):
        with Explainer("net.fcam") as explainer:
            expected = explainer.explain(f"{name}.png", size=size)
        maps = np.load(f"out/{name}.npz")
        assert all(np.array_equal(maps[method], array) for method, array in expected.maps.items())
        assert json.loads((folder / f"out/{name}.json").read_bytes())["size"] == [*size]
        assert np.array_equal(cv2.imread(f"out/{name}.png")[..., ::-1], expected.panel())
        assert cv2.imread(f"out/{name}.fusion_cam.png").shape == (*size, 3)
    assert run("explain", "net.fcam", "wide.png", "--size", "40x44", "-o", "other", "--no-panel")[0] == 0
    assert np.load("other/wide.npz")["score_cam"].shape == (40, 44)


def test_results_of_another_size_are_not_continued(folder, run):
    run("export", "net.onnx", "--size=any,24,32")
    assert run("explain", "net.fcam", "tall.png", "--size", "40,40", "--resume")[0] == 0
    assert "kept" in "".join(run("explain", "net.fcam", "tall.png", "--size", "40", "40", "--resume")[1:])
    status, _, err = run("explain", "net.fcam", "tall.png", "--size", "photo", "--resume")
    assert status == 2
    assert "size was 40, 40, is now photo" in err


def test_usual_size_and_inspection(folder, run):
    status, out, _ = run("export", "net.onnx", "--size", "any", "--json")
    said = json.loads(out)
    assert (status, said["preprocessing"]["size"]) == (0, [224, 224])
    assert said["free_size"] == {"step": [1, 1], "least": [1, 1], "options": {"gradient": True, "single_for": "any"}}
    assert "input    'x' (N, 3, 224, 224), of any size" in run("inspect", "net.onnx", "--size", "any")[1]
    found = json.loads(run("inspect", "net.onnx", "--size", "24", "32", "--json")[1])["input"]
    assert (found["size"], found["any_size"]) == ([24, 32], True)
    assert run("check", "net.fcam")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("export", "net.onnx"), "say --size any, or which with --size H W"),
        (("export", "net.onnx", "--size", "some"), "--size takes whole numbers, H,W or any, not 'some'"),
        (("export", "net.onnx", "--size", "any", "24"), "size is two positive whole numbers"),
        (("explain", "net.fcam", "tall.png", "--size", "some"), "--size takes whole numbers, H,W or photo, not 'some'"),
        (("explain", "net.fcam", "tall.png", "--size", "40"), "the model takes sizes of 2 numbers"),
        (("explain", "net.fcam", "tall.png", "--size", "0", "9"), "a height of 1 or more, not 0"),
    ],
)
def test_bad_sizes(folder, run, arguments, words):
    run("export", "net.onnx", "--size", "any", "24", "32", "--no-gradient")
    status, _, err = run(*arguments)
    assert status == 2
    assert words in err
    assert len(err.splitlines()) == 1
