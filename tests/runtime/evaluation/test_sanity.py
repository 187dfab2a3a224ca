"""How alike two maps are, held against the same written plainly."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from fusioncam.runtime.evaluation.sanity import ranks, similarity, spearman, ssim


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


def test_structural_similarity_as_written_plainly(two):
    a, b = (torch.from_numpy(m).double()[None, None] for m in two)
    line = torch.exp(-0.5 * (torch.arange(-5, 6).double() / 1.5) ** 2)
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def mean(m):
        return F.conv2d(F.pad(m, (5,) * 4, mode="reflect"), window)

    covariance = mean(a * b) - mean(a) * mean(b)
    variances = mean(a * a) - mean(a) ** 2 + mean(b * b) - mean(b) ** 2
    means = mean(a) ** 2 + mean(b) ** 2
    wanted = (2 * mean(a) * mean(b) + 1e-4) * (2 * covariance + 9e-4) / ((means + 1e-4) * (variances + 9e-4))
    assert ssim(*two) == pytest.approx(float(wanted.mean()), abs=1e-9)


def test_extremes(two):
    assert similarity(two[0], two[0]) == pytest.approx((1, 1))
    flat = np.zeros_like(two[0])
    assert similarity(flat, flat) == pytest.approx((1, 1))
    assert similarity(flat, two[0]).spearman == 0
    assert similarity(flat, two[0]).ssim < 0.1
    broken = two[0].copy()
    broken[0, 0] = np.nan
    assert np.isnan(similarity(broken, two[0])).all()
