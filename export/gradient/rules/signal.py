"""Fourier transforms. They are linear: the gradient is the transform the other way, or a product with its waves."""

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule
from fusioncam.export.gradient.tape import dims
from fusioncam.kernels.arrays import Float64Array

SIGNAL, STEP, WINDOW, LENGTH = range(4)


@rule("DFT")
def _dft(s: Step) -> ir.Value:
    """Return the transform of the gradient the other way, without its factor 1/n where that was not there.

    Half of a spectrum stands for all of it: it is filled up with zeros, or counts twice where it was completed.
    """
    op, axis, inverse, half = s.op, _axis_of(s), s.attribute("inverse", 0), s.attribute("onesided", 0)
    length, given = s.static(s.x, axis)[0], s.static(s.y, axis)[0]
    if s.has(1):
        length = int(s.array(1))
    elif inverse and half:
        length = given
    bins = length // 2 + 1 if inverse and half else length
    if inverse and half and s.static(s.x, axis)[0] != bins:
        raise NotImplementedError("bins that its length has not, of which onnxruntime makes something of its own")
    if inverse:
        factors = np.full((bins, *[1] * (len(dims(s.x)) - 1 - axis)), (1 + half) / length)
        if half:
            factors[:: length // 2 if length % 2 == 0 else bins] = 1 / length  # its own mirror image counts once
        dx = op.Mul(_transformed(s, s.dy, axis, onesided=half), s.like(factors))
    else:
        dx = op.Mul(_transformed(s, _of_length(s, s.dy, axis, given, length), axis, inverse=1), s.like(length))
    dx = _of_length(s, dx, axis, bins, s.static(s.x, axis)[0])
    return (
        dx if s.static(s.x, axis)[-1] == 2 else op.Slice(dx, op.ints([0]), op.ints([1]), op.ints([len(dims(s.x)) - 1]))
    )


def _opset(s: Step) -> int:
    """Return the version of the graph's operators."""
    assert s.node.graph is not None
    return s.node.graph.opset_imports.get("", 20)


def _axis_of(s: Step) -> int:
    """Return the axis that is transformed, counted from the front."""
    if _opset(s) < 20:
        return s.axis(1)
    return (int(s.array(2)) if s.has(2) else -2) % len(dims(s.x))


def _transformed(s: Step, value: ir.Value, axis: int, **attributes: int) -> ir.Value:
    """Return the transform of a value along an axis, in the form of the graph's version."""
    if _opset(s) < 20:
        return s.op.DFT(value, axis=axis, **attributes)
    return s.op.DFT(value, None, s.op.constant(axis, "int64"), **attributes)


def _of_length(s: Step, value: ir.Value, axis: int, now: int, wanted: int) -> ir.Value:
    """Return a value cut to `wanted` elements along an axis, or filled up with zeros."""
    if wanted < now:
        return s.op.Slice(value, s.op.ints([0]), s.op.ints([wanted]), s.op.ints([axis]))
    more = [0] * 2 * len(dims(s.x))
    more[len(dims(s.x)) + axis] = wanted - now
    return s.op.Pad(value, s.op.ints(more)) if wanted > now else value


@rule("STFT", every_input=True)
def _stft(s: Step) -> ir.Value:
    """Return the sum of the waves at their places, weighted by the gradient: a transposed convolution."""
    if s.index not in (SIGNAL, WINDOW):
        raise NotImplementedError("its step or its length depends on the layer")
    op, signal, step = s.op, s.input(SIGNAL), int(s.array(STEP))
    frames, bins, _ = s.static(s.y, 1)
    length, *parts = s.static(signal, 1)
    count, size = (parts or [1])[0], int(s.array(LENGTH)) if s.has(LENGTH) else s.static(s.input(WINDOW))[0]
    waves = _waves(bins, size)[:, :count]
    dy = op.reshape(s.dy, (None, frames, 2 * bins))
    if s.index == WINDOW:
        by_frames = op.reshape(op.MatMul(dy, s.like(waves.reshape(2 * bins, -1))), (None, frames, count, size))
        at = np.arange(frames)[:, None] * step + np.arange(size)
        read = op.Gather(op.reshape(signal, (None, length, count)), op.constant(at), axis=1)
        products = op.Mul(by_frames, op.Transpose(read, perm=[0, 1, 3, 2]))
        return op.ReduceSum(products, op.ints([0, 1, 2]), keepdims=0)
    weights = op.Mul(s.like(waves), s.input(WINDOW)) if s.has(WINDOW) else s.like(waves)
    dx = op.ConvTranspose(op.Transpose(dy, perm=[0, 2, 1]), weights, strides=[step])
    rest = length - (frames - 1) * step - size
    dx = op.Pad(dx, op.ints([0, 0, 0, 0, 0, rest])) if rest else dx
    return op.reshape_as(op.Transpose(dx, perm=[0, 2, 1]), signal)


def _waves(bins: int, size: int) -> Float64Array:
    """Return what real and imaginary elements add to both parts of each bin, (2 bins, parts of an element, size)."""
    turn = 2 * np.pi * np.arange(bins)[:, None] * np.arange(size) / size
    parts = [[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]
    return np.array(parts).transpose(2, 0, 1, 3).reshape(2 * bins, 2, size)
