"""The search for the ending of a model and its logits.

The end of the model, after its last weights, is run on several pictures. A tensor whose softmax or sigmoid gives the
outputs, in whatever operators that is written, holds the logits; the last such tensor is taken. Without one, rows that
sum to one, and values that can only be in [0, 1], are probabilities, whose logarithm is taken.
"""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.endings.bounds import Interval, bounds, cuts
from fusioncam.export.endings.closers import Closed, before_closers
from fusioncam.export.endings.ranks import refuse_ranks
from fusioncam.export.endings.readings import Make, log_of, logit_of
from fusioncam.export.endings.structure import ModelEnding, hard_sigmoid_of, is_simplex, logits_of, normalised_of
from fusioncam.export.endings.tail import Tail, before_views, tail_of
from fusioncam.manifest import Ending

NORMALISING = ("Softmax", "LogSoftmax", "Hardmax")
SUMS = (1.0, 100.0)
HALF_DIGITS = 2.0**-10  # of an ending computed in float16, beside its size


def find_ending(model: ir.Model, batch: int, wanted: Ending | None) -> ModelEnding:
    """Return the ending of a model, with its logits.

    Args:
        model: A model with the input `image` and one output.
        batch: The only batch that the model takes, or 1.
        wanted: The ending that the user names. With `value` the output is explained as it is.

    Raises:
        ModelError: The model cannot be run, or its output is always 1.
    """
    output = model.graph.outputs[0]
    plain = ModelEnding(before_views(output), "logits", "logits")
    if wanted == "value":
        return plain
    tail = tail_of(model, batch)
    if (number := _before_always_one(tail, wanted)) is not None:
        return ModelEnding(number, "softmax", "softmax of one number")
    if output not in tail.values or not tail.values[output].size or not _is_list(tail.shapes[output], batch):
        return plain
    with np.errstate(all="ignore"):  # a tensor that is tried and does not fit may overflow
        ending = _search(tail, wanted) or plain
    floor = tail.floors.get(ending.value) if ending.ending != "logits" else None
    return replace(ending, order=_batch_first(tail, ending.value), floor=floor)


def _batch_first(tail: Tail, value: ir.Value) -> list[int] | None:
    """Return the order of axes that brings the batch to the front of a list of numbers; None where it is there."""
    shape = tail.shapes.get(value, ())
    if len(shape) < 2 or shape[0] == tail.batch or tail.batch not in shape:
        return None
    batch = shape.index(tail.batch)
    return [batch, *(axis for axis in range(len(shape)) if axis != batch)]


def _search(tail: Tail, wanted: Ending | None) -> ModelEnding | None:
    _refuse_best_only(tail)
    known = bounds(tail)
    least = HALF_DIGITS if tail.half else 0.0
    closed = [
        replace(c, digits=max(c.digits, least)) for c in before_closers(tail.output, known) if c.value in tail.values
    ]
    cut = any(cuts(node, known) for node in tail.nodes)
    for at in closed:
        ending = hard_sigmoid_of(tail, at, cut)
        if ending is None and not cut:
            ending = logits_of(tail, at) or normalised_of(tail, at, known)
        if ending is not None:
            return ending
    return _by_measuring(tail, closed[0], known, wanted, cut)


def _is_list(shape: tuple[int, ...], batch: int) -> bool:
    """Return whether a tensor has one axis besides the batch, and axes of one."""
    return sum(d != 1 for d in (shape[1:] if batch != 1 else shape)) <= 1


def _before_always_one(tail: Tail, wanted: Ending | None) -> ir.Value | None:
    """Return the number before a softmax of one number, if the user asks for a sigmoid; None without such a softmax.

    Raises:
        ModelError: A softmax is over the batch, or over one number.
    """
    for node in tail.nodes:
        x = node.inputs[0] if node.inputs else None
        if node.op_type not in NORMALISING or x is None or x not in tail.shapes:
            continue
        shape = tail.shapes[x]
        axis = node.attributes.get_int("axis", -1) % max(len(shape), 1)
        if len(shape) > 1 and axis == 0 and shape[0] == tail.batch:
            raise _softmax_error(node, "the batch")
        if shape and shape[axis] == 1 and (np.prod(shape) > 1 or tail.numbers(tail.output) == 1):
            if wanted == "sigmoid" and node.outputs[0] is before_views(tail.output):
                return before_views(x)
            raise _softmax_error(node, "one number")
    return None


def _refuse_best_only(tail: Tail) -> None:
    for node in tail.nodes if tail.numbers(tail.output) == 1 else ():
        x = node.inputs[0] if node.inputs else None
        if node.op_type != "ReduceMax" or x not in tail.values or tail.numbers(node.outputs[0]) != 1:
            continue
        if tail.numbers(x) > 1 and is_simplex(tail.values[x], 1.0, tail):
            raise refuse_ranks(tail.output, node, [])


def _softmax_error(node: ir.Node, over: str) -> ModelError:
    """Return the error for a softmax of the source that is over the wrong axis.

    Args:
        node: The softmax.
        over: The axis: `the batch`, or `one number`.
    """
    axis = node.attributes.get_int("axis", -1)
    remedy = "axis=1" if over == "the batch" else "a sigmoid, or say --ending sigmoid"
    return ModelError(
        f"the model itself is wrong: its node {node.name or node.outputs[0].name!r} is a {node.op_type} over axis "
        f"{axis}, {over}, which is always {0 if 'Log' in node.op_type else 1} for a picture by itself; "
        f"export it again with {remedy}"
    )


def _by_measuring(
    tail: Tail, closed: Closed, known: dict[ir.Value, Interval], wanted: Ending | None, cut: bool
) -> ModelEnding | None:
    """Return the ending of probabilities without logits, which log p or log p / (1 - p) stands for, or None."""
    rows = tail.values[closed.value]
    outputs = closed.scale * rows + closed.offset
    several = rows.shape[1] > 1
    total = next((s for s in SUMS if several and is_simplex(outputs, s, tail)), None)
    if total is not None and not cut and wanted != "sigmoid" and closed.offset == 0:
        text = "probabilities whose logits are out of reach: log p is explained"
        return _unreached(closed, "softmax", text, log_of(closed.scale / total), total / closed.scale)
    if several and not cut and wanted != "sigmoid" and is_simplex(np.exp(outputs), 1, tail) and not closed.rounding:
        text = "logarithms of probabilities whose logits are out of reach: log p is explained"
        return ModelEnding(before_views(tail.output), "softmax", text, reach="out_of_reach", logarithm=True)
    inside = bool(outputs.min() >= 0 and outputs.max() <= 1)
    limits = known.get(tail.output, (-np.inf, np.inf))
    top = next((s for s in SUMS if limits[1] <= s * (1 + 1e-6)), None) if limits[0] >= 0 else None
    if wanted != "softmax" and (top is not None or (wanted == "sigmoid" and inside)):
        text = "probabilities, each by itself, whose logits are out of reach: log p / (1 - p) is explained"
        top = top or 1.0
        make = logit_of(closed.scale / top, closed.offset / top)
        return _unreached(closed, "sigmoid", text, make, top / closed.scale)
    if wanted is None and inside:
        text = "logits, though all within 0..1: if they are probabilities, say --ending sigmoid"
        return ModelEnding(before_views(tail.output), "logits", text, reach="doubtful")
    return None


def _unreached(closed: Closed, ending: Ending, text: str, make: Make, total: float) -> ModelEnding:
    return ModelEnding(
        value=closed.value,
        ending=ending,
        text=text,
        make=make,
        reach="out_of_reach",
        scale=closed.scale * total,
        offset=0.0 if ending == "sigmoid" else closed.offset,
        rounding=closed.rounding + closed.digits * abs(closed.scale * total),
    )
