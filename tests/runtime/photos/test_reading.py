"""The same picture for every way a file can hold it: colours, grey as Pillow makes it, bands as they are."""

import io

import cv2
import numpy as np
import pytest

from fusioncam.errors import ImageError
from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.photos.given import open_given
from fusioncam.runtime.photos.model_input import preprocess, unpreprocess
from fusioncam.runtime.photos.reading import picture_of, read_picture

rng = np.random.default_rng(0)
COLOURS = rng.integers(0, 256, (37, 51, 3)).astype(np.uint8)
GREY = Preprocessing(size=(8, 8), mean=(0.5,), std=(0.25,), rescale=1 / 255)
RGB = Preprocessing(size=(8, 8))
ONE_BAND, THREE_BANDS = (Preprocessing(size=(8, 8), mean=(0.0,) * n, channel_order="bands") for n in (1, 3))


def png(array):
    return cv2.imencode(".png", array if array.ndim == 2 else array[..., ::-1])[1].tobytes()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_grey_is_the_luma_of_pillow():
    image = pytest.importorskip("PIL.Image").fromarray(COLOURS)
    expected = np.asarray(image.convert("L"))
    for given in (png(COLOURS), npy(COLOURS), COLOURS, image, COLOURS / 255):
        found = open_given(given, GREY).values
        assert (found.shape, found.dtype) == ((37, 51, 1), np.uint8)
        np.testing.assert_array_equal(found[..., 0], expected)


def test_grey_stays_grey():
    plane = COLOURS[..., 0]
    for given in (png(plane), npy(plane), npy(plane[..., None]), plane, plane.astype(np.uint16) * 257):
        np.testing.assert_array_equal(open_given(given, GREY).values[..., 0], plane)


def test_colours_of_an_array_in_a_file_are_those_of_one_in_memory(tmp_path):
    for array in (COLOURS, COLOURS.astype(np.uint16) * 257, COLOURS.astype(np.float32) / 255):
        np.save(tmp_path / "a.npy", array)
        np.savez(tmp_path / "a.npz", array)
        for name in ("a.npy", "a.npz"):
            np.testing.assert_array_equal(read_picture(tmp_path / name, RGB), COLOURS)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_bands_of_a_photo_keep_its_depth(kind):
    deep = (COLOURS.astype(kind) * (1 if kind == np.uint8 else 200)).astype(kind)
    np.testing.assert_array_equal(picture_of(png(deep), "it", THREE_BANDS), deep.astype(np.float32))
    np.testing.assert_array_equal(picture_of(png(deep[..., 0]), "it", ONE_BAND)[..., 0], deep[..., 0])


BAD = [
    (png(COLOURS), ONE_BAND, "it has 3 bands: the model takes one band"),
    (png(COLOURS[..., 0]), THREE_BANDS, "it has 1 band: the model takes 3 bands"),
    (npy(np.zeros((5, 6, 13))), RGB, "it holds a float64 array of shape (5, 6, 13): pass a path, an (H, W, 3) uint8"),
    (npy(np.zeros((5, 6, 13))), GREY, "or (H, W, 3) RGB uint8 array of at most 100,000,000 pixels, or a preprocessed"),
    (npy(np.full((5, 6, 3), 300.0)), RGB, "reaches from 300 to 300, but a photo of floats lies in 0..1"),
    (npy(np.zeros((3, 5, 6), np.uint8)), RGB, "come first: pass (H, W, channels)"),
    (b"PK\3\4 and so on", RGB, "it is an archive, which is not supported"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "preprocessing", "words"), BAD)
def test_what_the_model_does_not_take_is_refused(data, preprocessing, words):
    with pytest.raises(ImageError) as error:
        picture_of(data, "it", preprocessing)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_the_limit_of_pixels_holds_for_arrays():
    with pytest.raises(ImageError, match="holds 5,661 numbers, the limit is 5,658"):
        picture_of(npy(COLOURS), "it", RGB, 37 * 51 - 1)


def test_the_input_leads_back_to_the_picture():
    grey = picture_of(png(COLOURS), "it", GREY.model_copy(update={"size": (37, 51)}))
    shown = unpreprocess(preprocess(grey, GREY.model_copy(update={"size": (37, 51)})), GREY)
    np.testing.assert_array_equal(shown, np.repeat(grey, 3, axis=2))
