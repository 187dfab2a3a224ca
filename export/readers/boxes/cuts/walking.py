"""Walks between a detector's outputs and its dense tensors: nodes that move, pick, mask or scale rows."""

from collections.abc import Callable, Collection, Iterable

import onnx_ir as ir

from fusioncam.export.gradient import bodies, reads
from fusioncam.export.gradient.reader import constant_of

SEARCH = "NonMaxSuppression"
SAME_ORDER = ("Identity", "Cast", "Unsqueeze", "Squeeze", "Reshape", "Flatten")
MOVES = (*SAME_ORDER, "Transpose", "Expand", "Tile")
PICKS = ("Gather", "GatherND", "GatherElements", "Compress")
COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "Not", "And", "Or", "Xor")
# What may follow the choice of boxes: back to the photo, clipped, in another coding of sides.
LIGHT = ("Add", "Sub", "Mul", "Div", "Neg", "Min", "Max", "Clip", "Relu", "Floor", "Round", "Slice", "Split", "Concat")


def after(graph: ir.Graph, starts: Iterable[ir.Value], shapes: bool = False) -> set[ir.Value]:
    """Return all tensors that are computed from any of some, these included.

    Args:
        graph: The graph that holds them.
        starts: The tensors.
        shapes: Whether what is computed from a shape alone counts.
    """
    found = {*starts}
    for node in graph:
        if (shapes or node.op_type not in ("Shape", "Size")) and not found.isdisjoint(reads(node)):
            found.update(node.outputs)
    return found


def before(values: Iterable[ir.Value]) -> set[ir.Value]:
    """Return all tensors that some are computed from, these included, also from graphs around them."""
    found, todo = set[ir.Value](), [*values]
    while todo:
        value = todo.pop()
        if value not in found:
            found.add(value)
            node = value.producer()
            todo += reads(node) if node is not None else []
    return found


def is_mask(value: ir.Value | None) -> bool:
    """Return whether a tensor is a condition, or made of one: zeros and ones."""
    while value is not None and (node := value.producer()) is not None:
        if node.op_type in COMPARISONS:
            return True
        if node.op_type not in MOVES:
            return False
        value = node.inputs[0]
    return False


def without_mask(node: ir.Node) -> ir.Value | None:
    """Return the tensor that a node lets through where a condition holds; None where it does something else."""
    if node.op_type == "Mul":
        first, second = node.inputs
        return second if is_mask(first) else first if is_mask(second) else None
    if node.op_type == "Where":
        chosen = [v for v in node.inputs[1:] if v is not None and v.const_value is None and not is_filler(v)]
        return chosen[0] if len(chosen) == 1 else None
    return None


def above(node: ir.Node | None) -> list[ir.Value]:
    """Return the tensors whose rows a node moves, chooses, joins, pads or masks."""
    if node is None:
        return []
    if node.op_type in ("Concat", "ScatterND", "ScatterElements"):
        return [v for v in node.inputs if v is not None]
    if node.op_type in (*MOVES, *PICKS, "Pad", "Slice") and node.inputs[0] is not None:
        return [node.inputs[0]]
    passed = without_mask(node)
    return [] if passed is None else [passed]


def picks_by(node: ir.Node, reached: Collection[ir.Value]) -> bool:
    """Return whether a node picks by indices, or a condition, that are computed from the dense scores."""
    return node.op_type in PICKS and node.inputs[1] in reached and constant_of(node.inputs[1]) is None


def is_of_one_picture(node: ir.Node, shape_of: Callable[[ir.Value], tuple[int, ...] | None]) -> bool:
    """Return whether a node takes the only picture of a batch."""
    shape = None if not node.inputs or node.inputs[0] is None else shape_of(node.inputs[0])
    if node.op_type != "Gather" or shape is None or shape[node.attributes.get_int("axis", 0)] != 1:
        return False
    index = constant_of(node.inputs[1])
    return index is not None and index.size == 1 and int(index.item()) in (0, -1)


def is_filler(value: ir.Value) -> bool:
    """Return whether a tensor is a constant that is made as large as another."""
    node = value.producer()
    while node is not None and node.op_type in ("Expand", "Identity", "Cast") and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    return value.const_value is not None or (node is not None and node.op_type == "ConstantOfShape")


def searches(graph: ir.Graph) -> list[tuple[ir.Node, ir.Node]]:
    """Return every node that searches for duplicates, in branches and loops, too, and its node in the main graph."""
    return [(inner, node) for node in graph for inner in _within(node) if inner.op_type == SEARCH]


def _within(node: ir.Node) -> list[ir.Node]:
    return [node, *(inner for body in bodies(node) for inner in body.all_nodes())]
