"""The thresholds of a search for the best boxes, as its node and those around it have them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx_ir as ir

from fusioncam.export.gradient.reader import constant_of

ABOVE = ("Greater", "GreaterOrEqual")


@dataclass(frozen=True)
class Limits:
    """The thresholds of a search, and its kind; None stays as it is by default.

    Attributes:
        conf: The least score.
        iou: The overlap by which the lower of two boxes is a duplicate.
        most: The most boxes.
        class_wise: Whether only boxes of one class are duplicates.
        nms: Whether duplicates are looked for.
        multi_label: Whether every class above the threshold is a detection.
    """

    conf: float | None = None
    iou: float | None = None
    most: int | None = None
    class_wise: bool | None = None
    nms: bool = True
    multi_label: bool = False

    def changes(self) -> dict[str, object]:
        """Return the fields of a `Detector` that they set."""
        return {name: value for name, value in vars(self).items() if value is not None}


def least_score(scores: Collection[ir.Value], nodes: Iterable[ir.Node]) -> float | None:
    """Return the highest threshold that scores are held against; None where there is none.

    Args:
        scores: The tensors that hold scores.
        nodes: The nodes that search.
    """
    found = [number(node.inputs[4]) for node in nodes if len(node.inputs) > 4]
    for value in scores:
        found += [number(use.node.inputs[1]) for use in value.uses() if use.node.op_type in ABOVE and use.idx == 0]
        found += [number(use.node.inputs[0]) for use in value.uses() if use.node.op_type == "Less" and use.idx == 1]
    above = [f for f in found if f is not None and 0 < f < 1]
    return max(above, default=None)


def number(value: ir.Value | None) -> float | None:
    """Return the number that a constant holds, in the digits of float32; None where it is none, or holds several."""
    constant = constant_of(value)
    return round(float(constant.item()), 6) if constant is not None and constant.size == 1 else None


def most_boxes(graph: ir.Graph, chosen: Collection[ir.Value]) -> int | None:
    """Return the most boxes that are kept of those that a search found; None where nothing limits them.

    Args:
        graph: The graph.
        chosen: What is computed from the result of the search.
    """
    found = []
    for node in graph:
        if not node.inputs or node.inputs[0] not in chosen:
            continue
        if node.op_type == "TopK":
            found.append(number(node.inputs[1]))
        elif node.op_type == "Slice" and number(node.inputs[1]) == 0:
            found.append(number(node.inputs[2]))
    counts = [int(f) for f in found if f is not None and 4 < f < 10**6]
    return min(counts, default=None)
