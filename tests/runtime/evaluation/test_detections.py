"""Rows of detections: those that match annotated boxes, measured in them, and summed up by class and by size."""

import json

import cv2
import numpy as np
import pytest
import torch

from fusioncam import Explainer
from fusioncam.manifest import read_bundle
from fusioncam.output import plain
from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, Evaluator
from fusioncam.runtime.evaluation.metrics.catalogue import METRICS, size_of
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings
from fusioncam.runtime.evaluation.questions import checked_choice
from fusioncam.runtime.evaluation.report.page import report_html
from fusioncam.runtime.evaluation.report.summary import summarise
from fusioncam.runtime.evaluation.run import about_of
from fusioncam.runtime.evaluation.store.row_schema import is_row
from fusioncam.runtime.photos.model_input import preprocess
from fusioncam.runtime.targets.kinds import KnownObject
from fusioncam.runtime.targets.matching import matched

METHODS, STEPS = ("grad_cam", "score_cam"), 5


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photo of twice the size of the input."""
    file = tmp_path_factory.mktemp("photos") / "a.png"
    coarse = np.random.default_rng(4).integers(0, 256, (8, 8, 3), np.uint8)
    cv2.imwrite(str(file), cv2.resize(coarse, (192, 192), interpolation=cv2.INTER_CUBIC))
    return file


@pytest.fixture(scope="module")
def explainer(small_detector):
    return Explainer(small_detector.bundle, methods=METHODS)


@pytest.fixture(scope="module")
def found(explainer, photo):
    return explainer.detections(photo)


@pytest.fixture
def rows(small_detector, detectors, photo, tmp_path):
    """Evaluates the photo with annotated objects: their class, box and further facts."""

    def rows(objects, annotated=True):
        content = {
            "images": [{"id": 1, "file_name": "a.png", "height": 192, "width": 192}],
            "categories": [{"id": 7 + n, "name": label} for n, label in enumerate(detectors.LABELS)],
            "annotations": [
                {"id": n, "image_id": 1, "category_id": 7 + c, "bbox": [x1, y1, x2 - x1, y2 - y1], **more}
                for n, (c, (x1, y1, x2, y2), more) in enumerate(objects)
            ],
        }
        (tmp_path / "coco.json").write_text(json.dumps(content))
        notes = read_annotations(tmp_path / "coco.json", detectors.LABELS, 3).matched_to(["a.png"])
        config = EvaluationConfig(
            small_detector.bundle, METHODS, "exact", Settings(("insertion", "deletion"), steps=STEPS), notes, annotated
        )
        return [plain(evaluated.row) for evaluated in Evaluator(config).rows([("a.png", photo)])]

    return rows


def test_detections_that_match_objects(rows, found, explainer, small_detector, photo):
    first, second = found[0], next(d for d in found if d.class_index != found[0].class_index)
    other = next(c for c in range(3) if all(d.class_index != c or d is not first for d in found))
    objects = [(d.class_index, d.box, {}) for d in (second, first)]
    missed = [(other, (0, 0, 3, 3), {}), (first.class_index, (0, 0, 192, 192), {"iscrowd": 1})]
    measured = rows(objects + missed)
    assert [row["title"] for row in measured] == [d.label for d in sorted((first, second), key=lambda d: -d.score)]
    assert len({row["target"] for row in measured}) == 2
    assert all(map(is_row, measured))
    resolved = {e.detection.anchor: e.target for e in explainer.explain_batch([photo], above=0)}
    x = preprocess(cv2.imread(str(photo))[..., ::-1], explainer.manifest.preprocessing)
    for row, detection in zip(measured, sorted((first, second), key=lambda d: -d.score), strict=True):
        assert row["problems"][-1] == "1 annotated object without a detection: left out"
        x1, y1, x2, y2 = detection.box
        assert row["object_size"] == size_of(round(x2 - x1) * round(y2 - y1))
        with torch.no_grad():
            images = torch.from_numpy(np.stack([x, x * 0]).astype(np.float64))
            whole, blank = small_detector.network.likeness(images, detection.box_on_input, detection.class_index)
        inside = np.zeros((192, 192), bool)
        inside[round(y1) : round(y2), round(x1) : round(x2)] = True
        share = cv2.resize(inside.astype(np.uint8), (96, 96), interpolation=cv2.INTER_AREA) > 0
        explanation = explainer.explain(x, target=resolved[detection.anchor])
        for method, of_map in row["methods"].items():
            assert of_map["curves"]["deletion"][0] == pytest.approx(float(whole), abs=1e-5)
            assert of_map["curves"]["deletion"][-1] == pytest.approx(float(blank), abs=1e-5)
            saliency = explanation.maps[method]
            assert of_map["metrics"]["energy"] == pytest.approx(saliency[share].sum() / saliency.sum(), abs=0.03)
            assert of_map["metrics"]["pointing"] in (0, 1) or (saliency == saliency.max()).sum() > 1
    summary = summarise(measured, METHODS, METRICS, {"targets_explained": "detections"})
    assert {group["title"]: group["targets"] for group in summary["targets"]} == {d.label: 1 for d in (first, second)}
    sizes = [group["title"] for group in summary["sizes"]]
    assert sizes == [size for size in ("small", "medium", "large") if size in {row["object_size"] for row in measured}]
    assert "By size of the object" in report_html(summary, measured)


def test_all_detections_without_objects(rows, found):
    top = rows([], annotated=True)
    assert len(top) == min(len(found), 10)
    assert not any("object_size" in row for row in top)
    assert all(not row["methods"]["grad_cam"]["metrics"].keys() & {"pointing", "energy"} for row in top)


def test_a_photo_whose_objects_are_all_missed(rows):
    (row,) = rows([(0, (1, 1, 4, 4), {})])
    assert row["error"] == "no detection matches an annotated object: there is nothing to measure"


def test_annotated_boxes_are_the_default(small_detector):
    manifest = read_bundle(small_detector.bundle)
    about = about_of(EvaluationConfig(small_detector.bundle, annotated=True), manifest)
    assert about["targets_explained"] == "detections that match an annotated object"
    assert about["layer"].count(" + ") == 2
    assert checked_choice(manifest, None, True, False)
    assert not checked_choice(manifest, "top", True, False)
    assert not checked_choice(manifest, None, False, False)


def test_each_object_has_one_detection(found):
    first = found[0]
    known = [
        KnownObject(frozenset({first.class_index}), first.box, 1.0),
        KnownObject(None, first.box, 1.0),
        KnownObject(frozenset(), first.box, 1.0),
    ]
    assert matched([first, first], known) == {0: 0, 1: 1}
    assert matched([first] * 4, known) == {0: 0, 1: 1}
    assert matched([first], known[2:]) == matched([], known) == matched([first], []) == {}
