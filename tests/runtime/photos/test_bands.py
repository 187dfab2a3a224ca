"""Bands of arrays: which axis and which bands are taken, and that their numbers stay as they are."""

import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.photos.bands import bands_of
from fusioncam.runtime.photos.model_input import as_input

rng = np.random.default_rng(0)


def taking(channels, **fields):
    return Preprocessing(size=(4, 6), mean=(0.0,) * channels, **{"channel_order": "bands", **fields})


THIRTEEN, ONE = taking(13), taking(1)
CHOSEN = taking(3, channel_order=(4, 3, 2))
KINDS = (np.uint8, np.int16, np.uint16, np.float16, np.float32, np.float64, ">u2", bool)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_stay_as_they_are_whatever_their_type(kind):
    array = (rng.random((8, 9, 13)) * 250).astype(kind)
    for given in (array, np.ascontiguousarray(array.transpose(2, 0, 1)), np.asfortranarray(array)):
        found = bands_of(given, THIRTEEN)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, array.astype(np.float32))


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 1), (1, 8, 9)])
def test_one_band(shape):
    array = rng.integers(0, 60000, shape).astype(np.uint16)
    np.testing.assert_array_equal(bands_of(array, ONE), array.reshape(8, 9, 1).astype(np.float32))


@pytest.mark.parametrize("bands", [4, 12])
def test_chosen_bands_come_in_the_order_of_the_model(bands):
    array = rng.random((20, 30, bands))
    expected = array[..., [3, 2, 1]].astype(np.float32)
    np.testing.assert_array_equal(bands_of(array, CHOSEN), expected)
    np.testing.assert_array_equal(bands_of(array.transpose(2, 0, 1), CHOSEN), expected)


BAD = [
    (np.zeros((8, 9, 12)), THIRTEEN, "shape (8, 9, 12): the model takes 13 bands, an array (H, W, 13) or (13, H, W)"),
    (np.zeros((8, 9)), THIRTEEN, "the array has 1 band: the model takes 13 bands"),
    (np.zeros((13, 9, 13)), THIRTEEN, "whose first axis can hold the bands as well as its last: cut or pad its rows"),
    (np.zeros((2, 8, 9, 13)), THIRTEEN, "the model takes 13 bands"),
    (np.zeros((8, 9, 3)), CHOSEN, "has 3 bands: the model takes bands 4, 3, 2 of an array (H, W, bands) or (bands, H"),
    (np.zeros((2, 8, 9)), ONE, "the model takes one band, an array (H, W), (H, W, 1) or (1, H, W)"),
    (np.zeros((8, 9, 13), complex), THIRTEEN, "cannot explain a complex128 array"),
    (np.zeros((8, 0, 13)), THIRTEEN, "the model takes 13 bands"),
    (np.full((8, 9, 13), np.nan), THIRTEEN, "the array holds NaN or infinity, which may stand for missing data: fill"),
    (np.full((8, 9, 13), 1e300), THIRTEEN, "holds NaN or infinity"),
]  # fmt: skip


@pytest.mark.parametrize(("array", "preprocessing", "words"), BAD)
def test_what_does_not_fit_is_refused_with_what_the_model_takes(array, preprocessing, words):
    with pytest.raises(ImageError) as error:
        bands_of(array, preprocessing)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_what_fits_the_input_exactly_is_preprocessed():
    given = rng.normal(size=(13, 4, 6)).astype(np.float32)
    photo, x = as_input(given, THIRTEEN)
    assert photo is None
    np.testing.assert_array_equal(x, given)


def test_arithmetic_is_that_of_each_band():
    mean, std = tuple(range(13)), tuple(range(1, 14))
    prep = Preprocessing(size=(4, 6), rescale=1e-4, mean=mean, std=std)
    array = rng.integers(0, 10000, (4, 6, 13)).astype(np.uint16)
    expected = (array.transpose(2, 0, 1) * 1e-4 - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    np.testing.assert_allclose(as_input(array, prep)[1], expected, atol=1e-6)
