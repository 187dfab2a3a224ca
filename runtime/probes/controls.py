"""Controls: maps that know nothing of the model's evidence, to compare a map with."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Float32Array

SIDE = 4  # blocks per side
# The block that comes to each place, row by row: none stays, or moves to a direct neighbour's place, and no two stay
# side by side.
ORDER = (2, 6, 8, 10, 12, 14, 13, 0, 11, 15, 7, 9, 3, 1, 5, 4)
DEVIATION = 0.25  # of the centre prior, as a share of each side


def flipped(saliency: Float32Array) -> Float32Array:
    """Return a map (H, W) mirrored along every axis: off-centre evidence lands far from its place."""
    return np.flip(saliency)


def shuffled(saliency: Float32Array) -> Float32Array:
    """Return a map (H, W) whose 4 x 4 blocks change places; single pixels would make noise that breaks any picture.

    Rows and columns that fill no whole block stay. A signal (L,) has 16 blocks in a row; the slices of a volume
    (D, H, W) are shuffled alike.
    """
    if saliency.ndim == 1:
        return _in_a_row(saliency)
    if saliency.ndim == 3:
        return np.stack([shuffled(plane) for plane in saliency])
    height, width = (max(n // SIDE, 1) for n in saliency.shape)
    whole = saliency[: height * SIDE, : width * SIDE]
    if whole.shape != (height * SIDE, width * SIDE):  # a side of fewer than four pixels
        return flipped(saliency)
    blocks = whole.reshape(SIDE, height, SIDE, width).swapaxes(1, 2).reshape(-1, height, width)
    moved = saliency.copy()
    moved[: len(whole), : whole.shape[1]] = (
        blocks[list(ORDER)].reshape(SIDE, SIDE, height, width).swapaxes(1, 2).reshape(whole.shape)
    )
    return moved


def _in_a_row(saliency: Float32Array) -> Float32Array:
    length = len(saliency) // len(ORDER)
    if not length:
        return flipped(saliency)
    moved = saliency.copy()
    whole = moved[: length * len(ORDER)].reshape(-1, length)
    whole[:] = whole[list(ORDER)]
    return moved


def centred(saliency: Float32Array) -> Float32Array:
    """Return the centre prior (H, W): photos show things in the middle, so a Gaussian there is right by luck."""
    sides = [np.linspace(-0.5, 0.5, n) if n > 1 else np.zeros(1) for n in saliency.shape]
    squares = sum(side**2 for side in np.ix_(*sides))
    return np.exp(-squares / (2 * DEVIATION**2)).astype(np.float32)


class Control(NamedTuple):
    """A control: what to call it in a sentence, and the function that makes it of a map."""

    title: str
    make: Callable[[Float32Array], Float32Array]


CONTROLS = {
    "shuffled": Control("the map with its blocks shuffled", shuffled),
    "flipped": Control("the flipped map", flipped),
    "centre": Control("the centre prior", centred),
}
