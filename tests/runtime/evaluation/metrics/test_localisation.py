"""Pointing game and energy pointing game."""

import numpy as np
import pytest

from fusioncam.runtime.evaluation.metrics.localisation import energy, localisation, pointing, widened


@pytest.fixture
def mask():
    mask = np.zeros((20, 30), bool)
    mask[5:10, 10:20] = True
    return mask


def peak(row, column, height=1.0):
    m = np.full((20, 30), 0.1, np.float32)
    m[row, column] = height
    return m


@pytest.mark.parametrize(("at", "wanted"), [((5, 10), 1), ((9, 19), 1), ((4, 10), 0), ((9, 20), 0), ((19, 29), 0)])
def test_pointing(mask, at, wanted):
    assert pointing(peak(*at), mask) == wanted


def test_several_maxima_count_by_their_share(mask):
    m = peak(6, 12)
    m[0, 0] = m[19, 0] = m[8, 15] = 1
    assert pointing(m, mask) == 0.5
    assert pointing(np.ones((20, 30), np.float32), mask) == pytest.approx(mask.mean())


def test_near_misses_are_measured_to_the_nearest_pixel(mask):
    assert pointing(peak(2, 15), mask, tolerance=2.9) == 0
    assert pointing(peak(2, 15), mask, tolerance=3) == 1
    assert pointing(peak(1, 7), mask, tolerance=4.9) == 0, "four down, three to the right"
    assert pointing(peak(1, 7), mask, tolerance=5) == 1
    rows, columns = np.mgrid[:20, :30]
    nearest = np.hypot(*(np.maximum.reduce([a - n, n - b, n * 0]) for n, a, b in ((rows, 5, 9), (columns, 10, 19))))
    np.testing.assert_array_equal(widened(mask, 6.5), nearest <= 6.5)


def test_energy(mask):
    m = np.zeros((20, 30), np.float32)
    m[6, 12], m[0, 0] = 0.75, 0.25
    assert energy(m, mask) == 0.75
    assert energy(mask.astype(np.float32), mask) == 1
    assert energy(np.full((20, 30), 0.3, np.float32), mask) == pytest.approx(mask.mean())


def test_several_maps_at_once(mask):
    found = localisation({"on": peak(7, 15), "off": peak(0, 0)}, mask)
    assert found["on"].values == {"pointing": 1, "energy": pytest.approx((4.9 + 1) / (59.9 + 1))}
    assert found["off"].values["pointing"] == 0
    assert found["on"].flags == found["off"].flags == ()


def test_maps_and_masks_of_which_nothing_can_be_told(mask):
    broken = peak(7, 15)
    broken[0, 0] = np.nan
    found = localisation({"blank": np.zeros((20, 30), np.float32), "bad": broken}, mask)
    assert found["blank"].values == {"pointing": 0, "energy": 0}
    assert found["blank"].flags == ("blank_map",)
    assert found["bad"].values == {}
    assert found["bad"].flags == ("nan_map",)
    (nowhere,) = localisation({"m": peak(7, 15)}, mask & False, tolerance=3).values()
    assert nowhere.values == {}
    assert nowhere.flags == ("no_object",)
