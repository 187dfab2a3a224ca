"""DeformConv: a convolution whose taps are read at places that are computed (Dai et al. 2017, arXiv 1703.06211)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.convolution import by_bias
from fusioncam.export.gradient.rules.points import LINEAR, Points, neighbours
from fusioncam.export.gradient.rules.table import Step, product, rule

PICTURE, WEIGHTS, OFFSET, BIAS, MASK = range(5)


@dataclass(frozen=True)
class Deformed:
    """The parts of a DeformConv. Channels that share their offsets are pictures of their own: B of them, N by groups.

    Attributes:
        s: The step.
        sizes: The spatial axes of the picture.
        taps: The number of taps of the kernel.
        count: The number of the output's positions.
        channels: The channels that share their offsets.
        weights: The shape of the weights.
    """

    s: Step
    sizes: Sequence[int]
    taps: int
    count: int
    channels: int
    weights: Sequence[int]

    def places(self) -> Points:
        """Return the points that the taps read, B pictures with (taps, count) points."""
        s, op = self.s, self.s.op
        n = len(self.sizes)
        strides, dilations = (s.attribute(name, [1] * n) for name in ("strides", "dilations"))
        pads, kernel, grid = s.attribute("pads", [0] * 2 * n), self.weights[2:], s.static(s.y, 2)
        offset = op.reshape(s.input(OFFSET), (None, self.taps, n, self.count))
        axes = []
        for axis, size in enumerate(self.sizes):
            tap = np.indices(kernel)[axis].reshape(-1, 1) * dilations[axis]
            start = np.indices(grid)[axis].reshape(1, -1) * strides[axis] - pads[axis]
            place = op.Add(op.Gather(offset, op.constant(axis, "int64"), axis=2), s.like(tap + start))
            place = op.reshape(place, (None, self.taps * self.count, 1))
            axes.append(neighbours(s, place, size, LINEAR))
        return Points(s, self.sizes, self.taps * self.count, LINEAR, axes)

    def masked(self, value: ir.Value) -> ir.Value:
        """Return the product of (B, points, channels) and the mask, where there is one."""
        if not self.s.has(MASK):
            return value
        mask = self.s.op.reshape(self.s.input(MASK), (None, self.taps * self.count, 1))
        return self.s.op.Mul(value, mask)

    def by_groups(self, value: ir.Value, channels: int) -> ir.Value:
        """Return (N, groups, channels of a group, positions) of what has `channels` in a group."""
        return self.s.op.reshape(value, (None, int(self.s.attribute("group", 1)), channels, self.count))

    def by_columns(self) -> ir.Value:
        """Return the gradient by what the taps read, after the mask, (B, points, channels)."""
        s, op, group = self.s, self.s.op, int(self.s.attribute("group", 1))
        given = self.weights[0] // group
        weights = op.Reshape(s.input(WEIGHTS), op.ints([group, given, product(self.weights[1:])]))
        columns = op.MatMul(op.Transpose(weights, perm=[0, 2, 1]), self.by_groups(s.dy, given))
        return op.Transpose(op.reshape(columns, (None, self.channels, self.taps * self.count)), perm=[0, 2, 1])

    def by_weights(self, sampled: ir.Value) -> ir.Value:
        """Return the gradient by the weights, of what the taps read, (B, points, channels)."""
        s, op = self.s, self.s.op
        columns = op.Transpose(self.masked(sampled), perm=[0, 2, 1])
        columns = op.Transpose(self.by_groups(columns, product(self.weights[1:])), perm=[0, 1, 3, 2])
        given = self.by_groups(s.dy, self.weights[0] // int(s.attribute("group", 1)))
        products = op.ReduceSum(op.MatMul(given, columns), op.ints([0]), keepdims=0)
        return op.Reshape(products, op.ints(self.weights))


@rule("DeformConv", every_input=True)
def _deform_conv(s: Step) -> ir.Value:
    if s.index == BIAS:
        return by_bias(s)
    op, (channels, *sizes), weights = s.op, s.static(s.input(PICTURE), 1), s.static(s.input(WEIGHTS))
    shared = channels // int(s.attribute("offset_group", 1))
    deformed = Deformed(s, sizes, product(weights[2:]), product(s.static(s.y, 2)), shared, weights)
    points = deformed.places()
    if s.index == PICTURE:
        return points.spread(deformed.masked(deformed.by_columns()), s.x, shared)
    read = points.read(s.input(PICTURE), shared)
    if s.index == WEIGHTS:
        return deformed.by_weights(points.sampled(read))
    if s.index == MASK:
        products = op.Mul(points.sampled(read), deformed.by_columns())
        return op.reshape_as(op.ReduceSum(products, op.ints([2]), keepdims=0), s.x)
    slopes = op.Concat(*points.slopes(read, deformed.masked(deformed.by_columns())), axis=2)
    slopes = op.reshape(slopes, (None, deformed.taps, deformed.count, len(sizes)))
    return op.reshape_as(op.Transpose(slopes, perm=[0, 1, 3, 2]), s.x)
