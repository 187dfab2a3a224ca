"""The input of a session, chunk by chunk, in buffers that are used again for every chunk."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fusioncam.kernels.arrays import Float32Array, Size
from fusioncam.kernels.masks import Deferred, blocks_of
from fusioncam.runtime.sessions.masked_graph import MASKS, PICTURE

Rows = Float32Array | Deferred


class Chunk(Protocol):
    """The input of one run after another; for one thread."""

    def rows(self, count: int) -> Rows:
        """Return room for `count` pictures; the content of earlier rows is lost."""

    def feeds(self, rows: Rows, used: int) -> dict[str, Float32Array]:
        """Return the feeds of the session, once the first `used` of `rows` are written; the others do not matter."""


class PictureChunk:
    """The input of a graph that takes pictures.

    Args:
        shape: (C, H, W).
        dtype: Type of its input `image`.
    """

    def __init__(self, shape: Size, dtype: npt.DTypeLike) -> None:
        self._buffer = np.zeros((0, *shape), dtype)

    def rows(self, count: int) -> Rows:
        """Return an array (count, C, H, W)."""
        if count > len(self._buffer):
            self._buffer = np.zeros((count, *self._buffer.shape[1:]), self._buffer.dtype)
        return self._buffer[:count]

    def feeds(self, rows: Rows, used: int) -> dict[str, Float32Array]:
        """Return the array of pictures."""
        assert isinstance(rows, np.ndarray)
        return {"image": rows}


class MaskChunk:
    """The input of a graph that masks the pictures itself, see `masked_graph`.

    Args:
        grids: (h, w) of the masks of each level.
    """

    def __init__(self, grids: Sequence[Size]) -> None:
        self._blocks, whole = blocks_of(grids)
        self._masks = np.zeros((0, 1, *whole), np.float32)

    def rows(self, count: int) -> Deferred:
        """Return room for `count` masks and for as many pictures, of which only references are held."""
        if count > len(self._masks):
            self._masks = np.zeros((count, *self._masks.shape[1:]), np.float32)
        return Deferred(np.empty(count, object), self._masks[:count], self._blocks)

    def feeds(self, rows: Rows, used: int) -> dict[str, Float32Array]:
        """Return the masks, and the picture, which is the same one in most chunks."""
        assert isinstance(rows, Deferred)
        first, *others = rows.pictures[:used]
        rows.pictures[used:] = [first] * (len(rows) - used)
        one = all(p is first for p in others)
        return {PICTURE: first[None] if one else np.stack(list(rows.pictures)), MASKS: rows.masks}
