"""Normalisations, in their inference form."""

import math

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule
from fusioncam.export.gradient.tape import dims, numpy_type


@rule("BatchNormalization")
def _batch_normalization(s: Step) -> ir.Value:
    if s.attribute("training_mode", 0) or any(s.node.outputs[1:]):
        raise NotImplementedError("training_mode=1")
    if not s.attribute("spatial", 1):
        raise NotImplementedError("spatial=0")
    scale, variance = s.array(1), s.array(4)
    slope = scale / np.sqrt(variance.astype(np.float64) + s.attribute("epsilon", 1e-5))
    return s.op.Mul(s.dy, s.like(slope.reshape(-1, *[1] * (len(dims(s.x)) - 2))))


def _by_statistics(s: Step, x: ir.Value, dn: ir.Value, axes: list[int], centered: bool = True) -> ir.Value:
    """Return the gradient of n = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon), given that of n.

    dx = (dn - mean(dn) - n mean(dn n)) / deviation; without the centring both means of it fall away.
    """
    op, over = s.op, s.op.ints(axes)
    # Deviations are squared, which float16 has no range for; the operators themselves compute in float32, too.
    half = s.x.dtype == ir.DataType.FLOAT16
    if half:
        x, dn = op.Cast(x, to=ir.DataType.FLOAT), op.Cast(dn, to=ir.DataType.FLOAT)
    offset = op.Sub(x, op.ReduceMean(x, over, keepdims=1)) if centered else x
    variance = op.ReduceMean(op.Mul(offset, offset), over, keepdims=1)
    epsilon = op.constant(s.attribute("epsilon", 1e-5), np.float32 if half else numpy_type(s.x))
    deviation = op.Sqrt(op.Add(variance, epsilon))
    n = op.Div(offset, deviation)
    shared = op.Mul(n, op.ReduceMean(op.Mul(dn, n), over, keepdims=1))
    if centered:
        shared = op.Add(shared, op.ReduceMean(dn, over, keepdims=1))
    dx = op.Div(op.Sub(dn, shared), deviation)
    return op.Cast(dx, to=s.x.dtype) if half else dx


@rule("LayerNormalization", "RMSNormalization")
def _layer_normalization(s: Step) -> ir.Value:
    axes = list(range(s.axis(-1), len(dims(s.x))))
    centered = s.node.op_type == "LayerNormalization"
    return _by_statistics(s, s.x, s.op.Mul(s.dy, s.input(1)), axes, centered)


@rule("InstanceNormalization")
def _instance_normalization(s: Step) -> ir.Value:
    rank = len(dims(s.x))
    scale = s.like(s.array(1).reshape(-1, *[1] * (rank - 2)))
    return _by_statistics(s, s.x, s.op.Mul(s.dy, scale), list(range(2, rank)))


@rule("GroupNormalization")
def _group_normalization(s: Step) -> ir.Value:
    channels, groups = s.static(s.x, 1)[0], int(s.attribute("num_groups"))
    scale = s.array(1)
    # Up to opset 20 there is one scale per group, from 21 on one per channel.
    scale = np.repeat(scale, channels // len(scale)).reshape(-1, *[1] * (len(dims(s.x)) - 2))
    grouped = (None, groups, int(np.prod(s.static(s.x, 1))) // groups)
    x = s.op.reshape(s.x, grouped)
    dn = s.op.reshape(s.op.Mul(s.dy, s.like(scale)), grouped)
    return s.op.reshape_as(_by_statistics(s, x, dn, [2]), s.x)


@rule("LRN")
def _lrn(s: Step) -> ir.Value:
    # y_i = x_i D_i^-beta with D_i = bias + alpha / size * sum of x_j^2 over the channels j in the window of i, so
    # dx_i = dy_i D_i^-beta - 2 alpha beta / size * x_i * sum of dy_j y_j / D_j over the windows j that i is in.
    op, size = s.op, int(s.attribute("size"))
    alpha, beta = s.attribute("alpha", 1e-4), s.attribute("beta", 0.75)
    before, after = (size - 1) // 2, size // 2

    def channel_sum(value: ir.Value, before: int, after: int) -> ir.Value:
        channels, *grid = s.static(s.x, 1)
        column = op.reshape(value, (None, 1, channels, int(np.prod(grid))))
        ones = s.like(np.ones((1, 1, size, 1)))
        return op.reshape_as(op.Conv(column, ones, pads=[before, 0, after, 0]), s.x)

    # Scaled before squaring, for the range of float16.
    scaled = op.Mul(s.x, s.like(math.sqrt(alpha / size)))
    d = op.Add(s.like(s.attribute("bias", 1.0)), channel_sum(op.Mul(scaled, scaled), before, after))
    shared = channel_sum(op.Div(op.Mul(s.dy, s.y), d), after, before)
    own = op.Mul(s.dy, op.Pow(d, s.like(-beta)))
    return op.Sub(own, op.Mul(op.Mul(s.like(2 * alpha * beta / size), s.x), shared))
