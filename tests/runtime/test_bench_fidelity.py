"""How near a map is to another, and what makes it none."""

import numpy as np
import pytest

from fusioncam.runtime.bench.fidelity import average_drop, difference, fault


def test_correlation_and_largest_difference():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 9, 11)).astype(np.float32)
    found = difference(one, other)
    assert found.correlation == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    assert found.largest == pytest.approx(np.abs(one - other).max())
    assert difference(one, one) == pytest.approx((1, 0))
    assert difference(one, 1 - one).correlation == pytest.approx(-1)


def test_a_flat_map_is_like_its_equal_only():
    flat, sloped = np.zeros((4, 5), np.float32), np.linspace(0, 1, 20, dtype=np.float32).reshape(4, 5)
    assert difference(flat, flat) == (1, 0)
    assert difference(flat, flat + 0.25) == (0, 0.25)
    assert difference(flat, sloped) == (0, 1)


def test_average_drop():
    assert average_drop([0.8, 0.5], [0.2, 0.5]) == pytest.approx((0.75 + 0) / 2)
    assert average_drop([0.5], [0.9]) == 0, "a gain is no drop"


@pytest.mark.parametrize(
    ("value", "words"),
    [(np.nan, "NaN"), (np.inf, "NaN or infinity"), (-0.1, "from -0.1"), (1.5, "to 1.5")],
)
def test_what_is_no_map(value, words):
    m = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    assert fault(m, (3, 4)) is None
    assert "(3, 4), not (4, 3)" in fault(m, (4, 3))
    m[1, 1] = value
    assert words in fault(m, (3, 4))
