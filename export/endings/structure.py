"""Logits that are tensors of the model: each of the last tensors is tried as the source of the outputs."""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from fusioncam.export.endings.bounds import Interval
from fusioncam.export.endings.closers import Closed, undone
from fusioncam.export.endings.outputs import TRACE
from fusioncam.export.endings.readings import (
    LEAST,
    READINGS,
    Make,
    Reading,
    log_of,
    log_sigmoid,
    log_sigmoid_of,
    log_softmax,
    logit_of,
)
from fusioncam.export.endings.tail import VIEWS, Tail, before_views
from fusioncam.export.gradient import Ops, ancestors
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Ending, Reach

LARGEST_LOGARITHM = float(-np.log(TRACE))  # of a probability that is compared
LARGE = 3.0  # of logits: beyond, the digits they have decide how well probabilities agree
FINE, COARSE = 1e-6, 1e-2  # of a sigmoid in float32 and float16: from there on, its digits tell its logarithm
PLAIN: dict[str, Ending] = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
CURVED = ("Softmax", "LogSoftmax", "Sigmoid", "Exp", "Tanh", "Softplus", "ReduceLogSumExp", "Pow")
CLIPPING = ("Clip", "Max", "Min", "Relu")
# Operators of one variable whose results are divided by their sum: the logarithm of each is a logit of its own.
POSITIVE = ("Exp", "Sigmoid", "HardSigmoid", "Softplus", "Relu", "Abs", "Pow", "Sqrt", "Elu", "Celu", "Reciprocal")
UNARY = (*POSITIVE, *VIEWS, "Neg", "Add", "Sub", "Mul", "Div", "Tanh", "Clip", "Max")


@dataclass(frozen=True)
class ModelEnding:
    """The ending of a model.

    Attributes:
        value: The tensor to cut the model at.
        ending: The function that the source applies to its logits.
        text: A description for `inspect`.
        make: Makes the logits of the tensor, as (N, numbers) float32; None where the tensor holds them.
        reach: Whether the logits are the model's own.
        scale: The outputs are scale * (results of the ending) + offset, exact to `rounding`.
        offset: See `scale`.
        rounding: See `scale`.
        logarithm: Whether the ending gives logarithms.
        order: The order of axes that brings the batch to the front; None where it is there.
        floor: The value in place of -infinity in the tensor, in its type; None where it holds none.
    """

    value: ir.Value
    ending: Ending
    text: str
    make: Make | None = None
    reach: Reach = "reached"
    scale: float = 1.0
    offset: float = 0.0
    rounding: float = 0.0
    logarithm: bool = False
    order: list[int] | None = None
    floor: Array | None = None


def logits_of(tail: Tail, closed: Closed) -> ModelEnding | None:
    """Return the ending whose softmax or sigmoid of a tensor gives the outputs, or None."""
    probabilities, fits = tail.values[closed.value], []
    total, numbers = total_of(probabilities), probabilities.shape[1]
    tensors = [
        t for t in tail.before(closed.value) if tail.numbers(t) in (1, 2, numbers) and _is_behind(tail, t, CURVED)
    ]
    for reading in READINGS:
        softmax = reading.ending == "softmax"
        if reading.outputs not in (None, numbers) or (softmax and numbers < 2):
            continue
        scale = total if softmax and not reading.logarithm else 1.0
        tried = [t for t in tensors if tail.numbers(t) == (reading.inputs or numbers)]
        errors = [_disagreement(reading, tail, t, probabilities / scale) for t in tried]
        fits += [(reading, t, scale, e) for t, e in zip(tried, errors, strict=True) if e is not None]
    # Where the outputs are all but 0 and 1 many tensors fit: their logarithms tell which fits best.
    limit = max(1e-3, 2 * min((error for *_, error in fits), default=0.0))
    for reading, t, scale, error in fits:
        value = before_views(t) if reading.ending == "sigmoid" else _before_shifts(t, tail)
        if error <= limit and (reading.ending == "sigmoid" or not _is_normalised(value, tail)):
            found = _reached(tail, closed, reading, value, closed.scale * scale)
            return _before_temperature(tail, found) if reading.ending == "softmax" else found
    return None


def _before_temperature(tail: Tail, ending: ModelEnding) -> ModelEnding:
    """Return the ending at the logits of a softmax whose logarithm, times a number, goes through another softmax."""
    at = Closed(ending.value)
    while (node := at.value.producer()) is not None and node.op_type in ("Mul", "Div", *VIEWS) and node.inputs:
        before = undone(at)
        if before is None:
            return ending
        at = before
    if at.value is ending.value or not _is_normalised(at.value, tail):
        return ending
    inner = logits_of(tail, Closed(at.value))
    if inner is None or inner.make is not None or inner.scale != 1:
        return ending

    def make(op: Ops, x: ir.Value) -> ir.Value:
        return op.Mul(x, op.constant(at.scale, np.float32))

    return replace(ending, value=inner.value, make=make, text=_written(tail, inner.value, "softmax"))


def _is_behind(tail: Tail, value: ir.Value, kinds: tuple[str, ...]) -> bool:
    """Return whether an operator of some kinds lies between a tensor and the output."""
    before = ancestors(value)
    return any(node.op_type in kinds and node not in before for node in tail.nodes)


def _is_normalised(value: ir.Value, tail: Tail) -> bool:
    """Return whether a tensor holds logarithms of probabilities, so that logits may lie before it."""
    if value not in tail.values:
        return False
    return is_simplex(np.exp(tail.values[value]), 1.0, tail)


def _disagreement(reading: Reading, tail: Tail, value: ir.Value, probabilities: Array) -> float | None:
    """Return the largest difference of logarithms where a reading of a tensor gives the probabilities, else None."""
    x = tail.values[value]
    predicted = reading.predict(x)
    p = np.exp(probabilities) if reading.logarithm else probabilities
    tolerance = tail.tolerance * (1 + np.abs(x).max(axis=1, keepdims=True) / LARGE)
    scale = np.maximum(np.abs(p).max(axis=1, keepdims=True), tail.least)
    if not np.isfinite(predicted).all() or not (np.abs(np.exp(predicted) - p) <= tolerance * scale).all():
        return None
    if reading.ending == "sigmoid" and reading.inputs is None and not reading.logarithm:
        # onnxruntime's sigmoid has the digits of 1 only; close to 1, the distance from 1 tells sigmoids apart.
        least, sides = (COARSE if tail.half else FINE), [(np.exp(predicted), p), (-np.expm1(predicted), 1 - p)]
        return max(float(np.abs(np.subtract(*(np.log(np.maximum(v, least)) for v in side))).max()) for side in sides)
    logs = [predicted, probabilities if reading.logarithm else np.log(np.maximum(p, LEAST))]
    return float(np.abs(np.subtract(*(np.maximum(v, np.log(LEAST)) for v in logs))).max())


def _before_shifts(value: ir.Value, tail: Tail) -> ir.Value:
    """Return the tensor before all additions of one number to the logits of a picture, which no softmax sees."""
    while True:
        value = before_views(value)
        node = value.producer()
        if node is None or not node.inputs or (x := node.inputs[0]) is None or tail.numbers(x) != tail.numbers(value):
            return value
        other = node.inputs[1] if node.op_type in ("Sub", "Add") else None
        one = other is not None and (tail.numbers(other) == 1 or getattr(other.const_value, "size", 0) == 1)
        if node.op_type != "LogSoftmax" and not one:
            return value
        value = x


def _written(tail: Tail, value: ir.Value, ending: str) -> str:
    """Return the name of an ending, with its operators where they are not the one of that name."""
    before, used = ancestors(value), ancestors(tail.output)
    kinds = [n.op_type.removeprefix("Reduce") for n in tail.nodes if n in used and n not in before]
    kinds = [k for k in kinds if k not in VIEWS]
    if len(kinds) == 1 and PLAIN.get(kinds[0]) == ending:
        return ending
    return f"{ending}, written as {' / '.join(kinds)}"


def _reached(tail: Tail, closed: Closed, reading: Reading, value: ir.Value, scale: float) -> ModelEnding:
    return ModelEnding(
        value=value,
        ending=reading.ending,
        text=_written(tail, value, reading.ending),
        make=reading.make,
        scale=scale,
        offset=closed.offset,
        rounding=closed.rounding + closed.digits * abs(scale) * (LARGEST_LOGARITHM if reading.logarithm else 1),
        logarithm=reading.logarithm,
    )


def hard_sigmoid_of(tail: Tail, closed: Closed, cut: bool) -> ModelEnding | None:
    """Return the ending of a HardSigmoid, or of anything else that gives clip(a x + 1/2, 0, 1), or None."""
    node = closed.value.producer()
    if node is not None and node.op_type == "HardSigmoid" and node.inputs[0] is not None:
        slope, offset = node.attributes.get_float("alpha", 0.2), node.attributes.get_float("beta", 0.5)
        return _as_hard_sigmoid(tail, closed, node.inputs[0], slope, offset)
    probabilities = tail.values[closed.value]
    inner = (probabilities > 0.01) & (probabilities < 0.99)
    if cut or probabilities.min() < 0 or probabilities.max() > 1 or inner.sum() < 3 or inner.all():
        return None
    for t in tail.before(closed.value):
        x = tail.values[t]
        if x.shape != probabilities.shape or np.ptp(x[inner]) == 0 or not _is_behind(tail, t, CLIPPING):
            continue
        slope, offset = np.polyfit(x[inner], probabilities[inner], 1)
        if abs(offset - 0.5) < 1e-3 and slope > 0:
            error = np.abs(np.clip(slope * x + offset, 0, 1) - probabilities).max()
            if error <= tail.tolerance:
                return _as_hard_sigmoid(tail, closed, t, float(slope), float(offset))
    return None


def _as_hard_sigmoid(tail: Tail, closed: Closed, value: ir.Value, slope: float, offset: float) -> ModelEnding:
    reading = Reading("sigmoid", None, None, log_sigmoid, logit_of(slope, offset))
    return _reached(tail, closed, reading, value, closed.scale)


def normalised_of(tail: Tail, closed: Closed, known: dict[ir.Value, Interval]) -> ModelEnding | None:
    """Return the ending of positive numbers, each of a logit of its own, divided by their sum, or None."""
    probabilities = tail.values[closed.value]
    total = total_of(probabilities)
    if probabilities.shape[1] < 2 or not is_simplex(probabilities, total, tail):
        return None
    for q in reversed(tail.before(closed.value)):
        rows = tail.values[q]
        if rows.shape != probabilities.shape or rows.min() < 0 or not rows.sum(axis=1).min() > 0:
            continue
        if np.abs(rows / rows.sum(axis=1, keepdims=True) - probabilities / total).max() > tail.tolerance:
            continue
        node = before_views(q).producer()
        if node is None or not _of_one_variable(node, known):
            return None
        value, make = (node.inputs[0], log_sigmoid_of) if node.op_type == "Sigmoid" else (q, log_of())
        assert value is not None
        reading = Reading("softmax", None, None, log_softmax, make)
        return _reached(tail, closed, reading, value, closed.scale * total)
    return None


def _of_one_variable(node: ir.Node | None, known: dict[ir.Value, Interval]) -> bool:
    """Return whether each number is a function of one number of a tensor that is no probability itself."""
    curved = False
    while node is not None and node.op_type in UNARY:
        inputs = [v for v in node.inputs if v is not None and v.const_value is None]
        if len(inputs) != 1:
            break
        curved |= node.op_type in POSITIVE
        if curved and inputs[0] not in known:
            return True
        node = inputs[0].producer()
    return False


def is_simplex(rows: Array, total: float, tail: Tail) -> bool:
    """Return whether no number is negative, and each row sums to `total`."""
    return bool(rows.min() >= -1e-6 * abs(total) and np.abs(rows.sum(axis=1) - total).max() <= tail.tolerance * total)


def total_of(rows: Array) -> float:
    """Return the sum of a row, as a whole number where it is one but for rounding."""
    total = float(np.median(rows.sum(axis=1))) or 1.0
    return float(round(total)) if 0 < abs(total - round(total)) < 1e-3 * abs(round(total)) else total
