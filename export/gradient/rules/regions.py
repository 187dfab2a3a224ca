"""RoiAlign: means or maxima of points in boxes (He et al. 2017, arXiv 1703.06870).

A mean over a grid of points is a matrix along each axis. So the gradient needs no sum over computed places: it is a
product of the boxes' matrices, in which a box of another picture has no part.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.points import added, numbered
from fusioncam.export.gradient.rules.table import Step, rule
from fusioncam.export.gradient.tape import Ops, dims

PICTURE, BOXES, OWNER = range(3)


@dataclass(frozen=True)
class Places:
    """Points along one axis of the picture: R boxes of n bins, each with S points.

    Attributes:
        place: Their places, (R, n, S); 0 is the middle of the first element.
        seen: Whether they count, as those far outside do not, (R, n, S).
        part: Their places in the box, as a number of bins from its start: (R or 1, n, S).
        wide: Whether the end of the box counts, and not the least size in its place; None where it always does.
        count: The number S of points of a bin, (R or 1, 1, 1).
    """

    place: ir.Value
    seen: ir.Value
    part: ir.Value
    wide: ir.Value | None
    count: ir.Value


@dataclass(frozen=True)
class Side:
    """The matrices of boxes along one axis of the picture.

    Attributes:
        s: The step.
        points: The points.
        size: The number of elements of the axis.
        away: How far points are from elements, (R, n, S, size).
    """

    s: Step
    points: Places
    size: int
    away: ir.Value

    @property
    def share(self) -> ir.Value:
        """Return the weight that a bin gives to each element, without its number of points: (R, n, size)."""
        op, s = self.s.op, self.s
        weight = op.Relu(op.Sub(s.like(1), op.Abs(self.away)))
        seen = op.Unsqueeze(self.points.seen, op.ints([3]))
        return op.ReduceSum(op.Where(seen, weight, s.like(0)), op.ints([2]), keepdims=0)

    @property
    def slope(self) -> ir.Value:
        """Return the derivatives of points' weights by their places, (R, n, S, size); on an element, to the right."""
        op, s, place = self.s.op, self.s, self.points.place
        moves = op.And(op.GreaterOrEqual(place, s.like(0)), op.Less(place, s.like(self.size - 1)))
        moves = op.Unsqueeze(op.And(self.points.seen, moves), op.ints([3]))
        read = op.And(op.GreaterOrEqual(self.away, s.like(-1)), op.Less(self.away, s.like(1)))
        slope = op.Where(op.Less(self.away, s.like(0)), s.like(1), s.like(-1))
        return op.Where(op.And(moves, read), slope, s.like(0))


def _side(s: Step, boxes: ir.Value, first: int, size: int, bins: int) -> Side:
    """Return what boxes do along the axis whose start and end are their columns `first` and `first` + 2."""
    points = _points(s, boxes, first, size, bins)
    near = s.op.Unsqueeze(s.op.Clip(points.place, s.like(0), s.like(size - 1)), s.op.ints([3]))
    return Side(s, points, size, s.op.Sub(near, s.like(np.arange(size))))


def _points(s: Step, boxes: ir.Value, first: int, size: int, bins: int) -> Places:
    """Return the places of the points along an axis."""
    op, scale = s.op, float(s.attribute("spatial_scale", 1.0))
    shifted = s.attribute("coordinate_transformation_mode", "half_pixel") == "half_pixel"

    def edge(column: int) -> ir.Value:
        edge = op.Mul(op.Unsqueeze(op.Gather(boxes, op.ints([column]), axis=1), op.ints([2])), s.like(scale))
        return op.Sub(edge, s.like(0.5)) if shifted else edge

    start, end = edge(first), edge(first + 2)
    length, wide = op.Sub(end, start), None
    if not shifted:
        length, wide = op.Max(length, s.like(1)), op.Greater(length, s.like(1))
    step = op.Div(length, s.like(bins))
    ratio = int(s.attribute("sampling_ratio", 0))
    if ratio > 0:
        count, sample = s.like(np.full((1, 1, 1), ratio)), s.like(np.arange(ratio).reshape(1, 1, -1))
    else:
        count = op.Ceil(step)
        most = op.ReduceMax(op.Concat(op.Reshape(count, op.ints([-1])), s.like([1]), axis=0), op.ints([0]), keepdims=0)
        sample = op.Reshape(op.Range(s.like(0), most, s.like(1)), op.ints([1, 1, -1]))
    part = op.Add(
        s.like(np.arange(bins).reshape(1, -1, 1)), op.Div(op.Add(sample, s.like(0.5)), op.Max(count, s.like(1)))
    )
    place = op.Add(start, op.Mul(step, part))
    seen = op.And(op.GreaterOrEqual(place, s.like(-1)), op.LessOrEqual(place, s.like(size)))
    seen = seen if ratio > 0 else op.And(seen, op.Less(sample, count))
    return Places(place, seen, part, wide, count)


@rule("RoiAlign", every_input=True)
def _roi_align(s: Step) -> ir.Value:
    height, width = s.static(s.input(PICTURE), 2)
    if s.attribute("mode", "avg") != "avg":
        return _of_maximum(s, height, width)
    op, (channels, rows, columns) = s.op, s.static(s.y, 1)
    boxes, owner, dy = s.input(BOXES), s.input(OWNER), s.dy
    if s.index == PICTURE and dims(s.y)[0] is None:
        boxes, owner, dy = _that_matter(op, boxes, owner, dy)
    down, across = _side(s, boxes, 1, height, rows), _side(s, boxes, 0, width, columns)
    points = op.Max(op.Mul(down.points.count, across.points.count), s.like(1))
    dy = op.Div(dy, op.Unsqueeze(points, op.ints([3])))
    if s.index == PICTURE:
        part = op.MatMul(dy, op.Unsqueeze(across.share, op.ints([1])))
        part = op.Reshape(op.Transpose(part, perm=[0, 2, 1, 3]), op.ints([-1, channels * width]))
        whole = op.reshape(
            op.MatMul(_of_pictures(s, owner, down, height, rows), part), (dims(s.x)[0], height, channels, width)
        )
        return op.Transpose(whole, perm=[0, 2, 1, 3])
    swapped = [op.Transpose(value, perm=[0, 1, 3, 2]) for value in (s.input(PICTURE), dy)]
    by_x = _by_side(s, across, down, swapped[0], swapped[1], (channels, width, height), (columns, rows))
    by_y = _by_side(s, down, across, s.input(PICTURE), dy, (channels, height, width), (rows, columns))
    return op.Concat(by_x[0], by_y[0], by_x[1], by_y[1], axis=1)


def _that_matter(op: Ops, *of_boxes: ir.Value) -> list[ir.Value]:
    """Return the rows of tensors of boxes, the last their gradient, whose gradient is not zero.

    A target of one box has a gradient there alone, and detectors propose a thousand.
    """
    largest = op.ReduceMax(op.Abs(of_boxes[-1]), op.ints([1, 2, 3]), keepdims=0)
    places = op.Squeeze(op.NonZero(largest), op.ints([0]))
    return [op.Gather(value, places, axis=0) for value in of_boxes]


def _of_pictures(s: Step, owner: ir.Value, side: Side, size: int, bins: int) -> ir.Value:
    """Return what the bins give to the elements of each picture: (B, size, R bins), 0 for boxes of another picture."""
    op = s.op
    rows = op.Transpose(op.Reshape(side.share, op.ints([-1, size])), perm=[1, 0])
    owner = op.Reshape(op.Expand(op.Unsqueeze(owner, op.ints([1])), op.ints([1, bins])), op.ints([-1]))
    picture = op.reshape(numbered(s, s.input(PICTURE)), (None, 1, 1))
    return op.Where(op.Equal(op.Cast(owner, to=ir.DataType.INT64), picture), rows, s.like(0))


def _by_side(
    s: Step,
    side: Side,
    other: Side,
    picture: ir.Value,
    dy: ir.Value,
    shape: tuple[int, int, int],
    bins: tuple[int, int],
) -> tuple[ir.Value, ir.Value]:
    """Return the gradient by starts and ends of the boxes along one side, each (R, 1).

    Args:
        s: The step.
        side: The boxes along that side.
        other: The boxes along the other.
        picture: The pictures, (B, C, size, size of the other side).
        dy: The gradient, (R, C, bins, bins of the other side).
        shape: C and the sizes.
        bins: The bins of both sides.
    """
    op, (channels, size, over) = s.op, shape
    lines = op.reshape(picture, (None, channels * size, over))
    read = op.ReduceSum(
        op.MatMul(lines, _of_pictures(s, s.input(OWNER), other, over, bins[1])), op.ints([0]), keepdims=0
    )
    read = op.Transpose(op.Reshape(read, op.ints([channels, size, -1, bins[1]])), perm=[2, 0, 3, 1])
    read = op.Reshape(read, op.ints([-1, channels * bins[1], size]))
    given = op.Reshape(op.Transpose(dy, perm=[0, 2, 1, 3]), op.ints([-1, bins[0], channels * bins[1]]))
    slope = op.Mul(side.slope, op.Unsqueeze(op.MatMul(given, read), op.ints([2])))
    by_place = op.ReduceSum(slope, op.ints([3]), keepdims=0)
    scale = s.like(float(s.attribute("spatial_scale", 1.0)))
    moved = op.Mul(op.ReduceSum(by_place, op.ints([1, 2]), keepdims=1), scale)
    by_end = op.ReduceSum(op.Div(op.Mul(by_place, side.points.part), s.like(bins[0])), op.ints([1, 2]), keepdims=1)
    by_end = op.Mul(by_end, scale)
    by_end = by_end if side.points.wide is None else op.Where(side.points.wide, by_end, s.like(0))
    return op.Squeeze(op.Sub(moved, by_end), op.ints([2])), op.Squeeze(by_end, op.ints([2]))


def _of_maximum(s: Step, height: int, width: int) -> ir.Value:
    """Return the gradient by the picture of the largest product of an element and its weight, as onnxruntime takes it.

    Raises:
        NotImplementedError: The boxes depend on the layer, or the number of points on the boxes.
    """
    op, (channels, rows, columns), ratio = s.op, s.static(s.y, 1), int(s.attribute("sampling_ratio", 0))
    if s.index != PICTURE:
        raise NotImplementedError("boxes that depend on the layer, with mode max")
    if ratio <= 0:
        raise NotImplementedError("mode max without a sampling_ratio")
    index, weight = [], []
    for column, size, bins, shape in (
        (1, height, rows, (rows, 1, 2 * ratio, 1)),
        (0, width, columns, (1, columns, 1, 2 * ratio)),
    ):
        points = _points(s, s.input(BOXES), column, size, bins)
        near = op.Clip(points.place, s.like(0), s.like(size - 1))
        before = op.Floor(near)
        after = op.Sub(near, before)
        pair = op.Concat(op.Sub(s.like(1), after), after, axis=2)
        known = op.Where(op.Concat(points.seen, points.seen, axis=2), pair, s.like(0))
        at = op.Min(op.Concat(before, op.Add(before, s.like(1)), axis=2), s.like(size - 1))
        weight.append(op.reshape(known, (None, *shape)))
        index.append(op.reshape(op.Cast(at, to=ir.DataType.INT64), (None, *shape)))
    bins, reads = rows * columns, (2 * ratio) ** 2
    weights = op.reshape(op.Mul(*weight), (None, bins, reads, 1))
    first = op.Mul(
        op.reshape(op.Cast(s.input(OWNER), to=ir.DataType.INT64), (None, 1, 1, 1, 1)), op.ints([height * width])
    )
    at = op.Add(op.Add(op.Mul(index[0], op.ints([width])), index[1]), first)
    at = op.reshape(at, (None, bins, reads))
    elements = op.Transpose(op.reshape(s.x, (None, channels, height * width)), perm=[0, 2, 1])
    elements = op.Reshape(elements, op.ints([-1, channels]))
    winner = op.ArgMax(op.Mul(op.Gather(elements, at, axis=0), weights), axis=2, keepdims=1)
    chosen = op.Equal(winner, op.constant(np.arange(reads).reshape(1, 1, -1, 1)))
    dy = op.Transpose(op.reshape(s.dy, (None, channels, bins, 1)), perm=[0, 2, 3, 1])
    given = op.Where(chosen, op.Mul(dy, weights), s.like(0))
    return added(s, at, given, s.x, channels)
