"""Bounds of the values of tensors that are made of probabilities."""

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from fusioncam.export.endings.ranks import COMPARISONS
from fusioncam.export.endings.tail import VIEWS, Tail

Interval = tuple[float, float]

SQUASHING = ("Sigmoid", "HardSigmoid", "Softmax", "Hardmax", *COMPARISONS)
KEEPING = (
    *VIEWS,
    *("Transpose", "Slice", "Gather", "GatherElements", "Expand", "Tile", "Split", "Round"),
    *("Relu", "ThresholdedRelu", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"),
    *("ReduceMean", "ReduceMax", "ReduceMin"),
)
CONDITIONAL = (*COMPARISONS, "Where", "ThresholdedRelu", "Shrink")


def _product(a: Interval, b: Interval) -> Interval:
    ends = [x * y for x in a for y in b]
    return min(ends), max(ends)


def _union(a: Interval, b: Interval) -> Interval:
    return min(a[0], b[0]), max(a[1], b[1])


def _quotient(a: Interval, b: Interval) -> Interval | None:
    return _product(a, (1 / b[1], 1 / b[0])) if b[0] > 0 else None


PAIRS: dict[str, Callable[[Interval, Interval], Interval | None]] = {
    "Add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "Sum": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "Sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "Mul": _product,
    "Div": _quotient,
    "Max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "Min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "Concat": _union,
    "Where": _union,
    "Mean": _union,
    "Pow": lambda a, b: (a[0] ** b[0], a[1] ** b[0]) if a[0] >= 0 and b[0] == b[1] > 0 else None,
}
SINGLE: dict[str, Callable[[Interval], Interval | None]] = {
    "Sqrt": lambda a: (a[0] ** 0.5, a[1] ** 0.5) if a[0] >= 0 else None,
    "Neg": lambda a: (-a[1], -a[0]),
    "ReduceProd": lambda a: (0.0, 1.0) if a[0] >= 0 and a[1] <= 1 else None,
}


def bounds(tail: Tail) -> dict[ir.Value, Interval]:
    """Return the least and the greatest value of the tensors that are made of probabilities (sigmoids, softmaxes)."""
    known: dict[ir.Value, Interval] = {}
    for node in tail.nodes:
        interval = (0.0, 1.0) if node.op_type in SQUASHING else _of(node, known)
        if interval is not None:
            known.update(dict.fromkeys(node.outputs, interval))
    return known


def _of(node: ir.Node, bounded: dict[ir.Value, Interval]) -> Interval | None:
    inputs = [v for v in node.inputs[node.op_type == "Where" :] if v is not None]
    if not any(v in bounded for v in inputs):
        return None
    known = [bounded[v] if v in bounded else _constant(v) for v in inputs]
    first = known[0]
    if node.op_type in KEEPING:
        return first
    if node.op_type in SINGLE:
        return SINGLE[node.op_type](first) if first is not None else None
    if node.op_type == "Clip" and first is not None:
        low, high = clip_limits(node)
        return min(max(first[0], low), high), max(min(first[1], high), low)
    if node.op_type not in PAIRS:
        return None
    for other in known[1:]:
        first = PAIRS[node.op_type](first, other) if first is not None and other is not None else None
    return first


def clip_limits(node: ir.Node) -> Interval:
    """Return the least and the greatest value that a Clip passes on."""
    limits = [-np.inf, np.inf]
    for i, value in enumerate(node.inputs[1:3]):
        if value is not None and value.const_value is not None:
            limits[i] = float(value.const_value.numpy())
    return limits[0], limits[1]


def _constant(value: ir.Value) -> Interval | None:
    if value.const_value is None or value.const_value.size == 0:
        return None
    array = value.const_value.numpy().astype(np.float64)
    return float(array.min()), float(array.max())


def cuts(node: ir.Node, known: dict[ir.Value, Interval]) -> bool:
    """Return whether a node clips or compares probabilities, and changes them by more than a trace."""
    before = next((known[v] for v in node.inputs if v in known), None)
    if node.op_type in CONDITIONAL:
        return before is not None
    if node.op_type not in ("Clip", "Max", "Min") or before is None:
        return False
    after, trace = known.get(node.outputs[0]), 1e-4 * (before[1] - before[0])
    return after is None or after[0] > before[0] + trace or after[1] < before[1] - trace
