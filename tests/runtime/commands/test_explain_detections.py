"""`fusioncam explain` of a detector: every detection, or those that are named, on one panel and in a table."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from fusioncam import Box, Detections, Explainer, NothingDetectedError, UsageError, detections_panel
from fusioncam.manifest import read_bundle
from fusioncam.runtime import detection_pictures
from fusioncam.runtime.commands import export as export_command
from fusioncam.runtime.demo.crowds import draw_crowd
from fusioncam.runtime.methods import checked_for

GRAD = ("--methods", "grad_cam", "-q")


@pytest.fixture(scope="module")
def explainer(small_detector):
    with Explainer(small_detector.bundle, methods=["grad_cam"]) as explainer:
        yield explainer


@pytest.fixture(scope="module")
def photo(explainer, tmp_path_factory):
    """A picture of twice the size of the input, in which several classes are detected."""
    for seed in range(20):
        image = cv2.resize(draw_crowd(seed).image, (256, 256), interpolation=cv2.INTER_NEAREST)
        path = tmp_path_factory.mktemp("photo") / "crowd.png"
        cv2.imwrite(str(path), image[..., ::-1])
        if len({found.class_index for found in explainer.detections(path)}) > 1:
            return path
    raise AssertionError("no picture with several classes")


@pytest.fixture
def explain(run, small_detector, photo, tmp_path):
    """Runs `fusioncam explain`, and returns the folder of the results, and what it complains of."""

    def call(*options, ends=0):
        out = tmp_path / "out"
        status, _, complaints = run("explain", small_detector.bundle, photo, "-o", out, *options, *GRAD)
        assert status == ends, complaints
        return out, complaints

    return call


def records_in(out):
    return [json.loads(path.read_bytes()) for path in sorted(out.glob("*.json"))]


def test_every_detection_has_maps_and_all_share_a_panel(explain, explainer, photo):
    out, _ = explain("--table", "csv")
    found = explainer.detections(photo)[:10]
    assert len(found) > 1
    records = {record["target"]["detections"][0]["anchor"]: record for record in records_in(out)}
    assert len(records) == len(found) == len(list(out.glob("*.npz")))
    assert [path.name for path in out.glob("*.png")] == ["crowd.png"]
    for detection in found:
        record, expected = records[detection.anchor], explainer.explain(photo, target=Box(box=detection.box))
        assert record["picture"] == str(out / "crowd.png")
        np.testing.assert_allclose(record["target"]["detections"][0]["box"], detection.box, atol=0.01)
        with np.load(record["maps"]) as maps:
            np.testing.assert_array_equal(maps["grad_cam"], expected.maps["grad_cam"])
    with (out / "explanations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["anchor"]) for row in rows] == [detection.anchor for detection in found]
    boxes = [[float(row[side]) for side in ("x1", "y1", "x2", "y2")] for row in rows]
    np.testing.assert_allclose(boxes, [detection.box for detection in found], atol=0.01)
    assert {row["picture"] for row in rows} == {str(out / "crowd.png")}


def test_the_summary_of_an_export_names_all_levels(small_detector):
    manifest = read_bundle(small_detector.bundle)
    said = export_command._summary(small_detector.bundle, manifest)
    assert said.count(" x ") == 2 * len(manifest.layers) == 6
    assert ": levels " in said
    with pytest.raises(UsageError, match="this detector has several levels"):
        checked_for(["recipro_cam"], [manifest], "exact")


def test_a_run_goes_on(explain):
    out, _ = explain()
    times = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    explain("--resume")
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == times
    (out / "crowd.png").unlink()
    explain("--resume")
    assert {*out.iterdir()} == {*times}
    _, refused = explain("--resume", "--conf", "0.3", ends=2)
    assert "made with other settings" in refused
    explain("--box", "300", "0", "400", "9", ends=1)  # what an earlier run has drawn is no picture of the user's
    (out / "crowd.png").rename(out / "kept.png")
    for path in out.glob("*.json"):
        path.unlink()
    (out / "kept.png").rename(out / "crowd.png")
    _, refused = explain(ends=2)
    assert "could overwrite a" in refused


def test_two_classes_are_compared_at_one_detection(explain, explainer, photo):
    first, *others = explainer.detections(photo)
    other = next(found for found in others if found.class_index != first.class_index)
    for options, at, rival in (
        (("--versus", other.label), first, other.class_index),
        (("--box", *map(str, other.box), "--versus", first.label), other, first.class_index),
    ):
        out, _ = explain(*options)
        (record,) = records_in(out)
        assert (record["class_index"], record["versus"]["class_index"]) == (at.class_index, rival)
        anchors = [said["target"]["detections"][0]["anchor"] for said in (record, record["versus"])]
        assert anchors == [at.anchor] * 2  # also where a detection of the other class is near
        own = explainer.explain(photo, target=Box(box=at.box))
        tensors = {**own.target.tensors, "class_index": np.array(rival)}
        against = explainer.explain(photo, target=replace(own.target, class_index=rival, tensors=tensors))
        with np.load(record["maps"]) as maps:
            np.testing.assert_allclose(maps["grad_cam"], own.maps["grad_cam"] - against.maps["grad_cam"], atol=1e-6)
        for path in out.iterdir():
            path.unlink()
    _, refused = explain("--versus", first.label, ends=1)
    assert "cannot be compared with itself" in refused


def test_what_is_named_is_explained(explain, explainer, photo):
    first, *others = explainer.detections(photo)
    other = next(found for found in others if found.class_index != first.class_index)
    x1, y1, x2, y2 = other.box
    for options, expected in {
        ("--top", "1"): {first.anchor},
        ("-k", "1", "--class", other.label): {other.anchor},
        ("--conf", f"{first.score - 1e-6}"): {first.anchor},
        ("--box", *map(str, other.box), "--by", "box"): {other.anchor},
        ("--box", f"{x1},{y1},{x2},{y2}", "-c", other.label): {other.anchor},
        ("--top", "1", "--levels", "mean"): {first.anchor},
        ("--detections",): {found.anchor for found in (first, *others)},
    }.items():
        out, _ = explain(*options)
        records = [record for record in records_in(out) if record["picture"] == str(out / "crowd.png")]
        assert {d["anchor"] for record in records for d in record["target"]["detections"]} >= expected
        for path in out.iterdir():
            path.unlink()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--class", "persn"), "no class is called 'persn'; did you mean 'person'?"),
        (("--conf", "2"), "conf must be a number from 0 to 1"),
        (("--iou", "-1"), "iou must be a number from 0 to 1"),
        (("--top", "0"), "top must be a whole number, 1 to"),
        (("--levels", "all"), "levels is 'own' or 'mean', not 'all'"),
        (("--by", "edges"), "by is 'score' or 'box' or 'both'"),
        (("--box", "9", "9", "1", "1"), "x1 < x2 and y1 < y2"),
        (("--box", "1,2,3,4", "--point", "1,2"), "--box and --point are different ways"),
        (("--detections", "-k", "2"), "--detections and --top are different ways"),
        (("--keypoint", "nose"), "gives no keypoints"),
        (("--keypoint", "1", "--detections"), "leave out --detections"),
        (("--versus", "dog", "--top", "2"), "--versus and --top are different ways"),
        (("--versus", "dog", "--detections", "--by", "box"), "at one detection: leave out --detections and --by"),
        (("--versus", "dog", "-c", "person", "-c", "light"), "give one with --class"),
        (("--above", "0.5"), "say --conf"),
        (("--box", "1,2,3,4", "--top", "2"), "--box and --top are different ways"),
        (("--like", "a.png"), "--like is for other models, and this is a model that detects: use --class, --box"),
        (("--region", "m.png", "--peak"), "--region and --peak are for other models"),
    ],
)
def test_what_makes_no_sense_is_one_line(explain, only_line, options, words):
    out, complaints = explain(*options, ends=2)
    assert words in only_line(complaints)
    assert not out.exists()


def test_options_of_detectors_are_refused_for_a_classifier(run, target_bundle, photo, only_line):
    options = ("--box", "1", "2", "3", "4", "--conf", "0.1")
    status, _, complaints = run("explain", target_bundle("segment").bundle, photo, *options)
    assert status == 2
    assert "--box and --conf are for detectors, and this is a model that segments" in only_line(complaints)


def test_nothing_detected_says_what_was_best(explain, explainer, photo):
    out, complaints = explain("--conf", "1", ends=1)
    best = explainer.detections(photo)[0]
    assert f"no detection has a score of 1 or more: the best is {best.label}" in complaints
    assert not out.exists()
    with pytest.raises(NothingDetectedError):
        explainer.explain(photo, target=Box(conf=1))


def test_a_panel_of_hundreds_draws_the_best(explainer, photo, monkeypatch):
    drawn = []
    monkeypatch.setattr(detection_pictures, "draw_panel", lambda _, rows, *more: drawn.append((rows[0], more[-1])))
    every = explainer.explain(photo, target=Detections(conf=0, iou=1, by="box"))
    every.panel()
    detections_panel([every, explainer.explain(photo)])
    (row, subject), (_, of_both) = drawn
    assert [mark.tag for mark in row.marks] == [mark.tag for mark in every.marks[:20]]
    assert row.detail == f"20 boxes drawn, and {len(every.marks) - 20} more"
    assert (subject, of_both) == ("the edges of the box", "the target")


def test_explanations_of_detections(explainer, photo):
    found = explainer.detections(photo)
    explained = explainer.explain_batch([photo, photo], top=2)
    assert [e.detection.anchor for e in explained] == [d.anchor for d in found[:2]] * 2
    one = explained[0]
    assert (one.detection.label, one.label) == (found[0].label,) * 2
    np.testing.assert_allclose(one.box, found[0].box, rtol=1e-6)
    panel, whole = one.panel(), detections_panel(explained[:2])
    assert panel.shape[1] == whole.shape[1]
    assert panel.shape[0] < whole.shape[0]
    edges = explainer.explain(photo, target=Box(box=one.box, by="box"))
    assert edges.title.startswith(f"{one.label}, edges at")
    where = ", ".join(str(round(edge)) for edge in one.box)
    assert edges.headline == f"{one.label} {one.detection.score:.2f} edges at {where}"
    plain = explainer.explain(photo, target=Box(box=one.box)).overlay("grad_cam", photo)
    x1, y1 = (round(edge) for edge in one.box[:2])
    line = plain[max(y1 - 4, 0) : y1 + 5, max(x1 - 4, 0) : x1 + 5].reshape(-1, 3)
    assert (line == one.marks[0].color).all(axis=1).any()
