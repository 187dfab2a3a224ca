"""Data movement, run on positions as it would be run on the tensor."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from fusioncam.export.layers.positions import NOWHERE, Positions, compressed, sizes


def moved(node: ir.Node, arrays: Mapping[int, Positions]) -> list[Positions | None]:
    """Return the positions of every output of a node that takes elements elsewhere, None where it cannot be run.

    Args:
        node: The node; its inputs but those with positions are constants.
        arrays: Positions of its inputs, by index.
    """
    if all(a.size == 1 for a in arrays.values()):
        return [np.full((1,) * len(sizes(o)), NOWHERE) for o in node.outputs]
    if node.op_type == "Transpose":
        perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else None
        return [arrays[0].transpose(perm)]
    feeds: dict[str, Any] = {}
    for i, value in enumerate(node.inputs):
        if value is not None and i in arrays:
            feeds[str(value.name)] = np.broadcast_to(arrays[i], sizes(value)).copy()
        elif value is not None and value.const_value is not None:
            feeds[str(value.name)] = value.const_value.numpy()
    proto = ir.to_proto(node)
    if node.op_type == "Pad":  # what is added has no position, a copy of the picture's edge neither
        modes = [a for a in proto.attribute if a.name == "mode"]
        for mode in modes:
            proto.attribute.remove(mode)
        while len(proto.input) < 3:
            proto.input.append("")
        proto.input[2], feeds["pad value"] = "pad value", NOWHERE
    try:
        results = ReferenceEvaluator(proto).run(None, feeds)
    except Exception:  # what it raises has no base class in common
        return [None] * len(node.outputs)
    return [compressed(np.asarray(a, np.complex64)) for a in results]


def joined(node: ir.Node, at: Sequence[int], arrays: Sequence[Positions | None]) -> Positions | None:
    """Return the positions of a Concat; a part that was lost leaves the others where they are.

    Args:
        node: The node.
        at: Which of its inputs are joined.
        arrays: Their positions, None where they were lost.
    """
    if all(a is None for a in arrays):
        return None
    rank = len(sizes(node.outputs[0]))
    axis = node.attributes.get_int("axis", 0) % rank
    parts = []
    for i, array in zip(at, arrays, strict=True):
        value = node.inputs[i]
        assert value is not None
        known = np.full((1,) * rank, NOWHERE) if array is None else array
        parts.append(np.broadcast_to(known, (*known.shape[:axis], sizes(value)[axis], *known.shape[axis + 1 :])))
    common = np.broadcast_shapes(*((*p.shape[:axis], *p.shape[axis + 1 :]) for p in parts))
    wider = [np.broadcast_to(p, (*common[:axis], p.shape[axis], *common[axis:])) for p in parts]
    return compressed(np.concatenate(wider, axis))
