"""The meaning of a tensor's axes: channels, height, width, or a row of tokens that covers a grid.

It follows from the positions of the elements, see `follow.py`; nothing is guessed from numbers such as 14 x 14.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.layers.follow import Trace
from fusioncam.export.layers.positions import Positions, regular, sizes

OFF = 0.75  # how far from the middle of its cell a position may be, in cells: windows may overlap, pools be uneven


@dataclass(frozen=True)
class Layout:
    """The meaning of one tensor's axes.

    Attributes:
        roles: One letter per axis: N, C, H, W, or T for tokens in rows of the grid.
        grid: (h, w).
        offset: Tokens before those of the grid (the class token, registers).
    """

    roles: str
    grid: tuple[int, int]
    offset: int = 0


def layouts(trace: Trace) -> dict[ir.Value, Layout]:
    """Return the layout of every tensor that has one: a batch, channels, and places that cover the picture in order."""
    by_tensor = {}
    for value, array in trace.positions.items():
        layout = None if value in trace.pairs else _read(value, array)
        if layout is not None:
            by_tensor[value] = layout
    return by_tensor


def _read(value: ir.Value, array: Positions) -> Layout | None:
    assert value.shape is not None
    shape = sizes(value)
    batch = [i for i, d in enumerate(value.shape) if not isinstance(d, int)]
    varying = [i for i, d in enumerate(array.shape) if d > 1]
    if len(batch) != 1 or str(value.shape[batch[0]]) != "N" or array.ndim not in (3, 4) or not varying:
        return None
    others = [i for i in range(array.ndim) if i not in (*batch, *varying)]
    positions = np.squeeze(array, tuple(i for i in range(array.ndim) if i not in varying))
    if len(varying) == 2 and array.ndim == 4:
        return _grid(positions, varying, others[0], batch[0])
    if len(varying) == 1 and array.ndim == 4:
        return _row(positions, varying[0], [i for i in others if shape[i] == 1], batch[0])
    return _tokens(positions, varying[0], others[0], batch[0]) if len(varying) == 1 else None


def _roles(axes: dict[str, int]) -> str:
    return "".join(sorted(axes, key=lambda role: axes[role]))


def _grid(positions: Positions, varying: list[int], channels: int, batch: int) -> Layout | None:
    for (rows, columns), array in ((varying, positions), (varying[::-1], positions.T)):
        if _off(array) <= OFF:
            height, width = array.shape
            return Layout(_roles({"N": batch, "C": channels, "H": rows, "W": columns}), (height, width))
    return None


def _row(positions: Positions, axis: int, single: list[int], batch: int) -> Layout | None:
    """Find a picture of one row or one column: the other axis has size 1."""
    rows = np.ptp(np.nan_to_num(positions.real)) > 0
    other = axis + 1 if rows else axis - 1
    if other not in single:
        return None
    (channels,) = {0, 1, 2, 3} - {axis, other, batch}
    array = positions[:, None] if rows else positions[None, :]
    named = {"N": batch, "C": channels, "H": axis if rows else other, "W": other if rows else axis}
    height, width = array.shape
    return Layout(_roles(named), (height, width)) if _off(array) <= OFF else None


def _tokens(positions: Positions, axis: int, channels: int, batch: int) -> Layout | None:
    """Find tokens in rows of a grid; those without a position come before or after."""
    there = np.flatnonzero(~np.isnan(positions))
    offset, count = int(there[0]), len(there)
    if there[-1] - offset + 1 != count:
        return None
    best: tuple[float, Layout | None] = (OFF, None)
    for height in (h for h in range(1, count + 1) if count % h == 0):
        off = _off(positions[there].reshape(height, -1))
        if off <= best[0]:
            grid = height, count // height
            best = off, Layout(_roles({"N": batch, "T": axis, "C": channels}), grid, offset)
    return best[1]


def _off(array: Positions) -> float:
    """Return the largest distance of a position (h, w) from the middle of its cell, in cells."""
    height, width = array.shape
    if np.isnan(array).any():
        return float("inf")
    off = array - regular(height, width)
    return float(max(np.abs(off.real).max() * height, np.abs(off.imag).max() * width))
