"""Gradient rules of reductions over axes."""

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, product, rule, rules
from fusioncam.export.gradient.tape import dims


def _axes(s: Step) -> list[int]:
    """Return the reduced axes, counted from the front; none where `noop_with_empty_axes` keeps all of them."""
    shape = dims(s.input(0))
    axes = s.array(1).ravel().tolist() if s.has(1) else s.attribute("axes", [])
    if not axes and not s.attribute("noop_with_empty_axes", 0):
        axes = range(len(shape))
    if any(shape[a] is None for a in axes):
        raise NotImplementedError("a reduction over the batch")
    return [a % len(shape) for a in axes]


def _kept(s: Step, value: ir.Value) -> ir.Value:
    """Return `value`, of the shape of the output, with the reduced axes back in as ones."""
    axes = _axes(s)
    return value if s.attribute("keepdims", 1) or not axes else s.op.Unsqueeze(value, s.op.ints(axes))


def _count(s: Step) -> int:
    """Return how many elements become one."""
    shape = dims(s.x)
    return product([shape[a] or 1 for a in _axes(s)])


def _spread(s: Step, dy: ir.Value) -> ir.Value:
    """Return `dy`, of the shape of the output, for each of the elements that were summed."""
    return s.op.expand_as(_kept(s, dy), s.x) if _count(s) > 1 else _kept(s, dy)


rules(
    {
        "ReduceL1": lambda s: s.op.Mul(s.op.Sign(s.x), _kept(s, s.dy)),
        "ReduceMean": lambda s: _spread(s, s.op.Div(s.dy, s.like(_count(s))) if _count(s) > 1 else s.dy),
        "ReduceSum": lambda s: _spread(s, s.dy),
        "ReduceSumSquare": lambda s: s.op.Mul(s.x, _kept(s, s.op.Mul(s.like(2), s.dy))),
    }
)


@rule("ReduceMax", "ReduceMin")
def _reduce_extreme(s: Step) -> ir.Value:
    # Elements that tie share the gradient, as torch.amax does.
    axes, ties = _axes(s), s.op.Cast(s.op.Equal(s.x, _kept(s, s.y)), to=s.x.dtype)
    dy = _kept(s, s.dy)
    # To ReduceSum an empty list means all axes.
    share = s.op.Div(dy, s.op.ReduceSum(ties, s.op.ints(axes), keepdims=1) if axes else ties)
    return s.op.Mul(ties, share)


@rule("ReduceL2")
def _reduce_l2(s: Step) -> ir.Value:
    # At a vector of zeros the gradient is taken as zero, as torch.linalg.vector_norm does.
    zero = s.op.Equal(s.y, s.like(0))
    share = s.op.Div(s.dy, s.op.Where(zero, s.like(1), s.y))
    return s.op.Mul(s.x, _kept(s, share))


@rule("ReduceLogSumExp")
def _reduce_log_sum_exp(s: Step) -> ir.Value:
    # Where all elements are -infinity so is their result, and the difference would be NaN; the gradient is zero there.
    total = s.op.Where(s.op.Equal(s.y, s.like(-np.inf)), s.like(0), s.y)
    return s.op.Mul(s.op.Exp(s.op.Sub(s.x, _kept(s, total))), _kept(s, s.dy))


@rule("ReduceProd")
def _reduce_prod(s: Step) -> ir.Value:
    # The product of the others: what is not zero multiplies, and a zero among the others makes it zero.
    op, axes, dy = s.op, _axes(s), _kept(s, s.dy)
    if not axes:
        return dy
    zero = op.Equal(s.x, s.like(0))
    filled = op.Where(zero, s.like(1), s.x)
    whole = op.ReduceProd(filled, op.ints(axes), keepdims=1)
    zeros = op.Cast(zero, to=s.x.dtype)
    others = op.Sub(op.ReduceSum(zeros, op.ints(axes), keepdims=1), zeros)
    return op.Where(op.Equal(others, s.like(0)), op.Div(op.Mul(dy, whole), filled), s.like(0))
