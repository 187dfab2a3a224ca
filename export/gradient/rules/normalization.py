"""Normalisations by the statistics of the data themselves; `batch_normalization.py` has that by given statistics."""

import math

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, product, rule, unbroadcast
from fusioncam.export.gradient.tape import dims, numpy_type

SCALE, BIAS = 1, 2  # inputs
# What is added to a variance, where no attribute says it; MeanVarianceNormalization adds 1e-9 to its root.
EPSILON = {"MeanVarianceNormalization": 1e-18}


def half(s: Step) -> bool:
    """Return whether the data are float16: the operators compute in float32 then, and so do their gradients.

    Deviations are squared, which float16 has no range for.
    """
    return s.input(0).dtype == ir.DataType.FLOAT16


def widened(s: Step, value: ir.Value) -> ir.Value:
    """Return a value of the type of the data in the type that the gradient is computed in."""
    return s.op.Cast(value, to=ir.DataType.FLOAT) if half(s) else value


def narrowed(s: Step, gradient: ir.Value) -> ir.Value:
    """Return a gradient in the type of the input to differentiate by."""
    return s.op.Cast(gradient, to=s.x.dtype) if half(s) else gradient


def number(s: Step, value: float) -> ir.Value:
    """Return a constant of the type that the gradient is computed in."""
    return s.op.constant(value, np.float32 if half(s) else numpy_type(s.input(0)))


def standardised(s: Step, x: ir.Value, axes: list[int], centered: bool = True) -> tuple[ir.Value, ir.Value]:
    """Return n = (x - mean(x)) / deviation, and deviation = sqrt(mean((x - mean(x))^2) + epsilon).

    Args:
        s: A step of the normalisation.
        x: Its data, widened.
        axes: The axes of the means.
        centered: Whether the mean is subtracted; otherwise it counts as zero.
    """
    op, over = s.op, s.op.ints(axes)
    offset = op.Sub(x, op.ReduceMean(x, over, keepdims=1)) if centered else x
    variance = op.ReduceMean(op.Mul(offset, offset), over, keepdims=1)
    epsilon = s.attribute("epsilon", EPSILON.get(s.node.op_type, 1e-5))
    deviation = op.Sqrt(op.Add(variance, number(s, epsilon)))
    return op.Div(offset, deviation), deviation


def by_data(s: Step, x: ir.Value, dn: ir.Value, axes: list[int], centered: bool = True) -> ir.Value:
    """Return the gradient of n by the data, given that of n; see `standardised`.

    dx = (dn - mean(dn) - n mean(dn n)) / deviation; without the centring both means of it fall away.
    """
    op, over = s.op, s.op.ints(axes)
    x, dn = widened(s, x), widened(s, dn)
    n, deviation = standardised(s, x, axes, centered)
    shared = op.Mul(n, op.ReduceMean(op.Mul(dn, n), over, keepdims=1))
    if centered:
        shared = op.Add(shared, op.ReduceMean(dn, over, keepdims=1))
    return narrowed(s, op.Div(op.Sub(dn, shared), deviation))


def for_channels(s: Step, i: int) -> ir.Value:
    """Return input `i`, a number for each channel, in a shape that broadcasts to the data, and of their type."""
    x, known = s.input(0), s.constant(i)
    shape = [-1, *[1] * (len(dims(x)) - 2)]
    if known is not None:
        return s.op.like(known.reshape(shape), x)
    spread = s.op.Reshape(s.input(i), s.op.ints(shape))
    return spread if s.input(i).dtype == x.dtype else s.op.Cast(spread, to=x.dtype)


def by_channel(s: Step, gradient: ir.Value) -> ir.Value:
    """Return the sums of a gradient, of the shape of the data, over all axes but that of the channels, (C,)."""
    return s.op.ReduceSum(gradient, s.op.ints([i for i in range(len(dims(s.input(0)))) if i != 1]), keepdims=0)


@rule("LayerNormalization", "RMSNormalization", every_input=True)
def _layer_normalization(s: Step) -> ir.Value | None:
    op, x, (dy, *statistics) = s.op, s.input(0), s.received
    axes, centered = list(range(s.axis(-1), len(dims(x)))), s.node.op_type == "LayerNormalization"
    if s.input(SCALE).dtype != x.dtype:
        raise NotImplementedError("data and scale of two types")
    if s.index == 0:
        found = [] if dy is None else [by_data(s, x, op.Mul(dy, s.input(SCALE)), axes, centered)]
        found += [_by_statistics(s, axes, *statistics)] if any(statistics) else []
        return found[0] if len(found) == 1 else op.Add(*found)
    if dy is None:
        return None
    gradient = widened(s, dy)
    if s.index == SCALE:
        gradient = op.Mul(gradient, standardised(s, widened(s, x), axes, centered)[0])
    return narrowed(s, unbroadcast(op, gradient, dims(x), s.x))


def _by_statistics(s: Step, axes: list[int], mean: ir.Value | None, inverse: ir.Value | None = None) -> ir.Value:
    """Return the gradient by the data, given those of the outputs Mean and InvStdDev = 1 / deviation, both float32.

    Of groups of k elements, d Mean / dx = 1 / k and d InvStdDev / dx = -n InvStdDev^2 / k.
    """
    op = s.op
    n, deviation = standardised(s, widened(s, s.x), axes)
    by_inverse = None if inverse is None else op.Mul(n, op.Div(inverse, op.Mul(deviation, deviation)))
    if mean is None:
        assert by_inverse is not None
        total = op.Neg(by_inverse)
    else:
        total = op.expand_as(mean, s.x) if by_inverse is None else op.Sub(mean, by_inverse)
    return narrowed(s, op.Div(total, number(s, product(s.static(s.x, axes[0])))))


@rule("InstanceNormalization", every_input=True)
def _instance_normalization(s: Step) -> ir.Value:
    axes = list(range(2, len(dims(s.input(0)))))
    if s.index == 0:
        return by_data(s, s.x, s.op.Mul(s.dy, for_channels(s, SCALE)), axes)
    gradient = widened(s, s.dy)
    if s.index == SCALE:
        gradient = s.op.Mul(gradient, standardised(s, widened(s, s.input(0)), axes)[0])
    return narrowed(s, by_channel(s, gradient))


@rule("MeanVarianceNormalization")
def _mean_variance_normalization(s: Step) -> ir.Value:
    shape = dims(s.x)
    axes = [a % len(shape) for a in s.attribute("axes", [0, 2, 3])]
    if any(shape[a] is None for a in axes):
        raise NotImplementedError("statistics of the whole batch")
    return by_data(s, s.x, s.dy, axes)


@rule("GroupNormalization", every_input=True)
def _group_normalization(s: Step) -> ir.Value:
    op, data = s.op, s.input(0)
    channels, groups = s.static(data, 1)[0], int(s.attribute("num_groups"))
    grouped = (None, groups, product(s.static(data, 1)) // groups)
    # Up to opset 20 there is one scale per group, from 21 on one per channel.
    by_group = s.static(s.input(SCALE)) != [channels]
    if s.index == 0:
        scale = s.constant(SCALE)
        if scale is not None:
            scale = np.repeat(scale, channels // len(scale)).reshape(-1, *[1] * (len(dims(data)) - 2))
            dn = op.reshape(op.Mul(s.dy, s.like(scale)), grouped)
        elif by_group:
            dn = op.Mul(op.reshape(s.dy, grouped), op.Unsqueeze(s.input(SCALE), op.ints([1])))
        else:
            dn = op.reshape(op.Mul(s.dy, for_channels(s, SCALE)), grouped)
        return op.reshape_as(by_data(s, op.reshape(s.x, grouped), dn, [2]), s.x)
    gradient = widened(s, s.dy)
    if s.index == SCALE:
        n, _ = standardised(s, widened(s, op.reshape(data, grouped)), [2])
        gradient = op.Mul(gradient, op.reshape_as(n, data))
    total = by_channel(s, gradient)
    if by_group:
        total = op.ReduceSum(op.Reshape(total, op.ints([groups, -1])), op.ints([1]), keepdims=0)
    return narrowed(s, total)


@rule("LpNormalization")
def _lp_normalization(s: Step) -> ir.Value:
    # y = x / |x|, so dx = (dy - d|x|/dx sum(dy y)) / |x|. Where the norm is zero so is the output, and the gradient.
    op, over = s.op, s.op.ints([s.axis(-1)])
    first = s.attribute("p", 2) == 1
    norm = (op.ReduceL1 if first else op.ReduceL2)(s.x, over, keepdims=1)
    norm = op.Where(op.Equal(norm, s.like(0)), s.like(np.inf), norm)
    total = op.ReduceSum(op.Mul(s.dy, s.y), over, keepdims=1)
    return op.Div(op.Sub(s.dy, op.Mul(op.Sign(s.x) if first else s.y, total)), norm)


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
