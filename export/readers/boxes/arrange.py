"""The nodes that bring the tensors of a detector into the normal form: corners in pixels, then numbers of classes."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.readers.boxes.coding import Coding
from fusioncam.export.readers.boxes.peeling import take_off_sigmoid
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Size
from fusioncam.manifest import Ending

END = np.iinfo(np.int64).max  # of a slice: all the rest


def arrange_boxes(
    op: Ops, raw: Sequence[ir.Value], coding: Coding, classes: int, size: Size
) -> tuple[ir.Value, Ending]:
    """Append the nodes that make the normal form (N, A, 4 + classes + extras); return it, and its ending.

    A Sigmoid that closes the classes alone is taken off: then the numbers are logits.

    Args:
        op: Appends nodes.
        raw: The tensors of the detector, in float32.
        coding: What they mean.
        classes: The numbers of classes, background included.
        size: (H, W) of the input.
    """
    first, ending = coding.before_classes, coding.ending
    if ending == "value" and not coding.objectness:
        axis, start = (1 if coding.anchors_last else 2), (0 if coding.tensors == 2 else first)
        if take_off_sigmoid(raw[-1], axis, start, start + classes):
            ending = "sigmoid"
    values = [op.Transpose(v, perm=[0, 2, 1]) for v in raw] if coding.anchors_last else list(raw)
    whole = values[0]
    sides = _corners(op, _columns(op, whole, 0, SIDES), coding, size)
    numbers = values[1] if coding.tensors == 2 else _columns(op, whole, first, first + classes)
    if coding.objectness:
        numbers = op.Mul(numbers, _columns(op, whole, SIDES, SIDES + 1))
    parts = [sides, numbers]
    if coding.extra != "none":
        parts.append(_columns(op, whole, first + classes, END))
    return op.Concat(*parts, axis=2), ending


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
