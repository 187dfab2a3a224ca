"""`fusioncam demo --task`: what the built-in segmenter, embedder and detector say of the built-in picture."""

import json

import numpy as np
import pytest

from fusioncam import Explainer, Region
from fusioncam.runtime.demo.pairs import sample_pair_pictures
from fusioncam.runtime.demo.scenes import CLASSES, sample_picture
from fusioncam.runtime.evaluation.metrics.localisation import energy, pointing


def test_every_region_of_the_picture_is_explained(run, tmp_path):
    status, out, _ = run("demo", "--task", "segment", "-o", tmp_path, "--json")
    assert status == 0
    masks = sample_picture().masks
    found = {record["label"]: record for record in json.loads(out)}
    assert {*found} == {"background", *(CLASSES[c] for c in masks)}
    assert len({record["picture"] for record in found.values()}) == len(found)
    explainer = Explainer(tmp_path / "segmenter.fcam")
    for c, mask in masks.items():
        explanation = explainer.explain(tmp_path / "scene.png", target=Region(CLASSES[c]))
        assert explanation.region[mask].mean() > 0.8
        assert pointing(explanation.on_photo("fusion_cam"), mask) == 1
        with np.load(found[CLASSES[c]]["maps"]) as maps:
            np.testing.assert_allclose(maps["fusion_cam"], explanation.maps["fusion_cam"], atol=1e-6)


def test_the_likeness_to_the_reference_lies_on_the_object_that_is_shared(run, tmp_path):
    status, out, _ = run("demo", "--task", "embed", "-o", tmp_path)
    assert status == 0
    assert "scene.png is like reference.png (0." in out
    pair = sample_pair_pictures()
    with np.load(tmp_path / "explained-embed" / "scene.npz") as maps:
        saliency = maps["fusion_cam"]
    mask = pair.scene.masks[pair.class_index][::4, ::4]
    assert pointing(saliency, mask) == 1


def test_every_object_of_the_picture_is_detected_and_explained(run, tmp_path):
    status, out, _ = run("demo", "--task", "detect", "-o", tmp_path)
    assert status == 0
    (line,) = out.splitlines()  # one panel has a row for each
    masks = sample_picture().masks
    explainer = Explainer(tmp_path / "detector.fcam")
    found = explainer.detections(tmp_path / "scene.png")
    assert {d.class_index for d in found} == {*masks}
    for detection in found:
        assert f"{detection.label} ({detection.score:.2f})" in line
        with np.load(*(tmp_path / "explained-detect").glob(f"*-{detection.class_index}_at_*.npz")) as maps:
            saliency = maps["fusion_cam"]
        x1, y1, x2, y2 = detection.box_on_input
        by_chance = (x2 - x1) * (y2 - y1) / saliency.size
        assert energy(saliency, masks[detection.class_index][1::3, 1::3]) > 1.5 * by_chance


FILES = [("segment", "segmenter.onnx"), ("embed", "embedder.onnx"), ("detect", "detector.onnx")]


@pytest.mark.parametrize(("task", "file"), FILES)
def test_models_are_small(task, file):
    from fusioncam.runtime.demo import MODELS

    assert MODELS[task].name == file
    assert MODELS[task].stat().st_size < 2**20
