"""Freeing the batch axis of a model that was exported for one fixed batch."""

import itertools

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.gradient import Ops

REMEDY = "export the model with a dynamic batch axis"


def free_batch(model: ir.Model) -> None:
    """Make the first dimension of the one input free.

    The batch axis is followed from the input through the graph; on its way Reshape gets -1 there, and a constant that
    is concatenated to it is repeated. The shapes of all tensors must be known.

    Raises:
        ModelError: The batch axis is lost on the way.
    """
    graph = model.graph
    image = graph.inputs[0]
    axes: dict[ir.Value, int] = {image: 0}
    op = Ops(graph, "batch")
    for node in list(graph):
        carrying = [v for v in node.inputs if v is not None and v in axes]
        if not carrying or node.op_type in ("Shape", "Size"):
            continue
        widest = max(carrying, key=lambda v: len(_shape(v)))
        for output in node.outputs:
            axis = _follow(node, widest, axes[widest], output)
            axes[output] = axis
        axis = axes[node.outputs[0]]
        if node.op_type == "Reshape":
            target = list(_shape(node.outputs[0]))
            target[axis] = -1
            node.replace_input_with(1, op.ints(target))
            node.attributes.pop("allowzero", None)
        elif node.op_type == "Concat":
            _repeat_constants(op, node, axes, axis, image)
    assert image.shape is not None
    image.shape = ir.Shape(["N", *list(image.shape)[1:]])
    graph.sort()


def _shape(value: ir.Value) -> tuple[int, ...]:
    shape = value.shape
    assert shape is not None
    return tuple(d for d in shape if isinstance(d, int))


def _follow(node: ir.Node, x: ir.Value, axis: int, y: ir.Value) -> int:
    """Where the batch, in `axis` of `x`, is found in `y`."""
    before, after = _shape(x), _shape(y)
    if node.op_type == "Transpose":
        perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(before))[::-1]
        return list(perm).index(axis)
    if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return _same_stride(node, before, axis, after)
    if len(after) < len(before) and (node.op_type == "Gather" or node.op_type.startswith(("Reduce", "Arg"))):
        dropped = _axes(node, len(before))
        if axis in dropped:
            raise ModelError(f"node {node.name!r} ({node.op_type}) mixes or picks images of the batch; {REMEDY}")
        return axis - sum(a < axis for a in dropped)
    return axis + len(after) - len(before)


def _axes(node: ir.Node, rank: int) -> list[int]:
    given = node.attributes.get("axis") or node.attributes.get("axes")
    if given is not None:
        axes = np.atleast_1d(np.asarray(given.value)).tolist()
    elif node.op_type == "Gather":
        axes = [0]
    elif len(node.inputs) > 1 and node.inputs[1] is not None and node.inputs[1].const_value is not None:
        axes = node.inputs[1].const_value.numpy().ravel().tolist()
    else:
        axes = list(range(rank))
    return [a % rank for a in axes]


def _same_stride(node: ir.Node, before: tuple[int, ...], axis: int, after: tuple[int, ...]) -> int:
    """The axis of `after` that begins where `axis` of `before` begins in memory order."""
    outer = int(np.prod(before[:axis]))
    outers = [1, *itertools.accumulate(after, lambda a, b: a * b)]
    for i, (start, size) in enumerate(zip(outers, after, strict=False)):
        if start == outer and size % before[axis] == 0:
            return i
    raise ModelError(f"node {node.name!r} ({node.op_type}) folds the batch into another axis; {REMEDY}")


def _repeat_constants(op: Ops, node: ir.Node, axes: dict[ir.Value, int], axis: int, image: ir.Value) -> None:
    for i, value in enumerate(node.inputs):
        if value is not None and value not in axes:
            rank = len(_shape(value))
            n = op.Shape(image, start=0, end=1)
            ones = [op.ints([1] * k) for k in (axis, rank - axis - 1)]
            node.replace_input_with(i, op.Expand(value, op.Concat(ones[0], n, ones[1], axis=0)))
