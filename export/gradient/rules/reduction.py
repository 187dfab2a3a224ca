"""Reductions over axes."""

import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, product, rule
from fusioncam.export.gradient.tape import Dims, dims


def _axes(s: Step) -> list[int]:
    rank = len(dims(s.input(0)))
    axes = s.array(1).ravel().tolist() if s.has(1) else s.attribute("axes", [])
    if not axes and not s.attribute("noop_with_empty_axes", 0):
        axes = range(rank)
    return [a % rank for a in axes]


def _kept(s: Step, value: ir.Value) -> ir.Value:
    """`value`, of the shape of the output, with the reduced axes back in as ones."""
    axes = _axes(s)
    kept: Dims = tuple(1 if i in axes else d for i, d in enumerate(dims(s.input(0))))
    return s.op.reshape(value, kept)


@rule("ReduceSum")
def _reduce_sum(s: Step) -> ir.Value:
    s.only_input(0)
    return s.op.expand_as(_kept(s, s.dy), s.x)


@rule("ReduceMean")
def _reduce_mean(s: Step) -> ir.Value:
    s.only_input(0)
    counted = [dims(s.x)[a] for a in _axes(s)]
    if None in counted:
        raise NotImplementedError("a mean over the batch")
    return s.op.expand_as(_kept(s, s.op.Div(s.dy, s.scalar(product([c for c in counted if c])))), s.x)


@rule("ReduceMax", "ReduceMin")
def _reduce_extreme(s: Step) -> ir.Value:
    # Elements that tie share the gradient, as torch.amax does.
    s.only_input(0)
    ties = s.op.Cast(s.op.Equal(s.x, _kept(s, s.y)), to=s.x.dtype)
    share = s.op.Div(_kept(s, s.dy), s.op.ReduceSum(ties, s.op.ints(_axes(s)), keepdims=1))
    return s.op.Mul(ties, share)


@rule("ReduceSumSquare")
def _reduce_sum_square(s: Step) -> ir.Value:
    s.only_input(0)
    return s.op.Mul(s.op.Mul(s.scalar(2), s.x), _kept(s, s.dy))


@rule("ReduceL1")
def _reduce_l1(s: Step) -> ir.Value:
    s.only_input(0)
    return s.op.Mul(s.op.Sign(s.x), _kept(s, s.dy))


@rule("ReduceL2")
def _reduce_l2(s: Step) -> ir.Value:
    # At a vector of zeros the gradient is taken as zero, as torch.linalg.vector_norm does.
    s.only_input(0)
    norm = _kept(s, s.y)
    zero = s.op.Equal(norm, s.scalar(0))
    direction = s.op.Div(s.x, s.op.Where(zero, s.scalar(1), norm))
    return s.op.Mul(direction, _kept(s, s.dy))


@rule("ReduceLogSumExp")
def _reduce_log_sum_exp(s: Step) -> ir.Value:
    s.only_input(0)
    return s.op.Mul(s.op.Exp(s.op.Sub(s.x, _kept(s, s.y))), _kept(s, s.dy))
