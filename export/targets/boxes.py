"""The scores of boxes, appended to a graph behind its detections.

The score that is differentiated is one anchor's: a weighted sum of the edges of its box and of its number of the class.
The confidence is the similarity of D-RISE (Petsiuk and others, arXiv 2006.03204, equation 4), with the class score in
place of the cosine of score vectors: the largest product, over all anchors, of the overlap with the box of the target
and the score of its class. Masked pictures are scored by it, as the anchor of a detection may change under a mask.
"""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.targets.arrangement import CROSSWISE, Arrangement, Targets, one_hot
from fusioncam.forms import SIDES, Form
from fusioncam.manifest import Ending

LEAST = 1e-9  # pixels of area that are divided by
END = np.iinfo(np.int64).max
NEVER = np.finfo(np.float32).min  # the number of a class that is never detected


def of_boxes(
    form: Form, op: Ops, detections: ir.Value, targets: Targets, arrangement: Arrangement, ending: Ending
) -> tuple[ir.Value, ir.Value]:
    """Return scores and confidences of targets: the anchor's score and the similarity; crosswise both are the latter.

    Args:
        form: The normal form.
        op: Appends nodes.
        detections: The normal form, (N, A, columns).
        targets: The tensors of targets.
        arrangement: How targets meet pictures.
        ending: What makes scores of the numbers of classes.
    """
    boxes = _columns(op, detections, 0, SIDES)
    numbers = _columns(op, detections, SIDES, END)
    z = _of_class(form, op, numbers, targets["class_index"], arrangement)
    overlap = overlaps(op, arrangement.beside(op, targets["box"]), boxes)
    gains = op.Mul(overlap, _probability(form, op, numbers, z, ending))
    anchor, weights = (arrangement.beside(op, targets[name]) for name in ("anchor", "weights"))
    marks = _marks(op, gains, anchor, form.output.shape[0])
    of_class = _at(op, weights, SIDES)
    of_box = op.Equal(of_class, op.constant(0, np.float32))
    confidence = op.Where(of_box, _picked(op, overlap, marks), op.ReduceMax(gains, op.ints([2]), keepdims=0))
    if arrangement.crosswise:
        return confidence, confidence
    score = op.Mul(of_class, _picked(op, z, marks))
    for side in range(SIDES):
        edge = op.Transpose(_columns(op, boxes, side, side + 1), perm=[0, 2, 1])
        score = op.Add(score, op.Mul(_at(op, weights, side), _picked(op, edge, marks)))
    return score, confidence


def best_fit(form: Form, op: Ops, detections: ir.Value, targets: Targets, ending: Ending) -> tuple[Targets, ir.Value]:
    """Return the target of the detection that one target names, and whether there is one, (1,).

    What a target leaves open is what fits best: a class below zero, an anchor below zero, a box without an area. The
    box becomes that of the anchor, and weights of zeros those of the class. A box that overlaps none names nothing.

    Args:
        form: The normal form.
        op: Appends nodes.
        detections: The normal form of one picture, (1, A, columns).
        targets: The tensors of one target.
        ending: What makes scores of the numbers of classes.
    """
    class_index, _, anchor, weights = (targets[t.name] for t in form.targets)
    boxes, numbers = _columns(op, detections, 0, SIDES), _columns(op, detections, SIDES, END)
    none, fits = op.constant(0, np.float32), _fits(op, boxes, targets, form.output.shape[0])

    def gains(z: ir.Value) -> ir.Value:
        return op.Mul(fits, _probability(form, op, numbers, z, ending))

    of_classes = gains(op.Transpose(_listed(form, op, numbers), perm=[0, 2, 1]))
    top = op.ArgMax(op.ReduceMax(of_classes, op.ints([2]), keepdims=0), axis=1, keepdims=0)
    chosen = op.Where(op.Less(class_index, op.ints([0])), top, class_index)
    own = gains(_of_class(form, op, numbers, chosen, CROSSWISE))
    best = op.Squeeze(op.ArgMax(own, axis=2, keepdims=0), op.ints([1]))
    at = op.Where(op.Less(anchor, op.ints([0])), best, anchor)
    is_there = op.Greater(op.Squeeze(op.Gather(fits, at, axis=2), op.ints([1, 2])), none)
    is_blank = op.LessOrEqual(op.ReduceMax(op.Abs(weights), op.ints([1]), keepdims=1), none)
    usual = op.Where(is_blank, op.constant(np.eye(SIDES + 1)[None, SIDES], np.float32), weights)
    box = op.Squeeze(op.Gather(boxes, at, axis=1), op.ints([1]))
    return {"class_index": chosen, "box": box, "anchor": at, "weights": usual}, is_there


def _fits(op: Ops, boxes: ir.Value, targets: Targets, anchors: int) -> ir.Value:
    """Return how well each anchor fits a target, (1, 1, A): 1 at the one given, else the overlap with its box."""
    anchor, box = targets["anchor"], targets["box"]
    area = _area(op, [op.Gather(box, op.ints([side]), axis=1) for side in range(SIDES)])
    overlap = overlaps(op, op.Unsqueeze(box, op.ints([1])), boxes)
    of_box = op.Where(op.LessOrEqual(area, op.constant(0, np.float32)), op.constant(1, np.float32), overlap)
    is_it = op.Cast(op.Equal(_places(op, anchors), anchor), to=ir.DataType.FLOAT)
    return op.Where(op.Less(anchor, op.ints([0])), of_box, is_it)


def overlaps(op: Ops, targets: ir.Value, boxes: ir.Value) -> ir.Value:
    """Return the intersection over union (N, T, A) of boxes (1 or N, T, 4) of targets and boxes (N, A, 4)."""
    of_target = [_columns(op, targets, k, k + 1) for k in range(SIDES)]
    of_anchor = [op.Transpose(_columns(op, boxes, k, k + 1), perm=[0, 2, 1]) for k in range(SIDES)]

    pairs = zip((op.Max, op.Max, op.Min, op.Min), of_target, of_anchor, strict=True)
    shared = _area(op, [nearer(a, b) for nearer, a, b in pairs])
    union = op.Sub(op.Add(_area(op, of_target), _area(op, of_anchor)), shared)
    return op.Div(shared, op.Max(union, op.constant(LEAST, np.float32)))


def _area(op: Ops, sides: Sequence[ir.Value]) -> ir.Value:
    """Return the area of boxes by their x1, y1, x2 and y2."""
    zero = op.constant(0, np.float32)
    x1, y1, x2, y2 = sides
    return op.Mul(op.Max(op.Sub(x2, x1), zero), op.Max(op.Sub(y2, y1), zero))


def _columns(op: Ops, value: ir.Value, start: int, stop: int) -> ir.Value:
    return op.Slice(value, op.ints([start]), op.ints([stop]), op.ints([2]))


def _at(op: Ops, weights: ir.Value, place: int) -> ir.Value:
    """Return one weight of each target, with its last axis taken off."""
    return op.Squeeze(_columns(op, weights, place, place + 1), op.ints([2]))


def _of_class(form: Form, op: Ops, numbers: ir.Value, class_index: ir.Value, arrangement: Arrangement) -> ir.Value:
    """Return the numbers (N, T, A) of the classes at all anchors; row by row, -1 is the class of the highest one."""
    if arrangement.crosswise:
        return op.Transpose(op.Gather(numbers, class_index, axis=2), perm=[0, 2, 1])
    top = op.ArgMax(op.ReduceMax(_listed(form, op, numbers), op.ints([1]), keepdims=0), axis=1, keepdims=1)
    marks = op.Unsqueeze(one_hot(op, class_index, top, form.output.shape[1] - SIDES), op.ints([2]))
    return op.Transpose(op.MatMul(numbers, marks), perm=[0, 2, 1])


def _listed(form: Form, op: Ops, numbers: ir.Value) -> ir.Value:
    """Return the numbers (N, A, C) of all classes; that of the background is the lowest."""
    assert form.detector is not None
    background = form.detector.background
    listed = _columns(op, numbers, 0, form.classes)
    if background is None or background >= form.classes:
        return listed
    never = np.where(np.arange(form.classes) == background, NEVER, 0)
    return op.Add(listed, op.constant(never, np.float32))


def _probability(form: Form, op: Ops, numbers: ir.Value, z: ir.Value, ending: Ending) -> ir.Value:
    """Return the scores (N, T, A) of the classes whose numbers are z."""
    if ending in ("sigmoid", "value"):
        return op.Sigmoid(z) if ending == "sigmoid" else z
    assert form.detector is not None
    classes = _columns(op, numbers, 0, form.detector.numbers(form.classes))
    total = op.Transpose(op.ReduceLogSumExp(classes, op.ints([2]), keepdims=1), perm=[0, 2, 1])
    return op.Exp(op.Sub(z, total))


def _marks(op: Ops, gains: ir.Value, anchor: ir.Value, anchors: int) -> ir.Value:
    """Return a 1 at the anchor of each target, (N, T, A) float32; below zero it is the one of the highest gain."""
    best = op.ArgMax(gains, axis=2, keepdims=0)
    chosen = op.Unsqueeze(op.Where(op.Less(anchor, op.ints([0])), best, anchor), op.ints([2]))
    return op.Cast(op.Equal(chosen, _places(op, anchors)), to=ir.DataType.FLOAT)


def _places(op: Ops, anchors: int) -> ir.Value:
    return op.constant(np.arange(anchors, dtype=np.int64))


def _picked(op: Ops, values: ir.Value, marks: ir.Value) -> ir.Value:
    """Return the values (N, T) at the marks, of values (N, T, A)."""
    return op.ReduceSum(op.Mul(values, marks), op.ints([2]), keepdims=0)
