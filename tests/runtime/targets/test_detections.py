"""Detections: which boxes of a normal form count, with which class and score, and where they are on the photo."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from fusioncam import Box, UsageError
from fusioncam.runtime.detection_pictures import mark_of
from fusioncam.runtime.targets.tasks import checked_target


def anchors_of(found):
    return [d.anchor for d in found]


def test_detections(drawn):
    found = drawn.sight_of(drawn.manifest_of()).anchors.found()
    assert anchors_of(found) == [0, 2, 3]
    assert [(d.class_index, d.label) for d in found] == [(0, "person"), (0, "person"), (1, "dog")]
    assert [d.score for d in found] == pytest.approx([0.9, 0.7, 0.6], abs=1e-6)
    assert found[0].box == found[0].box_on_input == drawn.BOXES[0]
    assert found[0].title == "person 0.90 at 10, 20, 60, 90"
    assert replace(found[0], label="7", score=0.0012).title == "class 7 0.0012 at 10, 20, 60, 90"


@pytest.mark.parametrize(
    ("detector", "arguments", "anchors"),
    [
        ({}, {"conf": 0.65}, [0, 2]),
        ({}, {"conf": 0.15}, [0, 2, 3, 4]),
        ({}, {"most": 1}, [0]),
        ({}, {"iou": 1.0}, [0, 1, 2, 3]),
        ({}, {"iou": 0.3}, [0, 2, 3]),
        ({"class_wise": False, "iou": 0.3}, {}, [0, 2]),
        ({"nms": False}, {}, [0, 1, 2, 3]),
        ({"nms": False, "conf": 0.75, "most": 1}, {}, [0]),
        ({}, {"conf": 1}, []),
    ],
)
def test_thresholds(detector, arguments, anchors, drawn):
    assert anchors_of(drawn.sight_of(drawn.manifest_of(**detector)).anchors.found(**arguments)) == anchors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"conf": 1.5}, "conf must be a number from 0 to 1, not 1.5"),
        ({"conf": "high"}, "conf must be a number from 0 to 1, not 'high'"),
        ({"conf": float("nan")}, "conf must be a number"),
        ({"iou": -0.1}, "iou must be a number from 0 to 1"),
        ({"iou": True}, "iou must be a number"),
        ({"most": 0}, "most must be a whole number, 1 to 18"),
    ],
)
def test_thresholds_that_make_no_sense(arguments, words, drawn):
    with pytest.raises(UsageError, match=words):
        drawn.sight_of(drawn.manifest_of()).anchors.found(**arguments)


def test_a_softmax_counts_the_background_and_never_detects_it(drawn):
    numbers = np.array([[2, 0, 1, 3], [0, 0, 0, 5], [4, 1, 0, 0]], np.float32)
    form = np.concatenate([[(0, 0, 9, 9), (20, 0, 29, 9), (40, 0, 49, 9)], numbers], axis=1).astype(np.float32)
    chances = np.exp(numbers) / np.exp(numbers).sum(axis=1, keepdims=True)
    last = drawn.manifest_of(3, 3, "softmax", background=3, conf=0.1)
    found = drawn.sight_of(last, form).anchors.found()
    assert [(d.anchor, d.class_index) for d in found] == [(2, 0), (0, 0)]
    assert [d.score for d in found] == pytest.approx(chances[[2, 0], 0].tolist(), abs=1e-6)
    first = drawn.manifest_of(3, 3, "softmax", background=0, conf=0.1)
    found = drawn.sight_of(first, form[:, [0, 1, 2, 3, 7, 4, 5]]).anchors.found()
    assert [(d.anchor, d.class_index) for d in found] == [(2, 1), (0, 1)]


def test_scores_of_an_ending_without_logits(drawn):
    form = np.concatenate([drawn.BOXES, drawn.CHANCES], axis=1).astype(np.float32)
    found = drawn.sight_of(drawn.manifest_of(ending="value"), form).anchors.found()
    assert [d.score for d in found] == pytest.approx([0.9, 0.7, 0.6])


def test_places_on_the_photo(drawn):
    """A photo of three times the width and twice the height of the input; boxes beyond it are clipped."""
    form = drawn.form_of()
    form[2, :4] = (100, -10, 230, 90)
    found = drawn.sight_of(drawn.manifest_of(), form, photo_size=(200, 600)).anchors.found()
    np.testing.assert_allclose(found[0].box, np.array(drawn.BOXES[0]) * [3, 2, 3, 2])
    np.testing.assert_allclose(found[1].box, (300, 0, 600, 180))
    assert found[1].box_on_input == (100, -10, 230, 90)
    cut = drawn.sight_of(drawn.manifest_of(resize="crop"), photo_size=(200, 600)).anchors.found()[0]
    np.testing.assert_allclose(cut.box, 2 * np.add(drawn.BOXES[0], (50, 0, 50, 0)))


def test_keypoints(drawn):
    extras = np.tile(np.array([20, 30, drawn.logit(0.8), 40, 50, drawn.logit(0.3)]), (6, 1))
    manifest = drawn.manifest_of(extra="keypoints", extras=6)
    found = drawn.sight_of(manifest, drawn.form_of([extras]), photo_size=(200, 600)).anchors.found()
    np.testing.assert_allclose(found[0].keypoints, [[60, 60, 0.8], [120, 100, 0.3]], rtol=1e-6)
    manifest = drawn.manifest_of(extra="keypoints", extras=4, keypoint=2)
    found = drawn.sight_of(manifest, drawn.form_of([extras[:, [0, 1, 3, 4]]]), photo_size=(200, 600)).anchors.found()
    np.testing.assert_allclose(found[0].keypoints, [[60, 60], [120, 100]])
    assert len(mark_of(found[0]).points) == 2
    with pytest.raises(UsageError, match="says where keypoints are, not whether they are visible: leave keypoint out"):
        checked_target(manifest, Box(keypoint=0))


@pytest.mark.parametrize("scale", [1, 2])
def test_instance_masks(scale, drawn):
    """Masks are those of Ultralytics' `process_mask`: logits above zero in the box; also on a photo twice as large."""
    rng = np.random.default_rng(0)
    prototypes, extras = (rng.normal(size=size).astype(np.float32) for size in ((4, 10, 20), (6, 4)))
    manifest = drawn.manifest_of(extra="masks", extras=4, mask_size=(10, 20))
    photo_size = None if scale == 1 else (200, 400)
    sight = drawn.sight_of(manifest, drawn.form_of([extras]), photo_size, prototypes=prototypes)
    found = sight.anchors.found()
    for detection in found:
        logits = torch.from_numpy(np.einsum("p,phw->hw", extras[detection.anchor], prototypes))[None, None]
        for mask, times in ((detection.mask_on_input, 1), (detection.mask, scale)):
            size = (100 * times, 200 * times)
            on_input = torch.nn.functional.interpolate(logits, (100, 200), mode="bilinear")
            enlarged = torch.nn.functional.interpolate(on_input, size, mode="bilinear")
            x1, y1, x2, y2 = (times * edge for edge in drawn.BOXES[detection.anchor])
            expected = np.zeros(size, bool)
            expected[y1:y2, x1:x2] = enlarged[0, 0, y1:y2, x1:x2].numpy() > 0
            np.testing.assert_array_equal(mask, expected)
        summary, again = detection.summary(), np.zeros(detection.mask.shape, np.uint8)
        for contour in summary["segmentation"]:
            cv2.fillPoly(again, [np.int32(np.reshape(contour, (-1, 2)) - 0.5)], 1)
        assert summary["area"] == detection.mask.sum() > 0
        assert again[detection.mask].all()  # holes are filled
        assert len(mark_of(detection).contours) == len(summary["segmentation"])
    np.testing.assert_array_equal(found[1].mask_coefficients, extras[2])
    assert drawn.sight_of(manifest, drawn.form_of([extras])).anchors.found()[0].mask is None


def test_rotated_boxes(drawn):
    """The second person is the first one again, turned a quarter: no duplicate, though its upright box is one."""
    turned = np.array([[35, 55, 40, 8, 0], [35, 55, 40, 8, np.pi / 2], *[[150, 50, 20, 10, 0.3]] * 4])
    manifest = drawn.manifest_of(extra="rotated", extras=5, iou=0.5)
    found = drawn.sight_of(manifest, drawn.form_of([turned]), photo_size=(200, 400)).anchors.found()
    assert anchors_of(found) == [0, 1, 2, 3]
    np.testing.assert_allclose(found[0].rotated, np.array([(15, 51), (55, 51), (55, 59), (15, 59)]) * 2)
    np.testing.assert_allclose(found[1].rotated, np.array([(39, 35), (39, 75), (31, 75), (31, 35)]) * 2, atol=1e-4)


def test_every_class_of_an_anchor(drawn):
    found = drawn.sight_of(drawn.manifest_of(multi_label=True, conf=0.09)).anchors.found()
    wanted = [(0, 0), (2, 0), (3, 1), (2, 1), (4, 2), (0, 1), (3, 0)]
    assert [(d.anchor, d.class_index) for d in found] == wanted
    np.testing.assert_allclose([d.score for d in found], [drawn.CHANCES[a][c] for a, c in wanted], rtol=1e-5)
