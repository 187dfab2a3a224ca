"""An evaluation that goes on where it was: what is done again and what is not, and what must not change meanwhile."""

import csv
import io
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.manifest import read_bundle
from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, Evaluator
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings
from fusioncam.runtime.evaluation.run import about_of, evaluate_photos, settings_of, write_results
from fusioncam.runtime.evaluation.store.store import ROWS, Store
from fusioncam.runtime.photos.folder import photos_of

METHODS = ("grad_cam", "layer_cam")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "photos").mkdir()
    for n in range(4):
        write_photo(tmp_path / "photos" / f"{n}.png", n)
    return tmp_path / "photos"


def write_photo(file, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    cv2.imwrite(str(file), cv2.resize(pixels, (32, 24)))


@pytest.fixture
def config(tiny):
    return EvaluationConfig(tiny.bundle, METHODS, faithfulness=Settings(("drop", "insertion"), steps=4))


@pytest.fixture
def sweeping(config, folder, tmp_path):
    """Sweeps over the folder; gives the rows, and the photos that were evaluated."""
    evaluator = Evaluator(config)

    def sweeping(progress=lambda done, total: None):
        asked = []

        def rows(photos):
            asked.extend(name for name, _ in photos)
            return evaluator.rows(photos)

        with Store(tmp_path / "out", settings_of(config, read_bundle(config.bundle), folder)) as store:
            return evaluate_photos(photos_of(folder), rows, store, progress), asked

    return sweeping


def test_what_has_a_row_is_not_evaluated_again(sweeping, tmp_path):
    calls = []
    rows, asked = sweeping(lambda *at: calls.append(at))
    assert asked == [row["image"] for row in rows] == ["0.png", "1.png", "2.png", "3.png"]
    assert calls == [(done, 4) for done in range(5)]
    lines = (tmp_path / "out" / ROWS).read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    (tmp_path / "out" / ROWS).write_bytes(b"".join(lines[:2]))
    calls.clear()
    again, asked = sweeping(lambda *at: calls.append(at))
    assert asked == ["2.png", "3.png"]
    assert calls == [(2, 4), (3, 4), (4, 4)]
    assert [{**row, "seconds": 0} for row in again] == [{**row, "seconds": 0} for row in rows]
    assert (tmp_path / "out" / ROWS).read_bytes().startswith(b"".join(lines[:2]))
    calls.clear()
    assert sweeping(lambda *at: calls.append(at)) == (again, [])
    assert calls == [(4, 4)]


def test_a_photo_that_changed_failed_or_came_is_evaluated_and_one_that_went_is_left_out(sweeping, folder):
    (folder / "1.png").write_bytes(b"no picture")
    before, _ = sweeping()
    assert ["error" in row for row in before] == [False, True, False, False]
    assert sweeping()[1] == ["1.png"]  # it may have been repaired
    write_photo(folder / "1.png", 1)
    write_photo(folder / "2.png", 22)
    write_photo(folder / "4.png", 4)
    (folder / "3.png").unlink()
    after, asked = sweeping()
    assert asked == ["1.png", "2.png", "4.png"]
    assert [row["image"] for row in after] == ["0.png", "1.png", "2.png", "4.png"]
    assert after[0] == before[0]
    assert "error" not in after[1]
    assert after[2]["sha256"] != before[2]["sha256"]


def test_rows_name_their_pictures(sweeping, tmp_path):
    names = {found["picture"] for row in sweeping()[0] for found in row["methods"].values()}
    assert len(names) == 4 * len(METHODS)
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"RIFF") for name in names)


def test_settings_hold_all_that_decides_what_comes_out(config, folder, tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps([{"file": "0.png", "boxes": [[0, 0, 9, 9]]}]))
    manifest = read_bundle(config.bundle)
    same = settings_of(config, manifest, folder)
    assert settings_of(replace(config, chunk=3, threads=1, providers=["cpu"]), manifest, folder) == same
    others = [
        replace(config, methods=("grad_cam",)),
        replace(config, budget="auto"),
        replace(config, faithfulness=Settings(("drop",), steps=4)),
        replace(config, faithfulness=Settings(("drop", "insertion"), steps=5)),
        replace(config, annotations=read_annotations(tmp_path / "notes.json", None, 5)),
        replace(config, annotated=True),
        replace(config, tolerance=1.0),
        replace(config, random_bundle=config.bundle),
    ]
    manifests = [
        manifest.model_copy(update={"labels": ("a", "b", "c", "d", "e")}),
        manifest.model_copy(update={"preprocessing": manifest.preprocessing.model_copy(update={"rescale": 1.0})}),
        manifest.model_copy(update={"files": {**manifest.files, "score.onnx": "0" * 64}}),
    ]
    found = [settings_of(other, manifest, folder) for other in others]
    found += [settings_of(config, other, folder) for other in manifests]
    found.append(settings_of(config, manifest, tmp_path))
    for settings in found:
        assert sum(settings[key] != same[key] for key in same) == 1
        with Store(tmp_path / "out", same):
            pass
        with pytest.raises(UsageError, match="other settings"), Store(tmp_path / "out", settings):
            pass


def test_results_hold_the_same_figures(sweeping, config, folder, tmp_path):
    (folder / "3.png").write_bytes(b"no picture")
    rows, _ = sweeping()
    manifest = read_bundle(config.bundle)
    with Store(tmp_path / "out", settings_of(config, manifest, folder)) as store:
        summary = write_results(store, config, rows, {**about_of(config, manifest), "place": "here"})
    assert json.loads((tmp_path / "out" / "summary.json").read_bytes()) == summary
    assert summary["about"]["methods"] == list(METHODS)
    assert summary["about"]["place"] == "here"
    assert summary["photos"] == {"all": 4, "evaluated": 3, "failed": 1, "annotated": 0, "correct": 0}
    *lines, failed = csv.DictReader(io.StringIO((tmp_path / "out" / "results.csv").read_text()))
    assert failed["image"] == "3.png"
    assert "is not a picture" in failed["error"]
    assert summary["failed"] == [{"image": "3.png", "error": failed["error"]}]
    page = (tmp_path / "out" / "report.html").read_text()
    for method in METHODS:
        for metric in ("drop", "increase", "insertion"):
            mean = summary["methods"][method]["metrics"][metric]["mean"]
            assert np.mean([float(line[metric]) for line in lines if line["method"] == method]) == pytest.approx(mean)
            assert f"{mean:.3f}" in page
    assert "3.png" in page
