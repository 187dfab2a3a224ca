"""Maps back on the photo: every pixel gets what the model's input held where the pixel landed."""

import cv2
import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos import geometry
from fusioncam.runtime.photos.axes import axes
from fusioncam.runtime.photos.geometry import display_image, on_photo, visible_part, visible_slices

SQUASH = Preprocessing(size=(24, 40))
CROPS = [
    Preprocessing(size=(24, 24), resize="crop", crop_fraction=0.875),
    Preprocessing(size=(24, 40), resize="crop"),
    Preprocessing(size=(33, 20), resize="crop", crop_fraction=0.5),
]
SIZES = [(60, 100), (100, 60), (24, 40), (7, 9), (131, 257)]
ODD = [(1, 1), (2, 3), (1, 50), (50, 1), (3, 2000), (2000, 3)]


def noise(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(5).random(size, np.float32)


def ramps(size: tuple[int, int]) -> list[np.ndarray]:
    """Two maps: the row of every pixel, and the column."""
    return [np.ascontiguousarray(ramp, np.float32) for ramp in np.indices(size)]


def landed(whole: int, resized: int, start: int) -> np.ndarray:
    """Where the centres of an axis' pixels land in the model's input, in its pixels."""
    return (np.arange(whole) + 0.5) * resized / whole - 0.5 - start


class TestOnPhoto:
    @pytest.mark.parametrize("photo_size", SIZES + ODD)
    @pytest.mark.parametrize("preprocessing", [SQUASH, *CROPS])
    def test_a_map_of_coordinates_comes_back_as_the_coordinates(self, photo_size, preprocessing):
        seen = visible_slices(photo_size, preprocessing)
        for ramp, axis, part, transposed in zip(
            ramps(preprocessing.size), axes(photo_size, preprocessing), seen, (False, True), strict=True
        ):
            expected = landed(axis.whole, axis.resized, axis.start).clip(0, axis.size - 1)[part]
            result = on_photo(ramp, photo_size, preprocessing)
            assert (result.shape, result.dtype) == (photo_size, np.float32)
            result = result[seen].T if transposed else result[seen]
            np.testing.assert_allclose(result, np.broadcast_to(expected[:, None], result.shape), atol=1e-5)

    def test_the_resize_and_cut_of_torchvision(self):
        # Resize(256) and CenterCrop(224) of 375 x 500: 256 x 341, of which rows 16.. and columns 58.. are kept.
        preprocessing = Preprocessing(size=(224, 224), resize="crop", crop_fraction=0.875)
        assert visible_slices((375, 500), preprocessing) == (slice(23, 352), slice(85, 413))
        row, column = (on_photo(ramp, (375, 500), preprocessing) for ramp in ramps((224, 224)))
        assert row[100, 100] == pytest.approx(100.5 * 256 / 375 - 0.5 - 16, abs=1e-5)
        assert column[100, 100] == pytest.approx(100.5 * 341 / 500 - 0.5 - 58, abs=1e-5)

    @pytest.mark.parametrize("photo_size", [*SIZES, (1, 1), (1, 50)])
    def test_squash_is_the_linear_resize_of_opencv(self, photo_size):
        saliency = noise(SQUASH.size)
        expected = cv2.resize(saliency, photo_size[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(on_photo(saliency, photo_size, SQUASH), expected, atol=2e-6)

    def test_a_photo_of_the_models_size_gets_the_map_itself(self):
        saliency = noise((24, 40))
        np.testing.assert_array_equal(on_photo(saliency, (24, 40), SQUASH), saliency)

    @pytest.mark.parametrize("photo_size", SIZES + ODD)
    @pytest.mark.parametrize("preprocessing", CROPS)
    def test_zero_outside_of_the_crop_and_nowhere_else(self, photo_size, preprocessing):
        result = on_photo(np.ones(preprocessing.size, np.float32), photo_size, preprocessing)
        outside = np.ones(photo_size, bool)
        outside[visible_slices(photo_size, preprocessing)] = False
        np.testing.assert_array_equal(result, np.where(outside, 0, 1))

    def test_a_spot_of_the_photo_comes_back_where_it_was(self):
        photo = np.zeros((300, 420, 3), np.uint8)
        photo[140:160, 250:270] = 255
        seen = display_image(photo, CROPS[0])[..., 0].astype(np.float32) / 255
        y, x = np.unravel_index(on_photo(seen, (300, 420), CROPS[0]).argmax(), (300, 420))
        assert abs(y - 149.5) <= 13  # a pixel of the model is 11 of the photo
        assert abs(x - 259.5) <= 13

    @pytest.mark.parametrize("preprocessing", [SQUASH, CROPS[0]])
    def test_pieces_do_not_show(self, monkeypatch, preprocessing):
        saliency = noise(preprocessing.size)
        whole = on_photo(saliency, (131, 257), preprocessing)
        monkeypatch.setattr(geometry, "BAND", 700)
        monkeypatch.setattr(geometry, "ACROSS", 100)
        np.testing.assert_array_equal(on_photo(saliency, (131, 257), preprocessing), whole)

    def test_signed_maps_keep_their_sign(self):
        signed = noise(SQUASH.size) - 0.5
        np.testing.assert_array_equal(on_photo(-signed, (60, 100), SQUASH), -on_photo(signed, (60, 100), SQUASH))

    @pytest.mark.parametrize(("size", "photo_size"), [((40, 24), (60, 100)), ((24, 40, 1), (9, 9)), ((24, 40), (0, 5))])
    def test_what_does_not_fit_is_refused(self, size, photo_size):
        with pytest.raises(UsageError, match="must be of the model's input"):
            on_photo(np.zeros(size, np.float32), photo_size, SQUASH)


class TestVisibleSlices:
    def test_squash_sees_all(self):
        assert visible_slices((60, 100), SQUASH) == (slice(0, 60), slice(0, 100))

    @pytest.mark.parametrize("photo_size", SIZES)
    @pytest.mark.parametrize("preprocessing", CROPS)
    def test_the_pixels_whose_centres_were_kept(self, photo_size, preprocessing):
        for axis, part in zip(axes(photo_size, preprocessing), visible_slices(photo_size, preprocessing), strict=True):
            at = landed(axis.whole, axis.resized, axis.start)
            kept = np.flatnonzero((at >= -0.5) & (at < axis.size - 0.5))
            assert (part.start, part.stop) == (kept[0], kept[-1] + 1)

    @pytest.mark.parametrize("photo_size", ODD)
    @pytest.mark.parametrize("preprocessing", [SQUASH, *CROPS])
    def test_something_is_always_seen(self, photo_size, preprocessing):
        part = visible_part(np.zeros((*photo_size, 3), np.uint8), preprocessing)
        assert part.shape[0] >= 1
        assert part.shape[1] >= 1
