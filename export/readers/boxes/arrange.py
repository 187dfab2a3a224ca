"""The nodes that bring the tensors of a detector into the normal form: corners in pixels, then numbers of classes."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.detector import KEYPOINT
from fusioncam.errors import ModelError
from fusioncam.export.gradient import Ops, dims
from fusioncam.export.readers.boxes.coding import SMALLEST, Coding, cell_corners
from fusioncam.export.readers.boxes.cuts import NEVER
from fusioncam.export.readers.boxes.peeling import take_off_ending
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Size
from fusioncam.manifest import Ending

CERTAIN = {"value": 1, "softmax": 0, "sigmoid": -NEVER}  # the number of the background of no object, others `NEVER`
END = np.iinfo(np.int64).max  # of a slice: all the rest


def arrange_boxes(
    op: Ops, raw: Sequence[ir.Value], coding: Coding, classes: int, size: Size
) -> tuple[ir.Value, Ending]:
    """Append the nodes that make the normal form (N, A, 4 + classes + extras); return it, and its ending.

    A Sigmoid or Softmax that closes the classes alone is taken off: then the numbers are logits.

    Args:
        op: Appends nodes.
        raw: The tensors of the detector, in float32; their shapes are known.
        coding: What they mean.
        classes: The numbers of classes, background included.
        size: (H, W) of the input.
    """
    first = coding.before_classes
    ending: Ending = coding.ending
    if ending == "value" and not coding.objectness:
        axis, start = (1 if coding.anchors_last else 2), (0 if coding.tensors == 2 else first)
        ending = take_off_ending(raw[-1], axis, start, start + classes)
    values = [op.Transpose(v, perm=[0, 2, 1]) for v in raw] if coding.anchors_last else list(raw)
    whole = values[0]
    coded = _columns(op, whole, 0, SIDES)
    sides = _corners(op, _in_pixels(op, coded, size) if coding.of_cells else coded, coding, size)
    numbers = values[1] if coding.tensors == 2 else _columns(op, whole, first, first + classes)
    if coding.objectness:
        numbers = op.Mul(numbers, _columns(op, whole, SIDES, SIDES + 1))
    parts = [sides, numbers]
    if coding.extra != "none":
        count = (dims(raw[0])[1 if coding.anchors_last else 2] or 0) - first - classes
        parts[0], extras = _extras(op, sides, coded, _columns(op, whole, first + classes, END), count, coding)
        parts.append(extras)
    return op.Concat(*parts, axis=2), ending


def filled_up(
    op: Ops,
    detections: ir.Value,
    anchors: int,
    columns: int,
    coding: Coding,
    ending: Ending,
    valid: Sequence[ir.Value] = (),
) -> ir.Value:
    """Append the nodes that add rows without an object to the normal form of one picture, so that it has A of them.

    A picture with more than A rows does not run. Rows that are not valid hold no object, either.

    Args:
        op: Appends nodes.
        detections: The normal form (1, rows, columns).
        anchors: A.
        columns: Those of sides and classes; there are no others.
        coding: What they mean.
        ending: Their ending.
        valid: Conditions (rows,).

    Raises:
        ModelError: The numbers of classes are those of a softmax, and none of them is that of no object.
    """
    if ending == "softmax" and coding.background == "none":
        raise ModelError("the second stage gives a softmax of classes without one of no object: it cannot be read")
    row = np.zeros(columns, np.float32)
    row[SIDES:] = 0 if ending == "value" else NEVER
    if coding.background != "none":
        row[SIDES if coding.background == "first" else -1] = CERTAIN[ending]
    for condition in valid:
        is_valid = op.Reshape(op.Cast(condition, to=ir.DataType.BOOL), op.ints([1, -1, 1]))
        detections = op.Where(is_valid, detections, op.constant(row))
    count = op.Sub(op.ints([anchors]), op.Shape(detections, start=1, end=2))
    rest = op.Expand(op.constant(row.reshape(1, 1, -1)), op.Concat(op.ints([1]), count, op.ints([1]), axis=0))
    return op.Reshape(op.Concat(detections, rest, axis=1), op.ints([1, anchors, columns]))


def _columns(op: Ops, value: ir.Value, start: int, stop: int) -> ir.Value:
    return op.Slice(value, op.ints([start]), op.ints([stop]), op.ints([2]))


def _corners(op: Ops, sides: ir.Value, coding: Coding, size: Size) -> ir.Value:
    """Return boxes (N, A, 4) as x1, y1, x2, y2 in pixels: one product with a matrix (4, 4)."""
    half, one = np.eye(2) / 2, np.eye(2)
    matrix = {
        "cxcywh": np.block([[one, one], [-half, half]]),
        "xywh": np.block([[one, one], [np.zeros((2, 2)), one]]),
        "xyxy": np.eye(4),
        "yxyx": np.eye(4)[:, [1, 0, 3, 2]],
    }[coding.sides]
    scale = np.array((size[1], size[0]) * 2 if coding.relative else (1, 1, 1, 1))
    matrix = matrix * scale
    return sides if np.array_equal(matrix, np.eye(4)) else op.MatMul(sides, op.constant(matrix, np.float32))


def _extras(
    op: Ops, sides: ir.Value, coded: ir.Value, extras: ir.Value, count: int, coding: Coding
) -> tuple[ir.Value, ir.Value]:
    """Return the boxes and the `count` numbers that follow the classes, as the normal form has them."""
    if coding.extra == "rotated":
        return _hulls(op, coded, extras), op.Concat(coded, extras, axis=2)
    visible = coding.extra == "keypoints" and coding.keypoint == KEYPOINT
    return sides, _with_logits(op, extras, count) if visible else extras


def _in_pixels(op: Ops, sides: ir.Value, size: Size) -> ir.Value:
    """Return centres and sizes (N, A, 4) of sides that are coded by cells."""
    corners, strides = cell_corners(size)
    centre = op.Add(_columns(op, sides, 0, 2), op.constant(corners, np.float32))
    return op.Mul(op.Concat(centre, op.Exp(_columns(op, sides, 2, SIDES)), axis=2), op.constant(strides, np.float32))


def _hulls(op: Ops, sides: ir.Value, angles: ir.Value) -> ir.Value:
    """Return the smallest upright boxes (N, A, 4) around rotated ones, of centres and sizes, as x1, y1, x2, y2."""
    centre, width, height = (_columns(op, sides, *ends) for ends in ((0, 2), (2, 3), (3, SIDES)))
    cosine, sine = op.Abs(op.Cos(angles)), op.Abs(op.Sin(angles))
    reach = op.Concat(
        op.Add(op.Mul(width, cosine), op.Mul(height, sine)), op.Add(op.Mul(width, sine), op.Mul(height, cosine)), axis=2
    )
    half = op.Mul(reach, op.constant(0.5, np.float32))
    return op.Concat(op.Sub(centre, half), op.Add(centre, half), axis=2)


def _with_logits(op: Ops, keypoints: ir.Value, count: int) -> ir.Value:
    """Return the numbers of keypoints (N, A, 3 K) with the logits of the probabilities that they are visible."""
    likely = op.Clip(keypoints, op.constant(SMALLEST, np.float32), op.constant(1 - SMALLEST, np.float32))
    logits = op.Sub(op.Log(likely), op.Log(op.Sub(op.constant(1, np.float32), likely)))
    return op.Where(op.constant(np.arange(count) % KEYPOINT == KEYPOINT - 1), logits, keypoints)
