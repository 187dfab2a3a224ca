"""The letterbox: pixels as the libraries of detectors make them, and the way back without the padding."""

import cv2
import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.axes import axes
from fusioncam.runtime.photos.geometry import (
    boxes_on_input,
    boxes_on_photo,
    display_image,
    on_photo,
    on_shown,
    shown_part,
    visible_slices,
)
from fusioncam.runtime.photos.model_input import as_input, preprocess, unpreprocess
from fusioncam.runtime.prepared import prepare

YOLO = Preprocessing(size=(64, 64), resize="letterbox", rescale=1 / 255)
SIZES = [(64, 64), (48, 63), (63, 48), (128, 128), (91, 33), (200, 317), (7, 5), (1, 1), (1, 900), (900, 2)]
INPUTS = [(64, 64), (48, 80), (33, 57)]
CROPS = [
    {"resize": "squash"},
    {"resize": "crop", "crop_fraction": 0.875},
    {"resize": "squash_crop", "crop_fraction": 0.75},
    {"resize": "crop_first", "crop_fraction": 0.9},
    {"resize": "letterbox"},
    {"resize": "letterbox", "pad_place": "corner", "pad_rounding": "down"},
]


def noise(size, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, channels), np.uint8)


def letterboxed(photo, size, side, centre):
    """Lay a photo into a frame of 114 by OpenCV, with the rounding of sides that a library has."""
    ratio = min(size[0] / photo.shape[0], size[1] / photo.shape[1])
    height, width = (max(side(n * ratio), 1) for n in photo.shape[:2])
    inside = cv2.resize(photo, (width, height), interpolation=cv2.INTER_LINEAR)
    down, right = size[0] - height, size[1] - width
    top, left = (round(down / 2 - 0.1), round(right / 2 - 0.1)) if centre else (0, 0)
    return cv2.copyMakeBorder(inside, top, down - top, left, right - left, cv2.BORDER_CONSTANT, value=(114, 114, 114))


LIBRARIES = {
    "ultralytics": ({}, round, True),
    "ultralytics-corner": ({"pad_place": "corner"}, round, False),
    "mmdetection": ({"pad_place": "corner", "pad_rounding": "up"}, lambda n: int(n + 0.5), False),
    "yolox": ({"pad_place": "corner", "pad_rounding": "down"}, int, False),
}


@pytest.mark.parametrize("size", INPUTS)
@pytest.mark.parametrize("library", LIBRARIES)
def test_pixels_are_those_of_the_library(library, size):
    fields, side, centre = LIBRARIES[library]
    preprocessing = YOLO.model_copy(update={"size": size, **fields})
    for photo_size in SIZES:
        photo = noise(photo_size)
        np.testing.assert_array_equal(display_image(photo, preprocessing), letterboxed(photo, size, side, centre))


def test_halves_are_rounded_as_each_library_rounds_them():
    sides = {r: axes((65, 128), YOLO.model_copy(update={"pad_rounding": r}))[0].resized for r in ("even", "up", "down")}
    assert sides == {"even": 32, "up": 33, "down": 32}  # 32.5


def test_an_odd_pixel_lies_below():
    rows, columns = axes((40, 63), YOLO.model_copy(update={"size": (63, 63)}))
    assert (rows.filled, columns.filled) == (slice(11, 51), slice(0, 63))


def test_squash_by_opencv():
    photo, preprocessing = noise((91, 33)), Preprocessing(size=(40, 56), interpolation="cv2-linear")
    np.testing.assert_array_equal(
        display_image(photo, preprocessing), cv2.resize(photo, (56, 40), interpolation=cv2.INTER_LINEAR)
    )


def test_antialiased_filters_go_into_a_letterbox_too():
    photo = noise((100, 50))
    found = display_image(photo, YOLO.model_copy(update={"interpolation": "bicubic"}))
    inside = display_image(photo, Preprocessing(size=(64, 32), interpolation="bicubic"))
    np.testing.assert_array_equal(found[:, 16:48], inside)
    assert (found[:, :16] == 114).all()


class TestChannels:
    def test_the_pad_follows_the_order_of_the_model(self):
        preprocessing = YOLO.model_copy(update={"channel_order": "bgr", "pad": (1.0, 2.0, 3.0), "rescale": 1.0})
        x = preprocess(noise((64, 10)), preprocessing)
        assert x[:, 0, 0].tolist() == [1, 2, 3]
        assert unpreprocess(x, preprocessing)[0, 0].tolist() == [3, 2, 1]

    def test_a_pad_between_two_pixels_is_exact_in_the_input(self):
        mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        pad = tuple(255 * m for m in mean)  # what DETR pads with, after its arithmetic: zeros
        detr = YOLO.model_copy(update={"mean": mean, "std": std, "pad": pad, "pad_place": "corner"})
        photo = noise((64, 10))
        for x in (preprocess(photo, detr), prepare(photo, detr).x):
            assert np.abs(x[:, :, 10:]).max() < 1e-6
            np.testing.assert_array_equal(unpreprocess(x, detr)[:, :10], photo)

    def test_grey(self):
        photo = noise((91, 33), 1)
        found = display_image(photo, Preprocessing(size=(64, 64), resize="letterbox", mean=(0.5,), pad=0))
        assert found.shape == (64, 64, 1)
        expected = display_image(np.repeat(photo, 3, axis=2), YOLO.model_copy(update={"pad": (0.0,) * 3}))
        np.testing.assert_array_equal(found, expected[..., :1])

    def test_bands_stay_as_they_are(self):
        bands = np.random.default_rng(0).normal(900, 300, (5, 91, 33)).astype(np.float32)
        preprocessing = Preprocessing(size=(64, 64), resize="letterbox", mean=(0.0,) * 5, pad=-1.5)
        x = as_input(bands, preprocessing)[1]
        rows, columns = axes((91, 33), preprocessing)
        for band, values in zip(bands, x, strict=True):
            inside = cv2.resize(band, (int(columns.resized), int(rows.resized)), interpolation=cv2.INTER_LINEAR)
            np.testing.assert_array_equal(values[rows.filled, columns.filled], inside)
        assert set(np.unique(x[:, :, : columns.filled.start])) == {np.float32(-1.5)}

    @pytest.mark.parametrize("kind", [np.uint16, np.float32])
    def test_deep_photos_are_those_of_8_bits(self, kind):
        photo = noise((30, 50))
        deep = photo.astype(np.uint16) * 257 if kind == np.uint16 else photo / np.float32(255)
        np.testing.assert_array_equal(as_input(deep, YOLO)[1], preprocess(photo, YOLO))

    def test_a_prepared_array_of_another_shape_is_refused(self):
        with pytest.raises(ImageError, match="3, 64, 64"):
            as_input(np.zeros((3, 64, 48), np.float32), YOLO)


class TestMaps:
    @pytest.mark.parametrize("photo_size", SIZES)
    def test_they_never_show_the_padding(self, photo_size):
        rows, columns = axes(photo_size, YOLO)
        saliency = np.ones(YOLO.size, np.float32)
        saliency[rows.filled, columns.filled] = 0
        assert visible_slices(photo_size, YOLO) == (slice(0, photo_size[0]), slice(0, photo_size[1]))
        assert on_photo(saliency, photo_size, YOLO).max() == 0

    @pytest.mark.parametrize("photo_size", [(200, 317), (30, 19)])
    def test_they_are_the_linear_resize_of_what_the_photo_covers(self, photo_size):
        saliency = np.random.default_rng(1).random(YOLO.size, np.float32)
        inside = on_shown(saliency, photo_size, YOLO)
        expected = cv2.resize(inside, photo_size[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(on_photo(saliency, photo_size, YOLO), expected, atol=2e-6)

    def test_a_panel_shows_the_photo_and_the_part_of_the_map_on_it(self):
        photo = noise((30, 90))
        np.testing.assert_array_equal(shown_part(photo, YOLO), photo)
        assert on_shown(np.zeros(YOLO.size, np.float32), (30, 90), YOLO).shape == (21, 64)
        assert on_shown(np.zeros(YOLO.size, np.float32), None, YOLO).shape == YOLO.size

    def test_a_panel_shows_a_sliver_squashed(self):
        photo = np.full((2, 900, 3), 7, np.uint8)
        assert (shown_part(photo, YOLO) == 7).all()
        assert shown_part(photo, YOLO).shape == (64, 64, 3)


class TestBoxes:
    @pytest.mark.parametrize("fields", CROPS)
    @pytest.mark.parametrize("photo_size", [(200, 317), (48, 63), (7, 5), (900, 2)])
    def test_there_and_back(self, fields, photo_size):
        preprocessing = Preprocessing(size=(48, 80), **fields)
        boxes = np.random.default_rng(0).random((9, 4)) * np.tile(photo_size[::-1], 2)
        there = boxes_on_input(boxes, photo_size, preprocessing)
        assert (there.shape, there.dtype) == ((9, 4), np.float64)
        np.testing.assert_allclose(boxes_on_photo(there, photo_size, preprocessing), boxes, atol=1e-9)

    @pytest.mark.parametrize("fields", CROPS)
    def test_the_edges_of_a_box_lie_where_its_pixels_land(self, fields):
        preprocessing = Preprocessing(size=(48, 80), interpolation="bilinear", mean=(0.0,), **fields)
        photo = np.zeros((96, 150, 1), np.uint8)
        photo[30:66, 50:100] = 255
        seen = display_image(photo, preprocessing)[..., 0]
        seen[seen == 114] = 0
        ((x1, y1, x2, y2),) = boxes_on_input([[50, 30, 100, 66]], (96, 150), preprocessing)
        rows, columns = seen.max(axis=1) > 127, seen.max(axis=0) > 127
        for (low, high), inside in (((y1, y2), rows), ((x1, x2), columns)):
            assert abs(low - inside.argmax()) <= 1
            assert abs(high - (len(inside) - inside[::-1].argmax())) <= 1

    def test_the_numbers_of_scale_boxes(self):
        # 100 x 150 becomes 43 (42.67) x 64 in the middle of 64 x 64: 10 rows above.
        boxes = boxes_on_photo([[16, 20.75, 32, 31.5], [-9, -9, 99, 99]], (100, 150), YOLO)
        np.testing.assert_allclose(boxes, [[37.5, 10.75 / 0.43, 75, 50], [0, 0, 150, 100]])

    def test_none(self):
        assert boxes_on_photo(np.zeros((0, 4)), (100, 150), YOLO).shape == (0, 4)


class TestFields:
    def test_the_usual_ones(self):
        assert (YOLO.interpolation, YOLO.pad, YOLO.pad_place, YOLO.pad_rounding) == (
            "cv2-linear", (114.0,) * 3, "centre", "even",
        )  # fmt: skip
        assert "letterbox, centre, padded with 114" in YOLO.words
        assert Preprocessing.model_validate(YOLO.model_dump()) == YOLO

    def test_other_ways_say_nothing_of_padding(self):
        assert not {"pad", "pad_place", "pad_rounding"} & Preprocessing(size=(8, 8)).model_dump().keys()

    @pytest.mark.parametrize(
        ("fields", "complaint"),
        [
            ({"pad": 0}, "pad is for resize letterbox, not for squash"),
            ({"resize": "crop", "pad_place": "corner"}, "pad_place is for resize letterbox, not for crop"),
            ({"resize": "letterbox", "pad": (1.0, 2.0)}, "pad has 2 numbers, and mean 3"),
            ({"resize": "letterbox", "pad": 256}, "0 to 255, not 256"),
            ({"resize": "letterbox", "size": (8, 8, 8), "mean": (0.0,)}, "letterbox is not for volumes"),
            ({"resize": "crop", "interpolation": "cv2-linear"}, "by squash and letterbox, not for resize crop"),
            ({"size": (8, 8, 8), "mean": (0.0,), "interpolation": "cv2-linear"}, "not for volumes"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, fields, complaint):
        with pytest.raises(ValueError, match=complaint):
            Preprocessing(**{"size": (8, 8), **fields})
