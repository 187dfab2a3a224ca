"""Pools. TensorRT takes no `Indices` output of MaxPool, so the winner of each window is found by a convolution."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.convolution import Window, spread, window_of
from fusioncam.export.gradient.rules.table import Step, product, rule


@rule("MaxPool")
def _max_pool(s: Step) -> ir.Value:
    op, window = s.op, window_of(s, list(s.attribute("kernel_shape")), s.x, s.y)
    channels, taps = s.static(s.x, 1)[0], product(window.kernel)
    # One output channel per channel and tap: that tap of every window.
    one_hot = s.like(np.tile(np.eye(taps), (channels, 1)).reshape(channels * taps, 1, *window.kernel))
    padded, inner = _with_border(s, window)
    unfolded = op.Conv(padded, one_hot, group=channels, **inner.attributes)
    grid = s.static(s.y, 2)
    unfolded = op.reshape(unfolded, (None, channels, taps, product(grid)))
    winner = op.ArgMax(unfolded, axis=2, keepdims=1)
    first = op.Equal(winner, op.constant(np.arange(taps, dtype=np.int64).reshape(1, 1, taps, 1)))
    dy = op.reshape(s.dy, (None, channels, 1, product(grid)))
    won = op.reshape(op.Where(first, dy, s.like(0)), (None, channels * taps, *grid))
    return spread(s, won, one_hot, window, channels)


def _with_border(s: Step, window: Window) -> tuple[ir.Value, Window]:
    """The input with a border that never wins, where the window needs one, and the window on it."""
    begin, end = window.begin, [max(e, 0) for e in window.end]
    if not any((*begin, *end)):
        return s.x, window
    # Not quite the lowest number of float32: that one may round to -infinity in TF32, and infinity times 0 is NaN.
    lowest = s.like(-65504.0 if s.x.dtype == ir.DataType.FLOAT16 else -1e38)
    padded = s.op.Pad(s.x, s.op.ints([0, 0, *begin, 0, 0, *end]), lowest)
    none = (0,) * len(begin)
    return padded, replace(window, begin=none, end=none)


@rule("AveragePool")
def _average_pool(s: Step) -> ir.Value:
    window = window_of(s, list(s.attribute("kernel_shape")), s.x, s.y)
    channels = s.static(s.x, 1)[0]
    weights, dy, counts = np.ones((channels, 1, *window.kernel)), s.dy, _counted(s, window)
    if (counts == counts.max()).all():
        weights /= counts.max()
    else:
        dy = s.op.Mul(dy, s.like(1 / counts))
    return spread(s, dy, s.like(weights), window, channels)


def _counted(s: Step, window: Window) -> np.ndarray:
    """What each window divides by, as (1, 1, *grid): all its taps, or only those inside the picture.

    With `count_include_pad` the padding counts too, but never the border that only `ceil_mode` added.
    """
    counts = np.ones((1, 1))
    include = bool(s.attribute("count_include_pad", 0))
    pads = s.attribute("pads", [0] * 2 * len(window.kernel))
    explicit = s.attribute("auto_pad", "NOTSET") == "NOTSET"
    for axis, (size, grid) in enumerate(zip(s.static(s.x, 2), s.static(s.y, 2), strict=True)):
        before = window.begin[axis]
        after = pads[len(window.kernel) + axis] if explicit else max(window.end[axis], 0)
        low, high = (-before, size + after) if include else (0, size)
        starts = np.arange(grid) * window.strides[axis] - before
        taps = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        counted = ((taps >= low) & (taps < high)).sum(axis=1)
        counts = counts[..., None] * counted
    return counts


@rule("GlobalAveragePool")
def _global_average_pool(s: Step) -> ir.Value:
    return s.op.expand_as(s.op.Div(s.dy, s.like(product(s.static(s.x, 2)))), s.x)


@rule("GlobalMaxPool")
def _global_max_pool(s: Step) -> ir.Value:
    op, positions = s.op, product(s.static(s.x, 2))
    channels = s.static(s.x, 1)[0]
    winner = op.ArgMax(op.reshape(s.x, (None, channels, positions)), axis=2, keepdims=1)
    first = op.Equal(winner, op.constant(np.arange(positions, dtype=np.int64).reshape(1, 1, positions)))
    dy = op.reshape(s.dy, (None, channels, 1))
    return op.reshape_as(op.Where(first, dy, s.like(0)), s.x)
