"""The first stage of a detector of two: its search proposes boxes, which are constants for the second stage."""

from collections.abc import Sequence

import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.gradient.marks import HELD, mark
from fusioncam.export.readers.boxes.cuts.limits import most_boxes
from fusioncam.export.readers.boxes.cuts.walking import PICKS, after, before, searches

POOL = "RoiAlign"


def hold_proposals(graph: ir.Graph, scores: Sequence[ir.Value]) -> int | None:
    """Hold the boxes that a first search above the scores proposes; return their number at most, None without one.

    No gradient goes through them: a search chooses them, which has no derivative.

    Args:
        graph: The graph.
        scores: The scores of the last stage.

    Raises:
        ModelError: The second stage takes the boxes otherwise than by RoiAlign, or nothing limits their number.
    """
    above = before(scores)
    first = [(inner, outer) for inner, outer in searches(graph) if not above.isdisjoint(outer.outputs)]
    if not first:
        return None
    found = after(graph, [o for _, outer in first for o in outer.outputs])
    pooled = before(
        v for node in graph if node.op_type == POOL and node.outputs[0] in above and (v := node.inputs[1]) is not None
    )
    most = most_boxes(graph, found & pooled)
    if most is None:
        node = first[0][0]
        why = "nothing limits their number" if found & pooled else f"they do not go into {POOL}"
        raise ModelError(
            f"node {node.name!r} ({node.op_type}) proposes boxes for a second stage, and {why}: such a detector cannot "
            "be read, take one of a single stage, or a two-stage one as torchvision exports it"
        )
    for node in graph:
        if node.op_type in PICKS and node.inputs[1] in found and node.inputs[0] not in found:
            mark(node.outputs[0], HELD)
    return most
