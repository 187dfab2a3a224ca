import numpy as np
import pytest

from fusioncam.runtime.probes.likeness import correlation


def test_correlation_of_maps():
    rng = np.random.default_rng(0)
    one, other = rng.random((2, 6, 8), np.float32)
    assert correlation(one, 2 * one + 1) == pytest.approx(1)
    assert correlation(one, 1 - one) == pytest.approx(-1)
    assert correlation(one, other) == pytest.approx(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_a_flat_map_correlates_with_its_equal_only():
    flat = np.ones((3, 4), np.float32)
    assert correlation(flat, flat) == 1
    assert correlation(flat, 0 * flat) == 0
