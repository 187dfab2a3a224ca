"""Convolutions: the gradient of one is another, with the same weights.

Of a stride of 1 it is a Conv with the weights turned round, for which runtimes have faster kernels than for
ConvTranspose; of a greater stride it is a ConvTranspose. Nodes turn the weights, and a session folds these nodes when
it opens the graph: so the file holds weights once. By the weights, the gradient is a product with the windows.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, product, rule
from fusioncam.export.gradient.rules.windows import Window, window_of
from fusioncam.export.gradient.tape import dims
from fusioncam.kernels.arrays import Array

# onnxruntime's fast Conv takes depthwise groups and groups of whole blocks of channels; others are faster transposed.
BLOCK = 16


def spread(s: Step, dy: ir.Value, weights: ir.Value, window: Window, group: int) -> ir.Value:
    """Return the adjoint of a convolution: what each input element receives from the windows it is in."""
    padding = None
    if max(window.strides) > 1 and max(window.dilations) > 1:
        dy, window = _apart(s, dy), replace(window, strides=(1,) * len(window.strides))
    if _by_conv(s, weights, window, group):
        pads = [r - p for r, p in zip(window.reach * 2, window.attributes["pads"], strict=True)]
        seen = s.op.Conv(dy, _turned(s, weights, group), group=group, dilations=list(window.dilations), pads=pads)
    else:
        # What is unseen is smaller than the stride, as output_padding has to be. QNN is wrong about it in groups.
        padding = window.unseen if group == 1 and any(window.unseen) and not window.overlooks else None
        weights = s.op.own(weights)
        seen = s.op.ConvTranspose(dy, weights, group=group, output_padding=padding, **window.attributes)
    if padding or not any((*window.before, *window.unseen)):
        return seen
    return s.op.Pad(seen, s.op.ints([0, 0, *window.before, 0, 0, *window.unseen]))


def _apart(s: Step, dy: ir.Value) -> ir.Value:
    """Return the gradient with stride - 1 zeros between neighbours: TensorRT takes no stride beside dilations."""
    channels, *sizes = s.static(s.y, 1)
    strides = s.attribute("strides")
    pairs = [n for size in sizes for n in (size, 1)]
    zeros = [n for stride in strides for n in (0, stride - 1)]
    filled = s.op.Pad(s.op.reshape(dy, (None, channels, *pairs)), s.op.ints([0] * (4 + len(zeros)) + zeros))
    wide = s.op.reshape(filled, (None, channels, *(n * stride for n, stride in zip(sizes, strides, strict=True))))
    ends = [(n - 1) * stride + 1 for n, stride in zip(sizes, strides, strict=True)]
    return s.op.Slice(wide, s.op.ints([0] * len(ends)), s.op.ints(ends), s.op.ints(range(2, 2 + len(ends))))


def _by_conv(s: Step, weights: ir.Value, window: Window, group: int) -> bool:
    """Return whether the adjoint is a Conv, and one that is no slower than the ConvTranspose."""
    given, taken = s.static(weights)[0] // group, s.static(weights)[1]
    fast = group == 1 or given == taken == 1 or taken % BLOCK == 0 or max(window.dilations) > 1
    within = all(p <= r for r, p in zip(window.reach * 2, window.attributes["pads"], strict=True))
    return max(window.strides) == 1 and fast and within and ir.convenience.get_const_tensor(weights) is not None


def _turned(s: Step, weights: ir.Value, group: int) -> ir.Value:
    """Return weights (M, C / group, *kernel) as those of the adjoint, (C, M / group, *kernel), kernels reversed."""
    op, tensor = s.op, ir.convenience.get_const_tensor(weights)
    assert tensor is not None
    given, taken, *kernel = tensor.numpy().shape
    axes, turned = range(2, 2 + len(kernel)), weights
    if group == 1:
        turned = op.Transpose(turned, perm=[1, 0, *axes])
    elif (given, taken) != (group, 1):
        parts = op.Reshape(turned, op.ints([group, given // group, taken, *kernel]))
        swapped = op.Transpose(parts, perm=[0, 2, 1, *(a + 1 for a in axes)])
        turned = op.Reshape(swapped, op.ints([group * taken, given // group, *kernel]))
    for axis in axes:
        if not _symmetric(tensor.numpy(), axis):
            turned = op.Gather(turned, op.ints(range(kernel[axis - 2])[::-1]), axis=axis)
    return op.own(turned) if turned is weights else turned


def _symmetric(weights: Array, axis: int) -> bool:
    """Return whether weights are the same turned round; the first filter alone says no of most."""
    return weights.shape[axis] == 1 or all(np.array_equal(w, np.flip(w, axis)) for w in (weights[:1], weights))


def windows(s: Step, value: ir.Value, window: Window, counts: Sequence[int]) -> ir.Value:
    """Return the elements in the windows, (N, C, taps of an axis, windows along it, taps of the next, ...).

    Args:
        s: The step.
        value: What the windows are over, (N, C, *sizes).
        window: The sliding window.
        counts: The number of windows along each axis.
    """
    op, pads = s.op, [max(p, 0) for p in (*window.begin, *window.end)]
    half = len(counts)
    if any(pads):
        value = op.Pad(value, op.ints([0, 0, *pads[:half], 0, 0, *pads[half:]]))
    for axis in reversed(range(half)):  # so that the axes before stay where they are
        starts = np.arange(counts[axis]) * window.strides[axis] + window.before[axis]
        taps = np.arange(window.kernel[axis]) * window.dilations[axis]
        value = op.Gather(value, op.constant(taps[:, None] + starts), axis=2 + axis)
    return value


def _by_weights(s: Step, wide: ir.Value, narrow: ir.Value, window: Window, group: int) -> ir.Value:
    """Return the gradient by weights (channels of `narrow`, channels of `wide` / group, *kernel).

    Args:
        s: The step.
        wide: What the windows are over, or its gradient.
        narrow: What has a number for each window, or its gradient; of the shape of the node's input or output.
        window: The sliding window.
        group: The number of groups.
    """
    op, shape = s.op, s.static(s.input(1))
    counts = s.static(s.y if s.node.op_type == "Conv" else s.input(0), 2)
    axes = range(len(counts))
    taken = windows(s, wide, window, counts)
    taken = op.Transpose(taken, perm=[1, *(2 + 2 * a for a in axes), 0, *(3 + 2 * a for a in axes)])
    taken = op.Reshape(taken, op.ints([group, product(shape[1:]), -1]))
    given = op.reshape(narrow, (None, group, shape[0] // group, product(counts)))
    given = op.Reshape(op.Transpose(given, perm=[1, 0, 3, 2]), op.ints([group, -1, shape[0] // group]))
    return op.Reshape(op.Transpose(op.MatMul(taken, given), perm=[0, 2, 1]), op.ints(shape))


def by_bias(s: Step) -> ir.Value:
    """Return the sum of the gradient over all axes but that of the channels."""
    return s.op.ReduceSum(s.dy, s.op.ints([0, *range(2, len(dims(s.y)))]), keepdims=0)


@rule("Conv", every_input=True)
def _conv(s: Step) -> ir.Value:
    if s.index == 2:
        return by_bias(s)
    window, group = window_of(s, s.static(s.input(1), 2), s.input(0), s.y), s.attribute("group", 1)
    if s.index == 1:
        return _by_weights(s, s.input(0), s.dy, window, group)
    return spread(s, s.dy, s.input(1), window, group)


@rule("ConvTranspose", every_input=True)
def _conv_transpose(s: Step) -> ir.Value:
    if s.index == 2:
        return by_bias(s)
    window, dy = window_of(s, s.static(s.input(1), 2), s.y, s.input(0)), s.dy
    if s.index == 1:
        return _by_weights(s, dy, s.input(0), window, s.attribute("group", 1))
    if window.overlooks:
        # The borders that `output_shape` added hold the bias alone.
        ends = [size - u for size, u in zip(s.static(s.y, 2), window.unseen, strict=True)]
        dy = s.op.Slice(dy, s.op.ints(window.before), s.op.ints(ends), s.op.ints(range(2, 2 + len(ends))))
    # With a stride of 1, QNN is wrong about windows that lie wholly in the padding. They give zeros.
    steps, wanted = window.strides * 2, window.attributes["pads"]
    pads = [min(p, r) if st == 1 else p for p, r, st in zip(wanted, window.reach * 2, steps, strict=True)]
    attributes = {**window.attributes, "pads": pads}
    dx = s.op.Conv(dy, s.op.own(s.input(1)), group=s.attribute("group", 1), **attributes)
    zeros = [p - q for p, q in zip(wanted, pads, strict=True)]
    half = len(zeros) // 2
    return s.op.Pad(dx, s.op.ints([0, 0, *zeros[:half], 0, 0, *zeros[half:]])) if any(zeros) else dx
