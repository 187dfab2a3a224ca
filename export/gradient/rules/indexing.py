"""Operators that pick elements by position: each is a Gather along one axis after another."""

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, product, rule
from fusioncam.export.gradient.tape import Dims, dims

Index = npt.NDArray[np.int64]


def scatter(s: Step, dy: ir.Value, shape: Dims, axis: int, picked: Index) -> ir.Value:
    """The adjoint of picking the elements `picked` along `axis` out of `shape[axis]`; -1 picked a constant.

    Args:
        s: The step.
        dy: Gradient of the result, with len(picked) elements along `axis`.
        shape: Shape of the tensor picked from, but for the axes that are still to be undone.
        axis: The axis, counted from the front.
        picked: 1-D positions in the tensor picked from.

    Returns:
        The gradient, with shape[axis] elements along `axis`.
    """
    size = shape[axis]
    assert size is not None
    op, rank = s.op, len(shape)
    first = int(picked[0])
    if len(picked) and first >= 0 and np.array_equal(picked, np.arange(first, first + len(picked))):
        pads = np.zeros((2, rank), np.int64)
        pads[:, axis] = first, size - first - len(picked)
        return op.Pad(dy, op.ints(pads.ravel().tolist()), s.op.like(0, dy)) if pads.any() else dy
    # A product with a matrix of zeros and ones sums over elements picked more than once.
    chosen = np.zeros((len(picked), size))
    chosen[np.arange(len(picked))[picked >= 0], picked[picked >= 0]] = 1
    last = [i for i in range(rank) if i != axis] + [axis]
    moved = op.Transpose(dy, perm=last) if axis != rank - 1 else dy
    summed = op.MatMul(moved, op.like(chosen, s.y))
    return op.Transpose(summed, perm=np.argsort(last).tolist()) if axis != rank - 1 else summed


@rule("Slice")
def _slice(s: Step) -> ir.Value:
    s.only_input(0)
    shape = dims(s.x)
    starts, ends = s.array(1).tolist(), s.array(2).tolist()
    axes = s.array(3).tolist() if s.has(3) else list(range(len(starts)))
    steps = s.array(4).tolist() if s.has(4) else [1] * len(starts)
    gradient = s.dy
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = shape[axis]
        if size is None:
            if start != 0 or end < 2**31 - 1 or step != 1:
                raise NotImplementedError("a slice of the batch")
            continue
        gradient = scatter(s, gradient, shape, axis % len(shape), np.arange(size)[slice_of(start, end, step, size)])
    return gradient


def slice_of(start: int, end: int, step: int, size: int) -> slice:
    """ONNX's start, end and step as Python's: an end before the first element means "to the front, inclusive"."""
    if step < 0:
        end = end + size if end < 0 else end
        return slice(start, None if end < 0 else end, step)
    return slice(start, end, step)


@rule("Gather")
def _gather(s: Step) -> ir.Value:
    s.only_input(0)
    shape, axis = dims(s.x), s.axis(0)
    size = shape[axis]
    if size is None:
        raise NotImplementedError("a choice from the batch")
    picked = s.array(1).astype(np.int64)
    dy = s.op.reshape(s.dy, (*shape[:axis], picked.size, *shape[axis + 1 :]))
    return scatter(s, dy, shape, axis, picked.ravel() % size)


@rule("GatherND")
def _gather_nd(s: Step) -> ir.Value:
    s.only_input(0)
    if s.attribute("batch_dims", 0):
        raise NotImplementedError("batch_dims other than 0")
    indices = s.array(1).astype(np.int64)
    depth = indices.shape[-1]
    shape = dims(s.x)
    lead = [d for d in shape[:depth] if d is not None]
    if len(lead) < depth:
        raise NotImplementedError("a choice from the batch")
    # One index into the first `depth` axes taken as one.
    flat = np.ravel_multi_index(tuple((indices % lead).reshape(-1, depth).T), lead)
    rest = shape[depth:]
    dy = s.op.reshape(s.dy, (len(flat), *rest))
    return s.op.reshape_as(scatter(s, dy, (product(lead), *rest), 0, flat), s.x)


@rule("Pad")
def _pad(s: Step) -> ir.Value:
    s.only_input(0)
    shape = dims(s.x)
    rank = len(shape)
    pads = s.array(1).tolist()
    axes = [a % rank for a in s.array(3).tolist()] if s.has(3) else list(range(rank))
    mode = s.attribute("mode", "constant")
    gradient = s.dy
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        if before == after == 0:
            continue
        size = shape[axis]
        if size is None:
            raise NotImplementedError("padding of the batch")
        gradient = _unpad(s, gradient, shape, axis, size, before, after, mode)
    return gradient


def _unpad(
    s: Step, dy: ir.Value, shape: Dims, axis: int, size: int, before: int, after: int, mode: str
) -> ir.Value:  # fmt: skip
    picked = np.arange(size)[max(-before, 0) : size - max(-after, 0)]
    extra = (max(before, 0), max(after, 0))
    if mode != "constant":
        return scatter(s, dy, shape, axis, np.pad(picked, extra, mode=mode))
    stop = extra[0] + len(picked)
    if any(extra):
        dy = s.op.Slice(dy, s.op.ints([extra[0]]), s.op.ints([stop]), s.op.ints([axis]))
    return scatter(s, dy, shape, axis, picked) if len(picked) < size else dy
