"""Telling that no position occurs twice: a gradient that is scattered to such positions need not be added up."""

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import product
from fusioncam.export.gradient.tape import Dims, dims
from fusioncam.kernels.arrays import Array

# Operators that move or repeat positions, and leave them as they are.
MOVES = ("Cast", "Identity", "Unsqueeze", "Expand", "Tile")


def all_distinct(positions: ir.Value, axis: int, size: int | None) -> bool:
    """Return whether positions are known to differ along an axis.

    Args:
        positions: Positions, constant or computed: those of a TopK differ, also where they are repeated along others.
        axis: The axis.
        size: Length of the axis that they are of; negative ones count from its end.
    """
    known, shape = ir.convenience.get_const_tensor(positions), dims(positions)
    if shape[axis] == 1:
        return True
    if known is not None:
        return size is not None and bool((np.diff(np.sort(known.numpy() % size, axis), axis=axis) != 0).all())
    node = positions.producer()
    if node is not None and node.op_type == "TopK":
        return int(node.attributes["axis"].value if "axis" in node.attributes else -1) % len(shape) == axis
    source = node.inputs[0] if node is not None and node.op_type in MOVES else None
    if node is None or source is None:
        return False
    inner, length = dims(source), shape[axis]
    if node.op_type == "Unsqueeze":
        axes = ir.convenience.get_const_tensor(node.inputs[1]) if node.inputs[1] is not None else None
        new = [] if axes is None else [int(a) % len(shape) for a in axes.numpy().ravel()]
        axis = sum(a not in new for a in range(axis))
    else:
        axis -= len(shape) - len(inner)
    return axis >= 0 and inner[axis] == length and all_distinct(source, axis, size)


def rows_distinct(indices: Array, lengths: Dims, batch: int) -> bool:
    """Return whether the rows of constant indices, (..., depth), are different places.

    Args:
        indices: The indices, as GatherND and ScatterND take them.
        lengths: Lengths of the axes that they are of; of further axes, too.
        batch: The number of leading axes that have indices of their own.
    """
    depth = indices.shape[-1]
    sizes = [2**62 if d is None else d for d in lengths[:depth]]
    places = (indices % sizes).reshape(product(indices.shape[:batch]), product(indices.shape[batch:-1]), depth)
    return all(len(np.unique(rows, axis=0)) == len(rows) for rows in places)
