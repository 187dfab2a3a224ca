"""Whatever an Explainer takes becomes the model's input, or is refused in one line."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.model_input import as_input, preprocess

PREPROCESSING = Preprocessing(size=(24, 40), rescale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth colourful picture."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def test_path_and_array_agree(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), scene(60, 70)[..., ::-1])
    expected = preprocess(scene(60, 70), PREPROCESSING)
    for image in (path, str(path), scene(60, 70), np.asfortranarray(scene(60, 70))):
        photo, x = as_input(image, PREPROCESSING)
        np.testing.assert_array_equal(photo, scene(60, 70))
        np.testing.assert_array_equal(x, expected)


@pytest.mark.parametrize("shape", [(3, 24, 40), (1, 3, 24, 40)])
def test_preprocessed_arrays_pass_through(shape):
    given = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    photo, x = as_input(given, PREPROCESSING)
    assert photo is None
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, given.reshape(3, 24, 40))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity(bad, assert_refused):
    x = np.zeros((3, 24, 40), np.float32)
    x[1, 2, 3] = bad
    assert_refused(lambda: as_input(x, PREPROCESSING), "NaN or infinity")


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((24, 40, 2), np.uint8),
        np.zeros((0, 40, 3), np.uint8),
        np.zeros((3, 40, 24), np.float32),
        np.zeros((2, 3, 24, 40), np.float32),
        np.zeros((3, 24, 40), np.float64),
        np.zeros((24, 40, 3), np.int64),
        np.zeros((24, 40), bool),
        np.zeros(7, np.float32),
        None,
        [[1, 2], [3, 4]],
    ],
)
def test_anything_else_is_told_what_is_accepted(image, assert_refused):
    assert_refused(lambda: as_input(image, PREPROCESSING), "cannot explain", "uint8 RGB", "(3, 24, 40)")


def test_a_missing_file(assert_refused):
    assert_refused(lambda: as_input(Path("none.png"), PREPROCESSING), "there is no picture 'none.png'")
