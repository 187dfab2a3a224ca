"""The meaning of a tensor's axes: channels, height, width, or a row of tokens that covers a grid.

It follows from the positions of the elements, see `follow.py`; nothing is guessed from numbers such as 14 x 14.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import onnx_ir as ir

from fusioncam.export.layers.positions import regular, sizes
from fusioncam.export.layers.trace import Trace
from fusioncam.kernels.arrays import Float32Array, Size
from fusioncam.manifest import PLACES

OFF = 0.75  # how far from the middle of its cell a position may be, in cells: windows may overlap, pools be uneven


@dataclass(frozen=True)
class Layout:
    """The meaning of one tensor's axes.

    Attributes:
        roles: One letter per axis: N, C, those of `PLACES`, or T for tokens in rows of the grid.
        grid: (h, w) of a picture, (l,) of a signal, (d, h, w) of a volume.
        offset: Tokens before those of the grid (the class token, registers).
    """

    roles: str
    grid: Size
    offset: int = 0

    @property
    def in_tokens(self) -> bool:
        """Return whether the places lie in a row of tokens."""
        return "T" in self.roles

    @property
    def usual_roles(self) -> str:
        """Return the roles in the order N, C and places, as `NCHW`, or `NCT`."""
        return "NCT" if self.in_tokens else "NC" + PLACES[len(self.grid)]


def layouts(trace: Trace) -> dict[ir.Value, Layout]:
    """Return the layout of every tensor that has one: a batch, channels, and places that cover the picture in order."""
    by_tensor = {}
    for value in trace.positions:
        layout = None if value in trace.pairs else _read(value, trace.along(value))
        if layout is not None:
            by_tensor[value] = layout
    return by_tensor


def _read(value: ir.Value, along: Sequence[Float32Array]) -> Layout | None:
    """Read the layout of a tensor by its positions along each axis of the picture."""
    assert value.shape is not None
    shape = sizes(value)
    batch = [i for i, d in enumerate(value.shape) if not isinstance(d, int)]
    varying = [i for i in range(len(shape)) if any(array.shape[i] > 1 for array in along)]
    if len(batch) != 1 or str(value.shape[batch[0]]) != "N" or not varying:
        return None
    found = _grid(along, shape, varying, batch[0]) if len(shape) == len(along) + 2 else None
    if found is None and len(shape) == 3 and len(varying) == 1:
        return _tokens(along, varying[0], batch[0])
    return found


def _roles(axes: dict[str, int]) -> str:
    return "".join(sorted(axes, key=lambda role: axes[role]))


def _grid(along: Sequence[Float32Array], shape: Size, varying: list[int], batch: int) -> Layout | None:
    """Find an axis of the tensor for each axis of the picture."""
    found = []
    for axes in _orders(shape, varying, batch, len(along)):
        (channels,) = {*range(len(shape))} - {*axes, batch}
        grid = tuple(shape[axis] for axis in axes)
        parts = [array.transpose([*axes, channels, batch])[..., 0, 0] for array in along]
        roles = {"N": batch, "C": channels, **dict(zip(PLACES[len(grid)], axes, strict=True))}
        found.append((_off(parts, grid), Layout(_roles(roles), grid)))
    off, layout = min(found, key=lambda pair: pair[0], default=(OFF, None))
    return layout if off <= OFF else None


def _orders(shape: Size, varying: list[int], batch: int, count: int) -> Iterator[tuple[int, ...]]:
    """Yield the axes of the tensor that may be height and width: those with positions, in any order.

    A picture of one row has positions along its columns alone: the other axis lies beside them, and has size 1.
    """
    if len(varying) == count:
        yield from permutations(varying)
        return
    for first in range(len(shape) - count + 1):
        axes = tuple(range(first, first + count))
        if batch not in axes and {*varying} <= {*axes} and all(shape[i] == 1 for i in axes if i not in varying):
            yield axes


def _tokens(along: Sequence[Float32Array], axis: int, batch: int) -> Layout | None:
    """Find tokens in rows of a grid; those without a position come before or after."""
    rows = [array.ravel() for array in along if not np.isnan(array).all()]
    there = np.flatnonzero(~np.isnan(sum(rows)))
    offset, count = int(there[0]), len(there)
    if there[-1] - offset + 1 != count:
        return None
    (channels,) = {0, 1, 2} - {axis, batch}
    parts = [array if array.size == 1 else array.ravel()[there] for array in along]
    best: tuple[float, Layout | None] = (OFF, None)
    for grid in _grids(count, len(along)):
        off = _off([part.reshape(grid) if part.size > 1 else part for part in parts], grid)
        if off <= best[0]:
            best = off, Layout(_roles({"N": batch, "T": axis, "C": channels}), grid, offset)
    return best[1]


def _grids(count: int, rank: int) -> Iterator[Size]:
    """Yield all grids of so many places."""
    if rank == 1:
        yield (count,)
        return
    for first in (n for n in range(1, count + 1) if count % n == 0):
        yield from ((first, *others) for others in _grids(count // first, rank - 1))


def _off(along: Sequence[Float32Array], grid: Size) -> float:
    """Return the largest distance of a position from the middle of its cell, in cells.

    Args:
        along: The positions of the places of a grid along each axis.
        grid: (h, w). Along an axis of a single place there may be no positions.
    """
    most = 0.0
    for axis, (array, count) in enumerate(zip(along, grid, strict=True)):
        if np.isnan(array).all() and count == 1:
            continue
        if np.isnan(array).any():
            return float("inf")
        centres = regular(count).real.reshape(-1, *[1] * (len(grid) - 1 - axis))
        most = max(most, float(np.abs(array - centres).max()) * count)
    return most
