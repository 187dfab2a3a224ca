"""BatchNormalization: by given statistics, and in training, by those of the batch."""

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.normalization import (
    BIAS,
    SCALE,
    by_channel,
    by_data,
    for_channels,
    narrowed,
    number,
    standardised,
    widened,
)
from fusioncam.export.gradient.rules.table import Step, product, rule
from fusioncam.export.gradient.tape import dims

MEAN, VARIANCE = 3, 4  # inputs


@rule("BatchNormalization", every_input=True)
def _batch_normalization(s: Step) -> ir.Value | None:
    # y = slope (x - mean) + bias, slope = scale / deviation, deviation = sqrt(variance + epsilon).
    op = s.op
    if s.attribute("training_mode", 0):
        return _in_training(s)
    scale, variance = s.constant(SCALE), s.constant(VARIANCE)
    if s.index == 0 and scale is not None and variance is not None:
        slope = scale / np.sqrt(variance.astype(np.float64) + s.attribute("epsilon", 1e-5))
        return op.Mul(s.dy, s.like(slope.reshape(-1, *[1] * (len(dims(s.x)) - 2))))
    dy = widened(s, s.dy)
    if s.index == BIAS:
        return narrowed(s, by_channel(s, dy))
    deviation = op.Sqrt(op.Add(widened(s, for_channels(s, VARIANCE)), number(s, s.attribute("epsilon", 1e-5))))
    inner = op.Div(widened(s, for_channels(s, SCALE)), deviation)
    if s.index == 0:
        return narrowed(s, op.Mul(dy, inner))
    if s.index == MEAN:
        return narrowed(s, op.Neg(by_channel(s, op.Mul(dy, inner))))
    offset = op.Sub(widened(s, s.input(0)), widened(s, for_channels(s, MEAN)))
    by_scale = op.Mul(dy, op.Div(offset, deviation))
    if s.index == SCALE:
        return narrowed(s, by_channel(s, by_scale))
    falling = op.Div(op.Mul(number(s, -0.5), inner), deviation)
    return narrowed(s, by_channel(s, op.Mul(by_scale, falling)))


def _in_training(s: Step) -> ir.Value | None:
    """Return the gradient where the statistics are those of the batch, which mixes its pictures.

    The other outputs are weighted means of the given statistics and the batch's: momentum to 1 - momentum.
    """
    data = s.input(0)
    if dims(data)[0] is None:
        raise NotImplementedError("training_mode=1 normalises by the statistics of the whole batch")
    op, (dy, mean, variance, *_) = s.op, (*s.received, None, None)
    momentum, axes = s.attribute("momentum", 0.9), [i for i in range(len(dims(data))) if i != 1]
    if s.index in (MEAN, VARIANCE):
        received = (mean, variance)[s.index - MEAN]
        return None if received is None else op.Mul(received, s.like(momentum))
    n, deviation = standardised(s, widened(s, data), axes)
    if s.index:
        if dy is None:
            return None
        return narrowed(s, by_channel(s, op.Mul(widened(s, dy), n) if s.index == SCALE else widened(s, dy)))
    found = [] if dy is None else [by_data(s, data, op.Mul(dy, for_channels(s, SCALE)), axes)]
    shape = op.ints([-1, *[1] * (len(dims(data)) - 2)])
    # Of k elements, d mean / dx = 1 / k and d variance / dx = 2 (x - mean) / k.
    share = (1 - momentum) / (product(s.static(data)) / product(s.static(data, 1)[:1]))
    for received, slope in ((mean, None), (variance, op.Mul(number(s, 2), op.Mul(n, deviation)))):
        if received is not None:
            spread = op.Mul(number(s, share), op.Reshape(received, shape))
            found.append(narrowed(s, op.expand_as(spread, data) if slope is None else op.Mul(spread, slope)))
    return found[0] if len(found) == 1 else op.Sum(*found)
