"""Pools. TensorRT takes no `Indices` output of MaxPool, so the winner of each window is found again."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.convolution import spread, windows
from fusioncam.export.gradient.rules.table import Step, product, rule
from fusioncam.export.gradient.rules.windows import Window, responses, window_of
from fusioncam.export.gradient.tape import numpy_type
from fusioncam.kernels.arrays import Float64Array, Int64Array


@dataclass(frozen=True)
class Line:
    """The windows of a pool along one axis, as tables of indices.

    A tap outside of the input reads the first one inside instead, which changes no maximum. So no border is needed,
    whose number could win or tie; and of equal numbers the first inside is still the first.

    Attributes:
        read: Position that each tap of each window reads, (taps, windows).
        window: For each position the windows it is in, (most windows, positions), filled up with 0.
        tap: Its tap in that window as ArgMax would name it, (most windows, positions), filled up with -1.
    """

    read: Int64Array
    window: Int64Array
    tap: Int64Array


def line_of(window: Window, axis: int, size: int, count: int) -> Line:
    """Return the tables of `count` windows along one spatial axis of `size` positions."""
    starts = np.arange(count) * window.strides[axis] - window.begin[axis]
    at = starts + np.arange(window.kernel[axis])[:, None] * window.dilations[axis]
    inside = (at >= 0) & (at < size)
    first = inside.argmax(axis=0)
    windows_of: list[list[tuple[int, int]]] = [[] for _ in range(size)]
    for tap, i in np.argwhere(inside):
        # ArgMax finds the first tap inside wherever it is read for the first time.
        windows_of[at[tap, i]].append((i, 0 if tap == first[i] else tap))
    most = max(1, *map(len, windows_of))
    filled = np.array([[*pairs, *[(0, -1)] * (most - len(pairs))] for pairs in windows_of], np.int64)
    fallback = np.where(inside.any(axis=0), at[first, np.arange(count)], 0)
    return Line(np.where(inside, at, fallback), filled[..., 0].T, filled[..., 1].T)


@rule("MaxPool")
def _max_pool(s: Step) -> ir.Value:
    """Give each window's gradient to its first largest element, even if that is infinite.

    One axis after the other, the last one first: the maximum over a window is that of the maxima of its rows. So the
    work grows with the sum of the kernel's sides, not with their product. Channels are moved to the end meanwhile,
    where whole runs of them are copied.
    """
    op, window = s.op, window_of(s, list(s.attribute("kernel_shape")), s.x, s.y)
    channels, *sizes = s.static(s.x, 1)
    counts, axes = s.static(s.y, 2), range(len(sizes))
    lines = [line_of(window, axis, sizes[axis], counts[axis]) for axis in axes]

    def line_shape(axis: int, *lengths: int) -> tuple[int | None, ...]:
        # The axes before are as they were, and joined to the batch; those behind are done.
        return None, *lengths, product(counts[axis + 1 :]) * channels

    def gathered(value: ir.Value, axis: int, length: int, table: Int64Array) -> ir.Value:
        # A table of one axis, and ranks of three: QNN takes no ArgMax over more than four axes.
        taken = op.Gather(op.reshape(value, line_shape(axis, length)), op.constant(table.ravel()), axis=1)
        return op.reshape(taken, line_shape(axis, *table.shape))

    x = op.Transpose(s.x, perm=[0, *(axis + 2 for axis in axes), 1])
    winners = {}
    for axis in reversed(axes):
        taps = gathered(x, axis, sizes[axis], lines[axis].read)
        winners[axis] = op.ArgMax(taps, axis=1, keepdims=0)
        x = op.ReduceMax(taps, op.ints([1]), keepdims=0) if axis else x
    dx = op.Transpose(s.dy, perm=[0, *(axis + 2 for axis in axes), 1])
    for axis, line in enumerate(lines):
        won = op.Equal(gathered(winners[axis], axis, counts[axis], line.window), op.constant(line.tap[..., None]))
        received = gathered(dx, axis, counts[axis], line.window)
        dx = op.ReduceSum(op.Where(won, received, s.like(0)), op.ints([1]), keepdims=0)
    return op.Transpose(op.reshape(dx, (None, *sizes, channels)), perm=[0, len(sizes) + 1, *(a + 1 for a in axes)])


@rule("AveragePool")
def _average_pool(s: Step) -> ir.Value:
    kernel = list(s.attribute("kernel_shape"))
    window = window_of(s, kernel, s.x, s.y)
    channels = s.static(s.x, 1)[0]
    weights, dy, share = np.ones((channels, 1, *kernel)), s.dy, shares(s, kernel)
    if (share == share.max()).all():
        weights *= share.max()
    else:
        dy = s.op.Mul(dy, s.like(share))
    return spread(s, dy, s.like(weights), window, channels)


def shares(s: Step, kernel: list[int]) -> Float64Array:
    """Return the weight that each window gives to what is in it, as (1, 1, *grid).

    It is measured: padding counts or not, by `count_include_pad`, and the border that `ceil_mode` or `auto_pad` added
    counts in some versions of the operator.
    """
    shares = np.ones((1, 1))
    for axis, size in enumerate(s.static(s.x, 2)):
        shares = shares[..., None] * responses(s, axis, kernel, size).max(axis=0)
    return shares


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


@rule("LpPool")
def _lp_pool(s: Step) -> ir.Value:
    kernel = list(s.attribute("kernel_shape"))
    window = window_of(s, kernel, s.x, s.y)
    channels = s.static(s.x, 1)[0]
    ones = s.like(np.ones((channels, 1, *kernel)))
    return _of_norm(s, lambda dy: spread(s, dy, ones, window, channels))


@rule("GlobalLpPool")
def _global_lp_pool(s: Step) -> ir.Value:
    return _of_norm(s, lambda dy: dy)


def _of_norm(s: Step, adjoint: Callable[[ir.Value], ir.Value]) -> ir.Value:
    """Return the gradient of a norm of what is in a window: |x|^(p - 1) sign(x) y^(1 - p), 0 where all is 0.

    Args:
        s: The step.
        adjoint: Returns the sum over the windows that an element is in.
    """
    op, p = s.op, int(s.attribute("p", 2))
    if p == 1:
        return op.Mul(adjoint(s.dy), op.Sign(s.x))
    least = float(np.finfo(numpy_type(s.x)).max) ** (-1 / (p - 1))  # of which the power is finite
    power = s.y if p == 2 else op.Pow(s.y, s.like(p - 1))
    dx = adjoint(op.Where(op.Greater(s.y, s.like(least)), op.Div(s.dy, power), s.like(0)))
    if p == 2:
        return op.Mul(dx, s.x)
    size = op.Pow(op.Abs(s.x), s.like(p - 1))
    return op.Mul(dx, op.Mul(size, op.Sign(s.x)))


@rule("MaxUnpool")
def _max_unpool(s: Step) -> ir.Value:
    kernel = s.attribute("kernel_shape")
    if any(k > st for k, st in zip(kernel, s.attribute("strides", [1] * len(kernel)), strict=True)):
        raise NotImplementedError("windows that overlap, of which one writes over another")
    return s.op.Gather(s.op.Reshape(s.dy, s.op.ints([-1])), s.input(1), axis=0)


@rule("Col2Im")
def _col_to_image(s: Step) -> ir.Value:
    """Return the columns of the gradient: what each element is summed to."""
    image, kernel = s.array(1).tolist(), s.array(2).tolist()
    n = len(kernel)
    strides, dilations = (s.attribute(name, [1] * n) for name in ("strides", "dilations"))
    pads = s.attribute("pads", [0] * 2 * n)
    rest = [
        i + a + b - (k - 1) * d - 1 for i, a, b, k, d in zip(image, pads[:n], pads[n:], kernel, dilations, strict=True)
    ]
    window = Window(*map(tuple, (kernel, strides, dilations, pads[:n], pads[n:])))
    taken = windows(s, s.dy, window, [r // st + 1 for r, st in zip(rest, strides, strict=True)])
    axes = range(n)
    taken = s.op.Transpose(taken, perm=[0, 1, *(2 + 2 * a for a in axes), *(3 + 2 * a for a in axes)])
    return s.op.reshape_as(taken, s.x)
