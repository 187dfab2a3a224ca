"""Operators that pick elements by position, along one axis or several."""

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.scatter import pick_axis, pick_many
from fusioncam.export.gradient.rules.table import Step, along, product, rule
from fusioncam.export.gradient.tape import Dims, dims
from fusioncam.kernels.arrays import Int64Array

Picks = dict[int, tuple[int, Int64Array]]


def unpick(s: Step, dy: ir.Value, shape: Dims, picks: Picks) -> ir.Value:
    """Return the gradient of a tensor of which elements were picked by position.

    Args:
        s: The step.
        dy: Gradient of the result.
        shape: Shape of the result.
        picks: For each axis that was picked along, counted from the front: its size before, and the positions
            picked, where -1 picked a constant.
    """
    op, now = s.op, list(shape)
    cuts, pads = {}, np.zeros((2, len(shape)), np.int64)
    for axis, (size, picked) in picks.items():
        where = np.flatnonzero(picked >= 0)
        if not len(where):
            raise NotImplementedError("an empty choice")
        start, first, count = int(where[0]), int(picked[where[0]]), len(where)
        if np.array_equal(picked[start : start + count], np.arange(first, first + count)):
            # A run of neighbours: drop the constants around it, and fill up with zeros.
            pads[:, axis] = first, size - first - count
            if count < len(picked):
                cuts[axis] = start, start + count
        else:
            # A product with a matrix of zeros and ones sums over elements picked more than once.
            chosen = np.zeros((size, len(picked)))
            chosen[picked[where], where] = 1
            dy, now[axis] = along(s, chosen, dy, tuple(now), axis), size
    if cuts:
        starts, ends = zip(*cuts.values(), strict=True)
        dy = op.Slice(dy, op.ints(starts), op.ints(ends), op.ints(list(cuts)))
    return op.Pad(dy, op.ints(pads.ravel().tolist())) if pads.any() else dy


@rule("Slice")
def _slice(s: Step) -> ir.Value:
    shape = dims(s.x)
    if any(s.has(i) and s.constant(i) is None for i in (1, 2, 4)):
        return _slice_between(s)
    starts, ends = s.array(1).tolist(), s.array(2).tolist()
    axes = s.array(3).tolist() if s.has(3) else list(range(len(starts)))
    steps = s.array(4).tolist() if s.has(4) else [1] * len(starts)
    picks: Picks = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        if size is not None:
            picks[axis % len(shape)] = size, positions(start, end, step, size)
        elif start != 0 or end < 2**31 - 1 or step != 1:
            raise NotImplementedError("a slice of the batch")
    return unpick(s, s.dy, dims(s.y), picks)


def _slice_between(s: Step) -> ir.Value:
    """Return the gradient of a slice between computed bounds: the same slice of all numbers names the places."""
    op, bounds = s.op, [s.input(i) if s.has(i) else None for i in range(1, len(s.node.inputs))]
    numbers = op.Range(op.constant(np.int64(0)), op.Size(s.x), op.constant(np.int64(1)))
    picked = op.Slice(op.Reshape(numbers, op.Shape(s.x)), *bounds)
    flat = op.ints([-1])
    zeros, places, dy = (op.Reshape(v, flat) for v in (op.zeros_like(s.x), picked, s.dy))
    return op.Reshape(op.ScatterElements(zeros, places, dy, axis=0), op.Shape(s.x))


def positions(start: int, end: int, step: int, size: int) -> Int64Array:
    """Return the positions that a slice picks: negative ones count from the end, and all are clamped."""
    start, end = (v + size if v < 0 else v for v in (start, end))
    low, high = (0, size) if step > 0 else (-1, size - 1)
    return np.arange(min(max(start, 0), high), min(max(end, low), high), step)


@rule("Gather")
def _gather(s: Step) -> ir.Value:
    shape, axis = dims(s.x), s.axis(0)
    size = shape[axis]
    if s.constant(1) is None:
        return pick_axis(s, axis)
    if size is None:
        raise NotImplementedError("a choice from the batch")
    picked = s.array(1).astype(np.int64)
    flat = (*shape[:axis], picked.size, *shape[axis + 1 :])
    dy = s.dy if picked.ndim == 1 else s.op.reshape(s.dy, flat)
    return unpick(s, dy, flat, {axis: (size, picked.ravel() % size)})


@rule("GatherND")
def _gather_nd(s: Step) -> ir.Value:
    batch = s.attribute("batch_dims", 0)
    if batch or s.constant(1) is None:
        return pick_many(s, batch)
    indices = s.array(1).astype(np.int64)
    depth = indices.shape[-1]
    shape = dims(s.x)
    lead = [d for d in shape[:depth] if d is not None]
    if len(lead) < depth:
        raise NotImplementedError("a choice from the batch")
    # One index into the first `depth` axes taken as one.
    picked = np.ravel_multi_index(tuple((indices % lead).reshape(-1, depth).T), lead)
    flat = (len(picked), *shape[depth:])
    return s.op.reshape_as(unpick(s, s.op.reshape(s.dy, flat), flat, {0: (product(lead), picked)}), s.x)


@rule("Compress")
def _compress(s: Step) -> ir.Value:
    shape, kept = dims(s.x), np.flatnonzero(s.array(1))
    if "axis" in s.node.attributes:
        axis = s.axis(0)
        size = shape[axis]
        if size is None:
            raise NotImplementedError("a choice from the batch")
        return unpick(s, s.dy, dims(s.y), {axis: (size, kept)})
    size = product(s.static(s.x))
    return s.op.reshape_as(unpick(s, s.dy, (len(kept),), {0: (size, kept)}), s.x)


@rule("Pad", every_input=True)
def _pad(s: Step) -> ir.Value | None:
    shape = dims(s.input(0))
    mode = s.attribute("mode", "constant")
    if s.index:
        return _pad_value(s) if s.index == 2 and mode == "constant" else None
    pads = s.array(1).tolist()
    axes = s.array(3).tolist() if s.has(3) else list(range(len(shape)))
    options = {"constant_values": -1} if mode == "constant" else {}
    picks: Picks = {}
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        size = shape[axis]
        if before == after == 0:
            continue
        if size is None:
            raise NotImplementedError("padding of the batch")
        # Negative pads crop, and they come first.
        kept = np.arange(size)[max(-before, 0) : size - max(-after, 0)]
        picks[axis % len(shape)] = size, np.pad(kept, (max(before, 0), max(after, 0)), mode, **options)
    return unpick(s, s.dy, dims(s.y), picks)


def _pad_value(s: Step) -> ir.Value:
    """Return the gradient of the constant that a Pad puts around its input."""
    op, inside = s.op, s.op.zeros_like(s.input(0))
    around = op.Pad(inside, s.input(1), s.like(1), s.input(3) if s.has(3) else None)
    return op.reshape_as(op.ReduceSum(op.Mul(s.dy, around), keepdims=0), s.x)
