"""Choices by scores are bypassed: what reads the chosen rows reads all of them."""

from collections.abc import Collection, Sequence

import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.gradient import bodies, operator_name, reads
from fusioncam.export.readers.boxes.cuts.sides import ShapeOf
from fusioncam.export.readers.boxes.cuts.walking import MOVES, SAME_ORDER, before, is_of_one_picture, picks_by

ROWS = 3  # axes: pictures, boxes, numbers
Bypassed = dict[ir.Value, ir.Value]  # what takes the place of a tensor


def find_bypassed(
    graph: ir.Graph, values: list[ir.Value], reached: Collection[ir.Value], shape_of: ShapeOf
) -> Bypassed:
    """Return, for each choice above some tensors, the tensor that holds all rows; chains are followed.

    A Concat whose parts are then one and the same tensor is that tensor.

    Args:
        graph: The graph.
        values: The tensors.
        reached: All that is computed from the dense scores.
        shape_of: Returns the shape of a tensor for one picture; None where nobody knows.

    Raises:
        ModelError: A choice changes the number of axes above other arithmetic.
    """
    above, bypassed = before(values), Bypassed()
    for node in graph:
        value = node.outputs[0]
        if value not in above:
            continue
        if picks_by(node, reached):
            data = node.inputs[0]
            assert data is not None
            data = bypassed.get(data, data)
            ranks = [len(s) if (s := shape_of(v)) is not None else 0 for v in (value, data)]
            if value not in values and ranks[0] != ranks[1]:
                name = f"node {node.name!r} ({operator_name(node)})"
                raise ModelError(
                    f"{name} chooses boxes and drops the axis of pictures; export the model without its search for "
                    "the best boxes"
                )
            bypassed[value] = data
        elif node.op_type == "Concat":
            chosen = [v for v in node.inputs if v is not None and v in bypassed]
            parts = {bypassed[v] for v in chosen}
            parts = parts if len(parts) == 1 else {all_rows(v, bypassed, shape_of) for v in chosen}
            if len(parts) == 1 and len(chosen) == len(node.inputs) > 1:
                bypassed[value] = parts.pop()
    return bypassed


def conditions_of_boxes(bypassed: Bypassed, scores: Collection[ir.Value]) -> list[ir.Value]:
    """Return the conditions by which boxes are chosen, whatever their scores are, as that they are not empty.

    Args:
        bypassed: The choices.
        scores: The dense scores.
    """
    found: dict[ir.Value, None] = {}
    for value in bypassed:
        node = value.producer()
        index = node.inputs[1] if node is not None and node.op_type != "Concat" else None
        while index is not None and (node := index.producer()) is not None and node.op_type in (*MOVES, "Split"):
            index = node.inputs[0]
        if index is None or node is None or node.op_type != "NonZero" or (condition := node.inputs[0]) is None:
            continue
        todo, seen = [condition], set[ir.Value]()
        while todo:
            each = todo.pop()
            if each not in seen:
                seen.add(each)
                maker = each.producer()
                todo += [bypassed[each]] if each in bypassed else reads(maker) if maker is not None else []
        if seen.isdisjoint(scores):
            found[condition] = None
    return list(found)


def all_rows(value: ir.Value, bypassed: Bypassed, shape_of: ShapeOf) -> ir.Value:
    """Return the tensor that holds all rows of a tensor, with the axis of pictures in front where there is one."""
    value = found = bypassed.get(value, value)
    while len(shape_of(found) or ()) < ROWS:
        node = found.producer()
        x = node.inputs[0] if node is not None and node.inputs else None
        if node is None or x is None or not (node.op_type in SAME_ORDER or is_of_one_picture(node, shape_of)):
            return value
        found = bypassed.get(x, x)
    return found


def end_in(graph: ir.Graph, values: Sequence[ir.Value], bypassed: Bypassed) -> Bypassed:
    """Let a graph end in some tensors, above which each choice is bypassed: what reads it reads all rows.

    Returns:
        The choices that lay above the tensors.
    """
    readers = {value: {o for use in value.uses() for o in use.node.outputs} for value in bypassed}
    graph.outputs[:] = values
    for value, data in bypassed.items():
        value.replace_all_uses_with(data)
    left = before(values)
    for node in list(graph):
        if left.isdisjoint(node.outputs):
            _remove(node)
        for value in node.outputs if bypassed else ():
            value.shape = None  # those of chosen rows
    return {value: data for value, data in bypassed.items() if not left.isdisjoint(readers[value])}


def _remove(node: ir.Node) -> None:
    """Remove a node; also nodes within it read nothing any more."""
    for each in (node, *(inner for body in bodies(node) for inner in body.all_nodes())):
        for n in range(len(each.inputs)):
            each.replace_input_with(n, None)
    assert node.graph is not None
    node.graph.remove(node)
