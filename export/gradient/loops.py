"""The tensors of a Loop or a Scan, and how many turns it takes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import starmap

import onnx_ir as ir

from fusioncam.export.gradient.reader import constant_of

LOOPS = ("Loop", "Scan")


@dataclass
class Series:
    """A tensor outside of a loop of which each turn reads or writes a slice within.

    Attributes:
        outer: The tensor.
        inner: The slice.
        axis: The axis along which the slices lie.
        backward: 1 where the first turn has the last slice, else 0.
    """

    outer: ir.Value
    inner: ir.Value
    axis: int = 0
    backward: int = 0


@dataclass
class Turns:
    """The tensors of a Loop or a Scan.

    Attributes:
        first: The initial states, outside.
        states: Within, the states that a turn begins with.
        after: Within, the states that it ends with.
        last: The final states, outside.
        read: What is read slice by slice.
        written: What is written slice by slice.
        counters: Of a Loop, the number of the turn, and its condition.
    """

    first: Sequence[ir.Value]
    states: Sequence[ir.Value]
    after: Sequence[ir.Value]
    last: Sequence[ir.Value]
    read: Sequence[Series]
    written: Sequence[Series]
    counters: Sequence[ir.Value] = field(default=())


def turns_of(node: ir.Node, body: ir.Graph) -> Turns:
    """Return the tensors of a Loop or Scan, and of its body or of a copy of that."""
    inputs, outputs = [v for v in node.inputs if v is not None], [*node.outputs]
    if node.op_type == "Loop":
        count = len(node.inputs) - 2
        written = zip(outputs[count:], body.outputs[count + 1 :], strict=True)
        return Turns(
            [v for v in node.inputs[2:] if v is not None], body.inputs[2:], body.outputs[1 : count + 1],
            outputs[:count], (), [Series(*s) for s in written], body.inputs[:2],
        )  # fmt: skip
    slices = node.attributes.get_int("num_scan_inputs", 0)
    count = len(inputs) - slices
    read = zip(inputs[count:], body.inputs[count:], *_layout(node, "input", slices), strict=True)
    written = zip(outputs[count:], body.outputs[count:], *_layout(node, "output", len(outputs) - count), strict=True)
    return Turns(
        inputs[:count], body.inputs[:count], body.outputs[:count], outputs[:count],
        [*starmap(_series, read)], [*starmap(_series, written)],
    )  # fmt: skip


def _series(outer: ir.Value, inner: ir.Value, axis: int, backward: int) -> Series:
    """Return a series whose axis is counted from the front where the rank is known, as TensorRT's parser wants it."""
    rank = None if inner.shape is None else len(inner.shape) + 1
    return Series(outer, inner, axis + rank if axis < 0 and rank is not None else axis, backward)


def _layout(node: ir.Node, kind: str, count: int) -> Iterator[Sequence[int]]:
    """Yield the axes and the directions of what a Scan reads or writes slice by slice."""
    for name in ("axes", "directions"):
        yield list(node.attributes.get_ints(f"scan_{kind}_{name}", [0] * count))


def number_of_turns(node: ir.Node) -> int | None:
    """Return how many turns a Loop or Scan takes, or None where that is not known or it is something else."""
    if node.domain or node.op_type not in ("Loop", "Scan") or (node.op_type == "Scan" and None in node.inputs):
        return None
    body = node.attributes["body"].as_graph()
    if node.op_type == "Scan":
        first = turns_of(node, body).read[0]
        size = None if first.outer.shape is None else first.outer.shape[first.axis]
        return size if isinstance(size, int) else None
    most, condition = (constant_of(v) for v in node.inputs[:2])
    last = passed_on(body.outputs[0])
    endless = last is body.inputs[1] or bool(constant_of(last))
    if most is None or not endless or (node.inputs[1] is not None and condition is None):
        return None
    return int(most.item()) if condition is None or condition.item() else 0


def passed_on(value: ir.Value) -> ir.Value:
    """Return the tensor of which a value is a copy."""
    while (node := value.producer()) is not None and node.op_type == "Identity" and node.inputs[0] is not None:
        value = node.inputs[0]
    return value
