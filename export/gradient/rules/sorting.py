"""Operators that order elements, or run along an axis in order."""

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, product, rule
from fusioncam.export.gradient.tape import dims


@rule("TopK")
def _top_k(s: Step) -> ir.Value:
    axis = s.axis(-1)
    if dims(s.x)[axis] is None:
        raise NotImplementedError("an order of the batch")
    return s.op.ScatterElements(s.op.zeros_like(s.x), s.output(1), s.dy, axis=axis)


@rule("Unique")
def _unique(s: Step) -> ir.Value:
    # Equal elements are one in the output; its gradient goes to the first of them, which `indices` names.
    op, shape = s.op, s.static(s.x)
    if "axis" not in s.node.attributes:
        flat = op.Reshape(op.zeros_like(s.x), op.ints([product(shape)]))
        return op.reshape_as(op.ScatterElements(flat, s.output(1), s.dy, axis=0), s.x)
    axis = s.axis(0)
    column = op.Reshape(s.output(1), op.ints([-1 if a == axis else 1 for a in range(len(shape))]))
    return op.ScatterElements(op.zeros_like(s.x), op.Expand(column, op.Shape(s.dy)), s.dy, axis=axis)


def _along(s: Step) -> dict[str, int]:
    """Return the attributes of a cumulative operator that runs the other way; its axis must not be the batch."""
    if dims(s.x)[int(s.array(1).ravel()[0])] is None:
        raise NotImplementedError("a sum along the batch")
    return {"exclusive": s.attribute("exclusive", 0), "reverse": 1 - s.attribute("reverse", 0)}


@rule("CumSum")
def _cum_sum(s: Step) -> ir.Value:
    return s.op.CumSum(s.dy, s.input(1), **_along(s))


@rule("CumProd")
def _cum_prod(s: Step) -> ir.Value:
    # Up to the first zero the sum of dy y over what follows, divided by x; at that zero the same sum with a 1 in its
    # place; behind it all products hold the zero.
    op, axis, back = s.op, s.input(1), _along(s)
    ahead = {**back, "reverse": 1 - back["reverse"]}
    zero = op.Equal(s.x, s.like(0))
    before = op.CumSum(op.Cast(zero, to=s.x.dtype), axis, reverse=ahead["reverse"])
    first = op.And(zero, op.Equal(before, s.like(1)))
    filled = op.Where(first, s.like(1), s.x)
    until = op.Div(op.CumSum(op.Mul(s.dy, s.y), axis, **back), op.Where(zero, s.like(1), s.x))
    at = op.CumSum(op.Mul(s.dy, op.CumProd(filled, axis, **ahead)), axis, **back)
    behind = op.Where(first, at, s.like(0))
    return op.Where(op.Equal(before, s.like(0)), until, behind)


@rule("Trilu")
def _trilu(s: Step) -> ir.Value:
    return s.op.Trilu(s.dy, *([s.input(1)] if s.has(1) else []), upper=s.attribute("upper", 1))


@rule("ReverseSequence")
def _reverse_sequence(s: Step) -> ir.Value:
    time, batch = s.attribute("time_axis", 0), s.attribute("batch_axis", 1)
    if dims(s.x)[time] is None:
        raise NotImplementedError("an order of the batch")
    return s.op.ReverseSequence(s.dy, s.input(1), time_axis=time, batch_axis=batch)


@rule("OneHot", every_input=True)
def _one_hot(s: Step) -> ir.Value | None:
    # y is values[1] where it is hot, else values[0].
    if s.index != 2:
        return None
    op = s.op
    hot = op.OneHot(s.input(0), s.input(1), s.like([0, 1]), axis=s.attribute("axis", -1))
    on = op.ReduceSum(op.Mul(s.dy, hot), keepdims=0)
    off = op.ReduceSum(op.Mul(s.dy, op.Sub(s.like(1), hot)), keepdims=0)
    return op.Concat(*(op.Reshape(v, op.ints([1])) for v in (off, on)), axis=0)


@rule("Range", every_input=True)
def _range(s: Step) -> ir.Value | None:
    # y[i] = start + i delta.
    op = s.op
    if s.index == 1:
        return None
    weighted = s.dy
    if s.index == 2:
        steps = op.Range(op.constant(np.int64(0)), op.Size(s.dy), op.constant(np.int64(1)))
        weighted = op.Mul(s.dy, op.Cast(steps, to=s.x.dtype))
    return op.reshape_as(op.ReduceSum(weighted, keepdims=1), s.x)
