"""The Sigmoid or Softmax that closes some columns of a tensor: found through what only moves them, and taken off."""

import math

import onnx_ir as ir

from fusioncam.export.gradient import dims
from fusioncam.export.gradient.reader import constant_of
from fusioncam.manifest import Ending

CLOSING: dict[str, Ending] = {"Sigmoid": "sigmoid", "Softmax": "softmax"}
KEEPING = ("Identity", "Cast")
RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def take_off_ending(value: ir.Value, axis: int, start: int, stop: int) -> Ending:
    """Take off what makes scores of the columns `start` to `stop` of a tensor along an axis, and of no others.

    Returns:
        What was taken off; `value` where it is nothing, then the graph is as before.
    """
    closing = _closing(value, axis, start, stop)
    kinds, made = {node.op_type for node in closing}, [node.outputs[0] for node in closing]
    if len(kinds) != 1 or any(len(v.uses()) != 1 or v.is_graph_output() for v in made):
        return "value"
    for node in closing:
        (x,) = node.inputs
        assert x is not None
        node.outputs[0].replace_all_uses_with(x)
    return CLOSING[kinds.pop()]


def _closing(value: ir.Value, axis: int, start: int, stop: int) -> list[ir.Node]:
    """Return the nodes that close columns, one or one for each part of the rows; none where a part has none."""
    node = value.producer()
    x = node.inputs[0] if node is not None and node.inputs else None
    if node is None or x is None:
        return []
    kind, last = node.op_type, len(dims(value)) - 1
    if kind in CLOSING:
        whole = start == 0 and stop == dims(value)[axis]
        over = kind == "Sigmoid" or node.attributes.get_int("axis", -1) in (axis, axis - last - 1)
        return [node] if whole and over else []
    if kind in KEEPING:
        return _closing(x, axis, start, stop)
    if kind == "Transpose":
        return _closing(x, node.attributes["perm"].as_ints()[axis], start, stop)
    if kind in RESHAPING:
        before = _same_axis(value, x, axis)
        return [] if before is None else _closing(x, before, start, stop)
    if kind == "Concat":
        return _of_concat(node, axis, start, stop)
    if kind in ("Split", "Slice"):
        first = _first(node, value, axis)
        return [] if first is None else _closing(x, axis, start + first, stop + first)
    return []


def _of_concat(node: ir.Node, axis: int, start: int, stop: int) -> list[ir.Node]:
    """Return what closes columns in one input of a Concat along their axis, or in all inputs of one along another."""
    inputs = [v for v in node.inputs if v is not None]
    if node.attributes["axis"].as_int() % len(dims(inputs[0])) != axis:
        found = [_closing(v, axis, start, stop) for v in inputs]
        return [n for nodes in found for n in nodes] if all(found) else []
    first = 0
    for each in inputs:
        size = dims(each)[axis]
        if size is None:
            return []
        if first <= start and stop <= first + size:
            return _closing(each, axis, start - first, stop - first)
        first += size
    return []


def _same_axis(value: ir.Value, x: ir.Value, axis: int) -> int | None:
    """Return the axis of a tensor that is one of another shape of it: as long, with as much behind it."""
    after, before = (tuple(d or 0 for d in dims(v)) for v in (value, x))
    behind = math.prod(after[axis + 1 :])
    found = [i for i, d in enumerate(before) if d == after[axis] and math.prod(before[i + 1 :]) == behind]
    return found[0] if len(found) == 1 else None


def _first(node: ir.Node, value: ir.Value, axis: int) -> int | None:
    """Return the column of its input that a part of it begins with; None where columns are left out in between."""
    shape = dims(value)
    if node.op_type == "Split":
        if node.attributes.get_int("axis", 0) % len(shape) != axis:
            return 0
        sizes = [dims(o)[axis] or 0 for o in node.outputs]
        return sum(sizes[: list(node.outputs).index(value)])
    starts, _, axes, steps = (constant_of(v) for v in (*node.inputs[1:], None, None)[:4])
    if starts is None or (steps is not None and (steps != 1).any()):
        return None
    of_axes = range(starts.size) if axes is None else axes.tolist()
    first = next((int(s) for s, a in zip(starts, of_axes, strict=True) if a % len(shape) == axis), 0)
    return first if first >= 0 else None
