"""Freeing the batch axis of a model that was exported for one fixed batch.

The place of the batch is followed from the input through the graph. A Reshape may leave it open where the batch went,
above all with a batch of one, so the places are searched for: a wrong turn is given up at the first operator that
would mix the images of the batch, or that could not take more of them.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.gradient import Ops

REMEDY = "export the model with a dynamic batch axis"
STEPS_PER_NODE = 200  # of the search, before it is given up

# Operators on (N, C, ...) tensors.
IMAGE_OPS = (
    *("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "LRN"),
    *("BatchNormalization", "InstanceNormalization", "GroupNormalization", "DepthToSpace", "SpaceToDepth"),
)


@dataclass(frozen=True)
class Place:
    """Where the batch is: in `axis`, whose size is lead * batch * (whatever remains)."""

    axis: int
    lead: int = 1


class _NoPlaceError(Exception):
    """The batch cannot have gone through this node."""


def free_batch(model: ir.Model) -> None:
    """Make the first dimension of the one input free.

    Where the batch passes, Reshape gets -1 and a constant that was repeated over the batch is cut to one row. The
    shapes of all tensors must be known.

    Raises:
        ModelError: The batch axis is lost on the way.
    """
    graph = model.graph
    image = graph.inputs[0]
    batch = _shape(image)[0]
    places = _search(list(graph), image, graph.outputs[0], batch)
    op = Ops(graph, "batch")
    for node in list(graph):
        if any(v in places for v in node.inputs if v is not None) and node.outputs[0] in places:
            _free_node(op, node, places, batch, image)
    assert image.shape is not None
    image.shape = ir.Shape(["N", *list(image.shape)[1:]])
    graph.sort()


def _search(nodes: list[ir.Node], image: ir.Value, output: ir.Value, batch: int) -> dict[ir.Value, Place]:
    """The place of the batch in every tensor that carries it."""
    places = {image: Place(0)}
    open_choices: list[tuple[int, list[Place], dict[ir.Value, Place]]] = []
    deepest, complaint = -1, ""
    at = steps = 0
    while at < len(nodes):
        steps += 1
        node = nodes[at]
        try:
            options = _options(node, places, batch) if node.op_type not in ("Shape", "Size") else []
            if output in node.outputs and options and not (options := [p for p in options if p == Place(0)]):
                raise _NoPlaceError("does not keep the batch in front")
        except _NoPlaceError as error:
            if at > deepest:
                deepest, complaint = at, f"node {node.name!r} ({node.op_type}) {error}"
            if not open_choices or steps > STEPS_PER_NODE * len(nodes):
                raise ModelError(f"the batch axis cannot be freed: {complaint}; {REMEDY}") from error
            at, options, places = open_choices.pop()
            node = nodes[at]
        if len(options) > 1:
            open_choices.append((at, options[1:], dict(places)))
        if options:
            places.update(dict.fromkeys(node.outputs, options[0]))
        at += 1
    return places


def _shape(value: ir.Value) -> tuple[int, ...]:
    shape = value.shape
    assert shape is not None
    return tuple(d for d in shape if isinstance(d, int))


def _options(node: ir.Node, places: dict[ir.Value, Place], batch: int) -> list[Place]:
    """Where the batch may be in the outputs of `node`, the likeliest first; none where it does not pass.

    Raises:
        _NoPlaceError: It cannot have come in as `places` has it.
    """
    carrying = [v for v in node.inputs if v is not None and v in places]
    if not carrying:
        return []
    x = carrying[0]
    place, before, after = places[x], _shape(x), _shape(node.outputs[0])
    if node.op_type == "Reshape":
        return _reshaped(before, place, after, batch)
    if node.op_type == "Flatten":
        split = node.attributes.get_int("axis", 1) % (len(before) + 1)
        return [p for p in _reshaped(before, place, after, batch) if p.axis == (place.axis >= split)]
    if node.op_type == "Transpose":
        perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(before))[::-1]
        return [replace(place, axis=list(perm).index(place.axis))]
    if node.op_type in ("Squeeze", "Unsqueeze"):
        return [_squeezed(node, place, before, after)]
    if node.op_type in ("MatMul", "Gemm"):
        return [_product(node, places)]
    if node.op_type == "Einsum":
        return [_einsum(node, places)]
    if node.op_type in IMAGE_OPS and place != Place(0):
        raise _NoPlaceError("takes pictures, but the batch is not in front")
    if node.op_type.startswith(("Reduce", "Arg")) or node.op_type in ("Gather", "Softmax", "LogSoftmax", "Hardmax"):
        return [_along(node, place, before, after)]
    if node.op_type in ("Concat", "Split", "Slice") and place.axis in _axes(node, len(before)):
        raise _NoPlaceError("joins or cuts along the batch")
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        if place.axis >= _axes(node, len(before))[0]:
            raise _NoPlaceError("normalises across the batch")
        return [place]
    if node.op_type in IMAGE_OPS or len(before) == len(after) == 0:
        return [place]
    return [_elementwise(node, places, len(after), batch)]


def _reshaped(before: tuple[int, ...], place: Place, after: tuple[int, ...], batch: int) -> list[Place]:
    """The axes whose part in memory holds the batch; first those that begin with it."""
    ahead = int(np.prod(before[: place.axis])) * place.lead
    outers = [1, *itertools.accumulate(after, lambda a, b: a * b)]
    found = []
    for axis, (outer, size) in enumerate(zip(outers, after, strict=False)):
        if outer and ahead % outer == 0 and size % (ahead // outer * batch) == 0:
            found.append(Place(axis, ahead // outer))
    if not found:
        raise _NoPlaceError("folds the batch into another axis")
    return sorted(found, key=lambda p: p.lead > 1)


def _squeezed(node: ir.Node, place: Place, before: tuple[int, ...], after: tuple[int, ...]) -> Place:
    rank = max(len(before), len(after))
    axes = _axes(node, rank, [i for i, d in enumerate(before) if d == 1])
    kept = [i for i in range(rank) if i not in axes]
    if node.op_type == "Unsqueeze":
        return replace(place, axis=kept[place.axis])
    if place.axis not in kept:
        raise _NoPlaceError("drops the batch axis")
    return replace(place, axis=kept.index(place.axis))


def _along(node: ir.Node, place: Place, before: tuple[int, ...], after: tuple[int, ...]) -> Place:
    """Operators that act along axes other than that of the batch, and may drop them or put others in their place."""
    axes = _axes(node, len(before))
    if place.axis in axes:
        raise _NoPlaceError("mixes or picks images of the batch")
    if len(after) == len(before):
        return place
    grown = (len(after) - len(before)) // len(axes)
    return replace(place, axis=place.axis + grown * sum(a < place.axis for a in axes))


def _axes(node: ir.Node, rank: int, default: list[int] | None = None) -> list[int]:
    """The axes a node acts along, counted from the front."""
    given = node.attributes.get("axis") or node.attributes.get("axes")
    position = {"Slice": 3}.get(node.op_type, 1)
    has_input = node.op_type not in ("Gather", "Concat", "Softmax", "LogSoftmax", "Hardmax", "Split")
    at = node.inputs[position] if has_input and len(node.inputs) > position else None
    if given is not None:
        axes = np.atleast_1d(np.asarray(given.value)).tolist()
    elif at is not None and at.const_value is not None and node.op_type != "LayerNormalization":
        axes = at.const_value.numpy().ravel().tolist()
    elif node.op_type in ("Softmax", "LogSoftmax", "Hardmax", "LayerNormalization", "RMSNormalization"):
        axes = [-1]
    elif node.op_type in ("Gather", "Split", "ArgMax", "ArgMin"):
        axes = [0]
    else:
        axes = list(range(rank)) if default is None else default
    return [a % rank for a in axes]


def _product(node: ir.Node, places: dict[ir.Value, Place]) -> Place:
    """MatMul and Gemm: the batch may be in any axis but the one that is summed over."""
    rank = len(_shape(node.outputs[0]))
    found = set()
    for i, value in enumerate(node.inputs[:2]):
        assert value is not None
        if value not in places:
            continue
        own, place = len(_shape(value)), places[value]
        flipped = bool(node.attributes.get_int("transB" if i else "transA", 0)) if node.op_type == "Gemm" else False
        summed = own - 1 if (i == 0) != flipped or own == 1 else own - 2
        if place.axis == summed:
            raise _NoPlaceError("sums over the batch")
        if place.axis >= own - 2:
            found.add(replace(place, axis=rank - 2 if i == 0 and rank > 1 else rank - 1))
        else:
            found.add(replace(place, axis=place.axis + rank - own))
    return _only(found)


def _einsum(node: ir.Node, places: dict[ir.Value, Place]) -> Place:
    terms, _, result = node.attributes["equation"].as_string().replace(" ", "").partition("->")
    found = set()
    for term, value in zip(terms.split(","), node.inputs, strict=True):
        if value in places:
            letter = term[places[value].axis]
            if letter not in result:
                raise _NoPlaceError("sums over the batch")
            found.add(replace(places[value], axis=result.index(letter)))
    return _only(found)


def _elementwise(node: ir.Node, places: dict[ir.Value, Place], rank: int, batch: int) -> Place:
    """Operands broadcast: the batch must be in the same place of all, and constants must not tell it apart."""
    carrying = [v for v in node.inputs if v is not None and v in places]
    place = _only({replace(places[v], axis=places[v].axis + rank - len(_shape(v))) for v in carrying})
    constants = [v for v in node.inputs if v is not None and v not in places]
    if node.op_type in ("Add", "Sub", "Mul", "Div", "Pow", "Where", "Max", "Min", "Sum", "PRelu"):
        for value in constants:
            axis = place.axis - rank + len(_shape(value))
            if axis >= 0 and _shape(value)[axis] != 1 and _row(value, axis, batch) is None:
                raise _NoPlaceError("treats the images of the batch differently")
    return place


def _only(found: set[Place]) -> Place:
    if len(found) > 1:
        raise _NoPlaceError("joins images of one place with those of another")
    return found.pop()


def _row(value: ir.Value, axis: int, batch: int) -> np.ndarray | None:
    """What a constant repeats along `axis` for every image of the batch, or None where it does not."""
    if value.const_value is None or _shape(value)[axis] != batch:
        return None
    array = value.const_value.numpy()
    first = array.take([0], axis)
    return first if np.array_equal(array, np.broadcast_to(first, array.shape)) else None


def _free_node(op: Ops, node: ir.Node, places: dict[ir.Value, Place], batch: int, image: ir.Value) -> None:
    """Let a node take any batch."""
    place = places[node.outputs[0]]
    if node.op_type == "Reshape":
        target = list(_shape(node.outputs[0]))
        target[place.axis] = -1
        node.replace_input_with(1, op.ints(target))
        node.attributes.pop("allowzero", None)
    elif node.op_type == "Expand":
        target = list(_shape(node.outputs[0]))
        target[place.axis] = 1
        node.replace_input_with(1, op.ints(target))
    elif node.op_type == "Resize" and "axes" not in node.attributes:
        _resize_others(op, node, place)
    else:
        _free_constants(op, node, places, batch, image)


def _resize_others(op: Ops, node: ir.Node, place: Place) -> None:
    """Let a Resize to given sizes leave the batch axis alone."""
    sizes = node.inputs[3] if len(node.inputs) > 3 else None
    if sizes is not None and sizes.const_value is not None:
        wanted = sizes.const_value.numpy().tolist()
        others = [i for i in range(len(wanted)) if i != place.axis]
        node.attributes["axes"] = ir.AttrInt64s("axes", others)
        node.replace_input_with(3, op.ints([wanted[i] for i in others]))


def _free_constants(op: Ops, node: ir.Node, places: dict[ir.Value, Place], batch: int, image: ir.Value) -> None:
    """Cut constants that were repeated over the batch to one row; where they are concatenated, repeat that row."""
    rank, place = len(_shape(node.outputs[0])), places[node.outputs[0]]
    for i, value in enumerate(node.inputs):
        if value is None or value in places or value.const_value is None:
            continue
        axis = place.axis - rank + len(_shape(value))
        if axis < 0 or node.op_type not in ("Concat", "Add", "Sub", "Mul", "Div", "Pow", "Where", "Max", "Min", "Sum"):
            continue
        row = _row(value, axis, batch)
        one = value if row is None else op.constant(row)
        if node.op_type == "Concat":
            if row is None:
                raise ModelError(f"node {node.name!r} joins other constants to each image of the batch; {REMEDY}")
            n = op.Shape(image, start=0, end=1)
            ones = [op.ints([1] * k) for k in (axis, rank - axis - 1)]
            one = op.Expand(one, op.Concat(ones[0], n, ones[1], axis=0))
        if one is not value:
            node.replace_input_with(i, one)
