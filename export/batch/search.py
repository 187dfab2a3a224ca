"""Freeing the batch axis of a model that was exported for one fixed batch.

The place of the batch is followed from the input through the graph. After a Reshape the batch may be in several places,
above all a batch of one, so the places are searched for: a wrong choice is given up at the first operator that would
mix the images of the batch, or could not take more of them.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.batch import movement_rules as _movement_rules  # noqa: F401  (enters its operators into the table)
from fusioncam.export.batch.batch_axis import (
    PASSAGES,
    NoPlaceError,
    Passage,
    Place,
    Visit,
    one_row,
    shape_of,
    split_shape,
)
from fusioncam.export.batch.operator_rules import FRONT
from fusioncam.export.gradient import Ops, operator_name, reads


class LostBatchError(ModelError):
    """An error for a batch that cannot be followed through the graph.

    Attributes:
        complaint: The node at which the batch is lost, and the reason.
        remedy: Advice to the user.
    """

    def __init__(self, complaint: str, remedy: str) -> None:
        super().__init__(f"the batch axis cannot be freed: {complaint}; {remedy}")
        self.complaint, self.remedy = complaint, remedy


STEPS_PER_NODE = 200  # of the search, at most


def free_batch(model: ir.Model) -> None:
    """Free the first dimension of the inputs, which all have a row for each picture.

    On the way of the batch, Reshape gets -1, and operands that are made without the image are repeated for every image
    where one row does not serve all. The shapes of all tensors must be known; only those of constants are kept.

    Raises:
        LostBatchError: The batch axis is lost on the way.
    """
    graph = model.graph
    image = graph.inputs[0]
    batch = shape_of(image)[0]
    passages = _search(list(graph), graph.inputs, graph.outputs, batch)
    op = Ops(graph, "batch")
    for node, passage in passages.items():
        _free_node(op, node, passage, batch, image)
    for value in graph.inputs:
        value.shape = ir.Shape(["N", *shape_of(value)[1:]])
    for value in (o for node in graph for o in node.outputs):
        value.shape = None  # it was that of the fixed batch, and onnxruntime would hold the model to it
    graph.sort()


def _search(
    nodes: list[ir.Node], inputs: Iterable[ir.Value], outputs: Collection[ir.Value], batch: int
) -> dict[ir.Node, Passage]:
    """Return the passage of the batch through every node that it comes into."""
    places: dict[ir.Value, Place] = dict.fromkeys(inputs, FRONT)
    taken: list[Passage | None] = [None] * len(nodes)
    open_choices: list[tuple[int, list[Passage], dict[ir.Value, Place]]] = []
    deepest, complaint, remedy = -1, "", ""
    at = steps = 0
    while at < len(nodes):
        steps += 1
        node = nodes[at]
        try:
            options = _passages(node, places, batch)
            ends = [n for n, value in enumerate(node.outputs) if value in outputs]
            if ends and options:
                options = [p for p in options if all(p.outputs[n] == FRONT for n in ends)]
                if not options:
                    raise NoPlaceError("does not keep the batch in front")
        except NoPlaceError as error:
            if at > deepest:
                name = node.name or node.outputs[0].name
                deepest, remedy = at, error.remedy
                complaint = f"node {name!r} ({operator_name(node)}) {error}"
            if not open_choices or steps > STEPS_PER_NODE * len(nodes):
                raise LostBatchError(complaint, remedy) from error
            at, options, places = open_choices.pop()
            node = nodes[at]
        if len(options) > 1:
            open_choices.append((at, options[1:], dict(places)))
        taken[at] = options[0] if options else None
        if options:
            places.update((o, p) for o, p in zip(node.outputs, options[0].outputs, strict=True) if p is not None)
        at += 1
    return {node: passage for node, passage in zip(nodes, taken, strict=True) if passage is not None}


def _passages(node: ir.Node, places: Mapping[ir.Value, Place], batch: int) -> list[Passage]:
    """Return the possible passages of the batch through a node, the likeliest first; none where it does not come in.

    Raises:
        NoPlaceError: The batch cannot have come in at these `places`.
    """
    if node.op_type in ("Shape", "Size") or places.keys().isdisjoint(reads(node)):
        return []
    rule = PASSAGES.get((node.domain, node.op_type))
    if rule is None:
        raise NoPlaceError("is not known to keep the images of a batch apart")
    passages = rule(Visit(node, places, batch))
    for passage in passages:
        for i, place in passage.operands.items():
            _refuse_differing(node.inputs[i], place, batch, passage.broadcasts)
    return passages


def _refuse_differing(value: ir.Value | None, place: Place, batch: int, broadcasts: bool) -> None:
    """Raise NoPlaceError for an operand, made without the image, that differs between the images of the batch."""
    assert value is not None
    size = shape_of(value)[place.axis]
    if (broadcasts and size == 1) or (batch == 1 and size % place.lead == 0):
        return
    whole = size % (place.lead * batch) == 0 and value.const_value is not None
    if not whole or value.const_value is None or one_row(value.const_value.numpy(), place, batch) is None:
        raise NoPlaceError("treats the images of the batch differently")


def _free_node(op: Ops, node: ir.Node, passage: Passage, batch: int, image: ir.Value) -> None:
    """Change a node so that it takes any batch."""
    place = passage.outputs[0]
    assert place is not None
    if node.op_type in ("Reshape", "Expand"):
        target = list(shape_of(node.outputs[0]))
        target[place.axis] = -1 if node.op_type == "Reshape" else 1
        node.replace_input_with(1, op.ints(target))
        node.attributes.pop("allowzero", None)
    elif node.op_type == "Resize":
        _resize_others(op, node, place)
    elif node.op_type == "Slice":
        _take_all(op, node, place)
    elif passage.picks_own:
        _pick_own(op, node, place, image)
    elif passage.reshaped:
        _reshape_output(op, node.outputs[0])
    for i, where in passage.operands.items():
        value = node.inputs[i]
        assert value is not None
        node.replace_input_with(i, _for_any_batch(op, value, where, batch, passage.broadcasts, image))


def _resize_others(op: Ops, node: ir.Node, place: Place) -> None:
    """Change a Resize to given sizes so that it leaves the batch axis alone."""
    sizes = node.inputs[3] if len(node.inputs) > 3 else None
    if sizes is not None and sizes.const_value is not None and "axes" not in node.attributes:
        every_size = sizes.const_value.numpy().tolist()
        others = [i for i in range(len(every_size)) if i != place.axis]
        node.attributes["axes"] = ir.AttrInt64s("axes", others)
        node.replace_input_with(3, op.ints([every_size[i] for i in others]))


def _take_all(op: Ops, node: ir.Node, place: Place) -> None:
    """Change a Slice so that it ends behind the last image, or takes the same part of each."""
    slicing = Visit(node, {}, 0)
    ends, axes = slicing.constant(2), slicing.constant(3)
    assert ends is not None
    rank = len(slicing.after)
    if axes is not None and slicing.before[place.axis] != slicing.after[place.axis]:
        _take_of_each(op, node, place.axis, [int(a) % rank for a in axes])
        return
    along = [int(a) % rank for a in (range(len(ends)) if axes is None else axes)]
    if place.axis in along:
        ends = ends.copy()
        ends[along.index(place.axis)] = np.iinfo(ends.dtype).max
        node.replace_input_with(2, op.constant(ends))


def _take_of_each(op: Ops, node: ir.Node, axis: int, along: list[int]) -> None:
    """Give the images an axis of their own, in front of the one that a Slice cuts, until it is done."""
    slicing, old = Visit(node, {}, 0), node.outputs[0]
    before, after = list(slicing.before), list(slicing.after)
    apart = op.Reshape(slicing.input(0), op.ints([*before[:axis], -1, *before[axis:]]))
    moved = op.ints([a + (a >= axis) for a in along])
    cut = op.Slice(apart, *node.inputs[1:3], moved, *node.inputs[4:])
    old.replace_all_uses_with(op.Reshape(cut, op.ints([*after[:axis], -1, *after[axis + 1 :]])))
    op.graph.remove(node, safe=True)


def _reshape_output(op: Ops, value: ir.Value) -> None:
    """Let what reads a tensor read it with the batch in front."""
    front = op.Reshape(value, op.ints([-1, *shape_of(value)[1:]]))
    value.replace_all_uses_with(front, replace_graph_outputs=True)
    own = front.producer()
    assert own is not None
    own.replace_input_with(0, value)


def _pick_own(op: Ops, node: ir.Node, place: Place, image: ir.Value) -> None:
    """Change a Gather, whose numbers are those of rows of one image, so that each image picks its own rows."""
    picking = Visit(node, {}, 0)
    axis, numbers = picking.attribute("axis", 0) % len(picking.before), picking.input(1)
    shape, at = list(shape_of(numbers)), place.axis - axis
    rows = op.constant(picking.before[axis], np.int64)
    n = op.Squeeze(op.Shape(image, start=0, end=1))
    firsts = op.Mul(op.Range(op.constant(0, np.int64), n, op.constant(1, np.int64)), rows)
    own = op.Mod(op.Cast(numbers, to=ir.DataType.INT64), rows)  # numbers below zero count from the end
    apart = op.Reshape(own, op.ints([*shape[:at], -1, *shape[at:]]))
    found = op.Add(apart, op.Reshape(firsts, op.ints([-1, *[1] * (len(shape) - at)])))
    shape[at] = -1
    node.replace_input_with(1, op.Reshape(found, op.ints(shape)))


def _for_any_batch(op: Ops, value: ir.Value, place: Place, batch: int, broadcasts: bool, image: ir.Value) -> ir.Value:
    """Return an operand for any batch: one row that serves all images, or a row for each."""
    shape = list(shape_of(value))
    axis, size = place.axis, shape[place.axis]
    if broadcasts and size == 1:
        return value
    if value.const_value is not None:
        row = one_row(value.const_value.numpy(), place, batch)
        assert row is not None
        value = op.constant(row)
    if broadcasts and size == batch:
        return value
    n = op.Shape(image, start=0, end=1)
    split = split_shape([*shape[:axis], size // batch, *shape[axis + 1 :]], place, 1)
    ones = [op.ints([1] * k) for k in (axis + 1, len(split) - axis - 2)]
    wide = op.Expand(op.Reshape(value, op.ints(split)), op.Concat(ones[0], n, ones[1], axis=0))
    shape[axis] = -1
    return op.Reshape(wide, op.ints(shape))
