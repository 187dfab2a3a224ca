"""How alike two maps are, held against the same written plainly."""

import numpy as np
import pytest

from fusioncam.runtime.evaluation.metrics.sanity import ranks, spearman


@pytest.fixture
def two():
    rng = np.random.default_rng(0)
    one = rng.random((20, 26)).astype(np.float32)
    return one, (0.5 * one + 0.5 * rng.random((20, 26))).astype(np.float32)


def test_ranks_are_shared_by_equals():
    np.testing.assert_array_equal(ranks(np.array([3.0, 1, 3, 7, 3, 0])), [3, 1, 3, 5, 3, 0])


def test_rank_correlation_as_written_plainly(two):
    one, other = (np.round(m, 1).ravel() for m in two)  # many are equal

    def rank(values):
        return np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])

    a, b = (rank(m) - rank(m).mean() for m in (one, other))
    assert spearman(one, other) == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
    assert spearman(two[0], two[0] ** 3) == pytest.approx(1), "only the order counts"
    assert spearman(two[0], 1 - two[0]) == pytest.approx(-1)


def test_extremes(two):
    assert spearman(two[0], two[0]) == pytest.approx(1)
    flat = np.zeros_like(two[0])
    assert spearman(flat, flat) == 1
    assert spearman(flat, two[0]) == 0
    broken = two[0].copy()
    broken[0, 0] = np.nan
    assert np.isnan(spearman(broken, two[0]))
