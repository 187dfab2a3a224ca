"""The order of a detector's queries, which a TopK chooses: rounding may turn two of them round."""

import numpy as np

from fusioncam.kernels.arrays import Array

MOST = 1000  # queries of a detector; more rows are the cells of a grid, which have their order from it


def in_order_of(rows: Array, reference: Array) -> Array:
    """Return queries (A, columns) in the order of another run: each is the nearest of those that are left.

    Rows that are near as they are, and more than `MOST`, keep their order.

    Args:
        rows: The queries.
        reference: Those of the other run.
    """
    if len(rows) > MOST or np.allclose(rows, reference, rtol=1e-4, atol=1e-4):
        return rows
    left, order = np.arange(len(rows)), []
    for row in reference:
        n = int(np.abs(rows[left] - row).max(axis=1).argmin())
        order.append(left[n])
        left = np.delete(left, n)
    return rows[order]
