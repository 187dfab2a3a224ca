"""Queries of a detector in the order of another run."""

import numpy as np

from fusioncam.export.row_order import in_order_of


def test_queries_that_changed_places_are_found_again():
    there = np.random.default_rng(0).normal(size=(6, 5))
    turned = there[[0, 2, 1, 3, 4, 5]] + 1e-6
    np.testing.assert_allclose(in_order_of(turned, there), there, atol=1e-5)
    wrong = turned.copy()
    wrong[4] += 1
    assert np.abs(in_order_of(wrong, there) - there).max() > 0.5
