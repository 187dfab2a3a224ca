"""The pictures that maps are drawn on, of any number of channels."""

import re

import numpy as np
import pytest

from fusioncam.preprocessing import Preprocessing
from fusioncam.runtime.photos.display import drawable

rng = np.random.default_rng(0)
VALUES = (rng.normal(size=(40, 50, 5)) * [1, 10, 100, 1000, 1] + 7).astype(np.float32)


def stretched(band):
    low, high = np.percentile(band.astype(np.float64), (2, 98))
    return np.rint(255 * np.clip((band - low) / (high - low), 0, 1))


def showing(bands, channels=5, order="bands"):
    return Preprocessing(size=(4, 4), mean=(0.0,) * channels, channel_order=order, shown_bands=bands)


@pytest.mark.parametrize(
    ("bands", "order", "channels"),
    [((3, 2, 1), "bands", (2, 1, 0)), ((4,), "bands", (3, 3, 3)), ((8, 2, 9), (9, 8, 1, 2, 7), (1, 3, 0))],
)
def test_chosen_bands_are_stretched_each_by_itself(bands, order, channels):
    found = drawable(VALUES, showing(bands, order=order)).astype(int)
    expected = np.stack([stretched(VALUES[..., c]) for c in channels], axis=2)
    assert np.abs(found - expected).max() <= 1


def test_without_a_choice():
    mean = np.repeat(stretched(VALUES.mean(axis=2))[..., None], 3, axis=2)
    assert np.abs(drawable(VALUES, showing(None)).astype(int) - mean).max() <= 1
    three = np.stack([stretched(VALUES[..., c]) for c in range(3)], axis=2)
    assert np.abs(drawable(VALUES[..., :3], showing(None, 3)).astype(int) - three).max() <= 1


def test_a_constant_band_is_grey():
    assert (drawable(np.full((4, 5, 1), 3e4, np.float32), showing(None, 1)) == 128).all()


def test_photos_are_shown_as_they_are():
    photo = rng.integers(0, 256, (4, 5, 3)).astype(np.uint8)
    assert drawable(photo, Preprocessing(size=(4, 4))) is photo
    grey = drawable(photo[..., :1], Preprocessing(size=(4, 4), mean=(0.0,)))
    np.testing.assert_array_equal(grey, np.repeat(photo[..., :1], 3, axis=2))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"shown_bands": (1, 2)}, "one or three of the model's bands, 1 to 5, not 1, 2"),
        ({"shown_bands": (1, 2, 6)}, "not 1, 2, 6"),
        ({"channel_order": (9, 8, 1, 2, 7), "shown_bands": (3, 2, 1)}, "bands, 9, 8, 1, 2, 7, not 3, 2, 1"),
        ({"channel_order": "rgb"}, "channel_order 'rgb' is of 3 channels, and the model takes 5"),
        ({"channel_order": (1, 2)}, "channel_order 1 2 is of 2 channels, and the model takes 5"),
        ({"std": (1.0,)}, "mean has 5 numbers, and std 1"),
    ],
)
def test_fields_that_do_not_go_together(fields, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Preprocessing(**{"size": (4, 4), "mean": (0.0,) * 5, **fields})


def test_photos_have_no_bands():
    with pytest.raises(ValueError, match=r"the model takes photos \(RGB\): leave them out"):
        Preprocessing(size=(4, 4), shown_bands=(1, 2, 3))
