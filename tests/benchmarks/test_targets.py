import json

import numpy as np
import pytest

from fusioncam.export import export_model
from fusioncam.runtime.demo.pairs import draw_pair
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.explainer import Explainer


@pytest.fixture
def command(command_of, monkeypatch):
    module = command_of("targets")
    monkeypatch.setattr(module, "GALLERY", 4)
    return module


def test_scenes_are_others_than_those_of_trainings_and_tests(command, part):
    assert part("demo.training").EVALUATED < command.FIRST_SEED
    assert command.FIRST_SEED + 100_000 in part("demo.training").HELD_OUT


def test_cases_are_the_objects_and_what_the_models_make_of_them(command):
    (first, second), *_ = command.segments(1)
    scene = draw_scene(command.FIRST_SEED, objects=2)
    for case, (c, mask) in zip((first, second), scene.masks.items(), strict=True):
        np.testing.assert_array_equal(case.image, scene.image)
        np.testing.assert_array_equal(case.mask, mask)
        assert (case.target.class_, case.fixed.class_) == (1 + c, 1 + c)
        assert case.fixed.mask is case.mask

    likenesses = [case for (case,) in command.likenesses(4)]
    pairs = [draw_pair(command.FIRST_SEED + n, objects=2) for n in range(4)]
    scenes = command.outputs_of(command.EMBEDDER, [pair.scene.image for pair in pairs])
    references = command.outputs_of(command.EMBEDDER, [pair.reference.image for pair in pairs])
    for n, (case, pair) in enumerate(zip(likenesses, pairs, strict=True)):
        np.testing.assert_array_equal(case.target.reference, pair.reference.image)
        cosines = references @ scenes[n]
        assert case.found == (cosines[n] == cosines.max())


def test_maps_are_held_against_masks(command, tmp_path):
    export_model(command.SEGMENTER, tmp_path / "m.fcam")
    explainer = Explainer(tmp_path / "m.fcam", methods=command.METHODS)
    cases = next(command.segments(1))
    elsewhere = [command.replace(case, mask=np.roll(case.mask, 48, axis=(0, 1))) for case in cases]
    on, off = command.held(explainer, [cases]), command.held(explainer, [[], elsewhere])
    for method in command.METHODS:
        assert on[method]["pointing"]["mean"] > off[method]["pointing"]["mean"]
        assert on[method]["pointing"]["n"] == 1


def test_a_whole_run_of_few_scenes(command, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "TARGETS", 4)
    assert command.main(["--scenes", "4", "--out", str(tmp_path)]) == 0
    result = json.loads((tmp_path / "results" / "targets.json").read_text())
    assert [subject["name"] for subject in result["subjects"]] == [s.name for s in command.SUBJECTS]
    assert result["passes"][-1]["channels"] == 512
    assert all(counts["1"] <= counts["channels"] + 4 for counts in result["passes"])
    assert "| 512 |" in (tmp_path / "README.md").read_text()
    assert "**likeness**" in capsys.readouterr().out
