"""How near a map is to another."""

import numpy as np
import pytest

from fusioncam.runtime.bench.fidelity import difference


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
