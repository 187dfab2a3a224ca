"""Detections in C++: the same as Python finds and names, and their maps."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from fusioncam import Box, Explainer
from fusioncam.errors import UsageError
from fusioncam.export import single_graph
from fusioncam.export.single.metadata import metadata
from fusioncam.runtime.targets.tasks import checked_target, resolve

METHODS = ("fusion_cam", "grad_cam", "score_cam")
SIZE = (50, 90)


@pytest.fixture(scope="module")
def by_hand():
    """Detectors made by hand, which the tests of Python's targets have."""
    path = Path(__file__).parents[1] / "targets" / "detectors.py"
    spec = importlib.util.spec_from_file_location("cpp_tests_detectors", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def told_of(tmp_path):
    """Writes what a graph says of a detector, and what it gives for a picture; gives how the driver is told of both."""

    def told_of(manifest, form):
        model = onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], []))
        onnx.helper.set_model_props(model, metadata(manifest))
        onnx.save(model, tmp_path / "fusioncam.onnx")
        form.tofile(tmp_path / "form")
        return tmp_path / "fusioncam.onnx", tmp_path / "form"

    return told_of


KINDS = {
    "as exported": {},
    "of any class": {"class_wise": False, "iou": 0.3, "conf": 0.05},
    "all there are": {"nms": False, "conf": 0.01},
    "several classes": {"multi_label": True, "conf": 0.1, "most": 4},
    "a background": {"background": 0, "conf": 0.05},
    "a background last": {"ending": "softmax", "classes": 2, "background": 2, "conf": 0.1},
    "a letterbox": {"resize": "letterbox"},
    "rotated": {"extra": "rotated", "extras": 5, "conf": 0.01, "iou": 0.4},
}


@pytest.mark.parametrize("kind", KINDS)
def test_detections_are_those_of_python(kind, by_hand, told_of, driver, tmp_path):
    rng = np.random.default_rng(2)
    boxes = rng.uniform(0, 90, (40, 2))
    sides = rng.uniform(5, 60, (40, 2))
    numbers, angles = rng.normal(-1, 2, (40, 3)), rng.uniform(-1, 1, (40, 1))
    extras = [boxes + sides / 2, sides, angles] if kind == "rotated" else []
    form = np.concatenate([boxes, boxes + sides, numbers, *extras], axis=1).astype(np.float32)
    manifest = by_hand.manifest_of(anchors=40, **KINDS[kind])
    for size in (None, SIZE):
        found = by_hand.sight_of(manifest, form, size).anchors.found()
        titles = driver.done("found", *told_of(manifest, form), *(size or (0, 0)), tmp_path / "out")
        rows = np.fromfile(tmp_path / "out").reshape(-1, 7)
        assert len(found) > 2
        assert titles.split("\t")[:-1] == [d.title for d in found]
        wanted = [[*d.box, d.class_index, d.score, d.anchor] for d in found]
        np.testing.assert_allclose(rows, wanted, rtol=1e-12, atol=1e-9)


ASKED = {
    "the likeliest": Box(),
    "of a class": Box(1),
    "at a box": Box(box=(105, 15, 175, 88)),
    "of a class at a box": Box(0, (108, 38, 172, 90)),
    "of a class that is not there": Box(2, (10, 20, 60, 90)),
    "an unlikely one": Box(2, conf=0.1),
    "none of a class": Box(2),
    "none so likely": Box(conf=0.95),
    "none at a box": Box(box=(10, 60, 40, 90)),
    "none near a box": Box(0, (150, 0, 160, 5)),
    "no such class": Box(3),
    "no box": Box(box=(10, 20, 5, 90)),
    "no score": Box(conf=1.5),
}


def words_of(target, path):
    """A target as the driver is told of it."""
    numbers = [*(target.box or ()), *(() if target.conf is None else (target.conf,))]
    np.array(numbers, np.float64).tofile(path)
    return "box", -1 if target.class_ is None else target.class_, 0, path, 0, 0


def test_targets_are_those_of_python(by_hand, told_of, driver, tmp_path):
    """A target names the same detection, or is refused with the same words."""
    manifest, form = by_hand.manifest_of(), by_hand.form_of()
    told = told_of(manifest, form)
    for case, target in ASKED.items():
        found = driver.ask("named", *told, 0, 0, *words_of(target, tmp_path / "target"))
        assert found == in_python(manifest, target, by_hand.sight_of(manifest, form)), case
    background = by_hand.manifest_of(background=1)
    found = driver.ask("named", *told_of(background, form), 0, 0, *words_of(Box(1), tmp_path / "target"))
    assert found == ("UsageError", "dog is the background, which is never detected")


def in_python(manifest, target, sight):
    """Return Python's answer to a target, in the form of the driver's."""
    try:
        tensors = resolve(checked_target(manifest, target), sight).tensors
    except UsageError as error:
        return "UsageError", str(error)
    return "ok", f"{tensors['anchor']} {tensors['class_index']}"


@pytest.fixture(scope="module")
def single(small_detector, tmp_path_factory):
    """The folder of a detector's bundle with its single graph, and a photo in it."""
    folder = tmp_path_factory.mktemp("boxes") / "m.fcam"
    shutil.copytree(small_detector.bundle, folder)
    (folder / "fusioncam.onnx").write_bytes(single_graph(small_detector.bundle))
    coarse = np.random.default_rng(3).integers(0, 256, (6, 9, 3), np.uint8)
    return folder, cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


def test_maps_are_those_of_python(single, driver, built, tmp_path):
    """Compare maps of detections; one whose anchor does not fit its box best takes a second run."""
    bundle, photo = single
    photo.tofile(tmp_path / "photo")
    explainer = Explainer(bundle)
    every = explainer.detections(photo, conf=0)
    asked = Box(), Box(every[1].class_index, every[1].box, conf=0), Box(every[-1].class_index, every[-1].box, conf=0)
    for target in asked:
        wanted = explainer.explain(photo, target=target)
        words = words_of(target, tmp_path / "target")
        told = driver.done("target", bundle, tmp_path / "photo", *SIZE, *words, tmp_path / "out")
        for name in METHODS:
            found = np.fromfile(tmp_path / f"out.{name}", np.float32).reshape(wanted.maps[name].shape)
            np.testing.assert_allclose(found, wanted.maps[name], atol=1e-4, err_msg=name)
        assert told.split("\t")[0] == str(wanted.class_index)
        assert np.fromfile(tmp_path / "out.scores")[1] == pytest.approx(wanted.probability, abs=1e-5)
        rows = np.fromfile(tmp_path / "out.detections").reshape(-1, 7)
        np.testing.assert_allclose(rows[:, :4], [d.box for d in explainer.detections(photo)], atol=1e-3)
    titles = driver.done("detect", bundle, tmp_path / "photo", *SIZE, tmp_path / "out")
    assert titles.split("\t")[:-1] == [d.title for d in explainer.detections(photo)]
    program, paths = (
        built.sample.with_name("fusioncam_box"),
        [tmp_path / f"{name}.ppm" for name in ("photo", "overlay")],
    )
    cv2.imwrite(str(paths[0]), photo[..., ::-1])
    done = subprocess.run([program, bundle, *paths], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[: len(rows)] == titles.split("\t")[:-1]
    assert paths[1].stat().st_size > np.prod(SIZE) * 3
