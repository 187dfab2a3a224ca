"""Scores of a coarse graph, corrected by exact passes of the heaviest channels."""

import numpy as np
import pytest

from fusioncam.kernels.reference import softmax
from fusioncam.kernels.rescoring import MOST, corrected, heaviest


@pytest.mark.parametrize(("channels", "count"), [(0, 0), (1, 1), (2, 1), (9, 5), (31, 16), (32, 16), (512, 16)])
def test_at_most_half_of_the_channels_are_passed_again(channels, count):
    scores = np.random.default_rng(channels).standard_normal(channels)
    again = heaviest(scores)
    assert len(again) == count <= MOST
    assert scores[again].tolist() == sorted(scores, reverse=True)[:count]


def test_the_others_move_by_the_mean_error_by_weight():
    scores, again = np.array([1.0, 5.0, 3.0, 0.0]), np.array([1, 2])
    weights = softmax(np.array([5.0, 3.0]))
    move = weights @ [0.5, -1.0]
    np.testing.assert_allclose(corrected(scores, again, np.array([5.5, 2.0])), [1 + move, 5.5, 2.0, move])
    assert scores.tolist() == [1, 5, 3, 0]
    assert corrected(scores[:0], again[:0], scores[:0]).shape == (0,)


def test_a_bias_of_all_scores_is_undone():
    exact = np.random.default_rng(0).standard_normal(40) * 3
    again = heaviest(exact + 0.7)
    np.testing.assert_allclose(corrected(exact + 0.7, again, exact[again]), exact)
