"""The place of an object: in the photo, beyond its edges, and in the model's input."""

import cv2
import numpy as np
import pytest

from fusioncam.manifest import Preprocessing
from fusioncam.runtime.evaluation.annotations import in_model_input
from fusioncam.runtime.photos.geometry import display_image

SQUARE = [10, 20, 30, 20, 30, 60, 10, 60]
NASTY = {"id": 1, "image_id": 1, "category_id": 9}


@pytest.mark.parametrize(
    ("bounds", "line", "left"),
    [
        ([150, 50, 230, 90], "reaches beyond the photo: it was clipped", (150, 50, 200, 90)),
        ([-20, -1, 30, 10], "reaches beyond the photo: it was clipped", (0, 0, 30, 10)),
        ([200, 0, 210, 10], "lies outside the photo: it was left out", None),
        ([-9, 0, 0, 10], "lies outside the photo: it was left out", None),
        ([50, 50, 50, 60], "is empty: it was left out", None),
        ([60, 60, 50, 50], "is empty: it was left out", None),
        ([0, 0, 200.4, 100], None, (0, 0, 200, 100)),
    ],
)
def test_boxes_that_do_not_lie_in_the_photo(read, bounds, line, left, samples):
    found = read([{"file": "a.jpg", "boxes": [bounds, [1, 1, 2, 2]], "accept_classes": [1]}])
    assert found.problems_of("a.jpg", samples.SIZE) == ([f"object 1 of 2 {line}"] if line else [])
    wanted = samples.box(1, 1, 2, 2) | (samples.box(*left) if left else False)
    np.testing.assert_array_equal(found.region("a.jpg", samples.SIZE, 1), wanted)


def test_sizes_that_disagree(read, samples):
    found = read(samples.coco())
    assert found.problems_of("a.jpg", (50, 100)) == ["annotated at another size: its objects were scaled to the photo"]
    np.testing.assert_array_equal(found.region("a.jpg", (50, 100), 1), samples.box(5, 10, 15, 30, (50, 100)))
    (line,) = found.problems_of("a.jpg", (200, 100))
    assert line == "annotated as 200 x 100 but it is 100 x 200; a camera's rotation?: its objects were left out"
    assert not found.region("a.jpg", (200, 100), 1).any()


def test_a_size_that_no_memory_holds(read, samples):
    image = {"id": 1, "file_name": "a.jpg", "height": 500_000, "width": 1_000_000}
    things = [
        {**NASTY, "bbox": [50_000, 100_000, 100_000, 200_000]},
        {**NASTY, "segmentation": [[n * 5000 for n in SQUARE]]},
    ]
    for thing in things:
        found = read(samples.coco(images=[image], annotations=[thing]))
        assert found.problems_of("a.jpg", samples.SIZE) == [
            "annotated at another size: its objects were scaled to the photo"
        ]
        np.testing.assert_array_equal(found.region("a.jpg", samples.SIZE, 2), samples.box(10, 20, 30, 60))


def test_masks_of_another_size_are_named(read, samples):
    thing = {**NASTY, "segmentation": {"size": [5, 5], "counts": [25]}}
    found = read(samples.coco(annotations=[thing]))
    assert found.problems_of("a.jpg", samples.SIZE) == [
        "object 1 of 1 could not be used: the mask is 5 x 5, not 200 x 100"
    ]
    assert not found.region("a.jpg", samples.SIZE, 2).any()


def test_what_the_centre_crop_cuts_away(read, samples):
    crop = Preprocessing(size=(32, 32), resize="crop")
    found = read([{"file": "a.jpg", "boxes": [[0, 0, 40, 100], [90, 0, 110, 100]], "accept_classes": [1]}])
    assert found.problems_of("a.jpg", samples.SIZE, crop) == ["object 1 of 2 is cut away by the model's centre crop"]
    assert not in_model_input(samples.box(0, 0, 40, 100), crop).any()
    seen = in_model_input(found.region("a.jpg", samples.SIZE, 1), crop)
    np.testing.assert_array_equal(seen, samples.box(13, 0, 19, 32, (32, 32)))


@pytest.mark.parametrize("resize", ["squash", "crop"])
def test_a_region_lies_where_the_photo_shows_it(resize):

    prep = Preprocessing(size=(56, 48), resize=resize, crop_fraction=0.875)
    rng = np.random.default_rng(0)
    region = cv2.resize(rng.random((5, 9)), (333, 217)) > 0.5
    photo = np.repeat(region[..., None], 3, axis=2).astype(np.uint8) * 255
    np.testing.assert_array_equal(in_model_input(region, prep), display_image(photo, prep)[..., 0] >= 128)


def test_a_thin_object_does_not_vanish(samples):
    prep = Preprocessing(size=(32, 32))
    assert in_model_input(samples.box(510, 0, 512, 1000, (1000, 1000)), prep).sum(axis=1).tolist() == [1] * 32
    assert np.argwhere(in_model_input(samples.box(500, 999, 501, 1000, (1000, 1000)), prep)).tolist() == [[31, 16]]
    assert not in_model_input(np.zeros((9, 9), bool), prep).any()
