"""The benchmark of which maps to trust, in miniature: a few drawn scenes, and its tables."""

import json

import cv2
import numpy as np
import pytest

from fusioncam.runtime.demo.scenes import CLASSES, draw_scene
from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.methods import checked_methods


@pytest.fixture(scope="module")
def faithfulness(part):
    return part("faithfulness")


def test_scenes_come_back_from_their_annotations_to_the_pixel(faithfulness, tmp_path):
    folder = faithfulness.draw_scenes(tmp_path / "scenes", 4)
    notes = read_annotations(folder / "annotations.json", CLASSES, len(CLASSES))
    for seed in range(4):
        name, scene = f"{seed:05}.png", draw_scene(seed, objects=1 + seed % 2)
        np.testing.assert_array_equal(cv2.imread(str(folder / name))[..., ::-1], scene.image)
        assert notes.accepted(name) == tuple(sorted(scene.masks))
        for class_index, mask in scene.masks.items():
            np.testing.assert_array_equal(notes.region(name, mask.shape, class_index), mask)


@pytest.mark.parametrize("edge", [True, False])
def test_run_lengths_begin_outside_and_end_at_the_end(faithfulness, edge):
    mask = np.zeros((3, 4), bool)
    mask[0, 0] = mask[2, 3] = edge
    mask[1:3, 1] = True
    counts = faithfulness.run_lengths(mask)
    assert sum(counts) == mask.size
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    np.testing.assert_array_equal(runs.reshape(4, 3).T, mask)


def test_every_method_compared_is_one(faithfulness, part):
    assert checked_methods(faithfulness.METHODS) == faithfulness.METHODS
    checked_methods([pair.ours for pair in part("agreement.maps").PAIRS])


def test_a_run_of_a_few_scenes_fills_the_tables_and_goes_on(faithfulness, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(faithfulness, "METHODS", ("fusion_cam", "grad_cam", "score_cam"))
    monkeypatch.setattr(faithfulness, "SETTINGS", faithfulness.Settings(("drop", "deletion"), steps=4))
    arguments = ["--scenes", "3", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out")]
    (tmp_path / "out").mkdir()
    assert faithfulness.main(arguments) == 0
    (found,) = json.loads((tmp_path / "out" / "results" / "faithfulness.json").read_text())["subjects"]
    assert found["photos"]["evaluated"] == 3
    assert found["methods"]["fusion_cam"]["metrics"]["pointing"]["n"] == 3
    assert 0 <= found["wins"]["energy"]["better"] + found["wins"]["energy"]["equal"] <= 1
    readme = (tmp_path / "out" / "README.md").read_text()
    assert "| Fusion-CAM |" in readme
    assert "## On a CPU" in readme
    assert "3 of 3" in capsys.readouterr().out
    assert faithfulness.main(arguments) == 0
    assert "1 of 3" not in capsys.readouterr().out  # nothing is computed twice
