"""The inputs of a source beside the picture: which input is the picture, and what the others take."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.gradient import operator_name, reads
from fusioncam.export.operators import VIEWS
from fusioncam.export.sessions import run
from fusioncam.further_inputs import ElementType, FurtherInput, drawn
from fusioncam.input_values import option
from fusioncam.kernels.arrays import Array

Shape = Sequence[int | None]
FURTHER = "further"  # in the `meta` of a model's further input: its `FurtherInput`
TYPES = get_args(ElementType)
PICTURE_RANKS = (4, 5, 3)  # an input of the first is taken for the picture before one of the second
MOVES = (*VIEWS, "Cast", "Transpose", "Slice", "Split", "Gather")  # elements pass them unchanged
# Operators whose output has a shape, or takes places, by the values of these inputs.
SHAPED_BY = {
    **dict.fromkeys(("Reshape", "Expand", "Tile", "Pad", "TopK", "Split", "Squeeze", "Unsqueeze", "OneHot"), (1,)),
    **dict.fromkeys(("Slice", "Resize"), (1, 2, 3, 4)),
    **dict.fromkeys(("ConstantOfShape", "NonZero", "Range", "CenterCropPad"), (0, 1, 2)),
    "Compress": (1,),
}


def picture_input(graph: ir.Graph, name: str | None) -> ir.Value:
    """Return the input that is explained: the one that is named, or the only one that can be a picture.

    Raises:
        ModelError: No input is a picture.
        UsageError: There is no such input, or several can be the picture.
    """
    inputs = {str(i.name): i for i in graph.inputs}
    if name is not None:
        if name not in inputs:
            raise UsageError(f"the model has no input {name!r} for --image; it has {listed(inputs.values())}")
        return inputs[name]
    if len(inputs) == 1:
        return next(iter(inputs.values()))
    numbers = [i for i in inputs.values() if i.dtype not in (ir.DataType.STRING, ir.DataType.BOOL)]
    of_rank = ([i for i in numbers if _rank(i) == rank] for rank in PICTURE_RANKS)
    found = next(filter(None, of_rank), [])
    if len(found) > 1:
        found = [i for i in found if _is_convolved(graph, i)] or found
    if not found:
        raise ModelError(
            f"the model has {len(inputs)} inputs ({listed(inputs.values()) or 'none'}), of which none is a picture; "
            "name it with --image"
        )
    if len(found) > 1:
        raise UsageError(f"the model has several inputs that can be the picture: {listed(found)}; name it with --image")
    return found[0]


def listed(inputs: Collection[ir.Value]) -> str:
    """Return names, types and shapes of inputs, for errors."""
    return ", ".join(f"{value.name!r} {_type(value)} ({_shape(value)})" for value in inputs)


def _rank(value: ir.Value) -> int:
    return PICTURE_RANKS[0] if value.shape is None else len(value.shape)


def _shape(value: ir.Value) -> str:
    return "..." if value.shape is None else ", ".join(str(d) if isinstance(d, int) else "?" for d in value.shape)


def _type(value: ir.Value) -> Any:
    kind = value.dtype or ir.DataType.FLOAT
    names = {"FLOAT": "float32", "DOUBLE": "float64"}
    return names.get(kind.name, kind.name.lower())


def _is_convolved(graph: ir.Graph, start: ir.Value) -> bool:
    """Return whether a convolution reads what is computed from an input."""
    reached = {start}
    for node in graph:
        if not reached.isdisjoint(reads(node)):
            if "Conv" in node.op_type:
                return True
            reached.update(node.outputs)
    return False


def common_batch(picture: ir.Value, others: Sequence[ir.Value]) -> int | None:
    """Return the batch that all inputs declare, None for any.

    Raises:
        UsageError: An input has no batch in front, or another one than the picture.
    """
    own = next(iter(picture.shape or [None]))
    batch = own if isinstance(own, int) and own > 0 else None
    for value in others:
        if not value.shape:
            raise must_freeze(value, "has no axis for the batch")
        rows = value.shape[0]
        if isinstance(rows, int) and rows != (batch or 1):
            raise must_freeze(value, f"has {rows} rows, not one for each picture")
        batch = rows if isinstance(rows, int) else batch
    return batch


def must_freeze(value: ir.Value, why: str) -> UsageError:
    """Return the error for an input that cannot stay open."""
    return UsageError(f"input {listed([value])} {why}; freeze it with {option(str(value.name))}")


def describe(
    picture: ir.Value,
    others: Sequence[ir.Value],
    sides: Sequence[int],
    channel_axis: int,
    defaults: Mapping[str, Array],
) -> list[FurtherInput]:
    """Return what the other inputs take.

    Axes that they leave open have the size of the picture's axis of that name, else of that place.

    Args:
        picture: The picture's input.
        others: The others; their first axis is the batch.
        sides: The picture's sizes along all axes but the batch.
        channel_axis: The axis of its channels.
        defaults: Values of optional inputs, with their first axis.

    Raises:
        UsageError: A type cannot be fed, or a size is open.
    """
    own = list(picture.shape or ())[1:]
    named = {str(d): size for d, size in zip(own, sides, strict=False) if not isinstance(d, int) and str(d) != "None"}
    made = []
    for value in others:
        kind, name = _type(value), str(value.name)
        if kind not in TYPES:
            raise must_freeze(value, "is of a type that cannot stay open")
        shape = []
        for i, d in enumerate(list(value.shape or ())[1:]):
            size = d if isinstance(d, int) else named.get(str(d))
            if size is None and len(value.shape or ()) == len(sides) + 1:
                size = sides[i]
            if size is None:
                raise must_freeze(value, "leaves its size open")
            shape.append(int(size))
        alike = kind != "bool" and len(shape) == len(sides) and shape[channel_axis - 1] == sides[channel_axis - 1]
        default = defaults[name].ravel().tolist() if name in defaults else None
        if default is not None and len(default) != int(np.prod(shape)):
            raise must_freeze(value, "is optional, and its default is not that of one picture")
        made.append(
            FurtherInput(
                name=name,
                tensor=name,
                type=kind,
                shape=tuple(shape),
                channel_axis=channel_axis if alike else None,
                default=None if default is None else tuple(default),
            )
        )
    return made


def attach(model: ir.Model, described: Sequence[FurtherInput], batch: int | None) -> None:
    """Give the further inputs of a graph their final shapes, and find the tables that they choose from.

    Args:
        model: The model, whose first input is the picture.
        described: Its other inputs, in order.
        batch: The batch, or None for any.

    Raises:
        UsageError: An input decides the shape of a tensor.
    """
    for value, further in zip(model.graph.inputs[1:], described, strict=True):
        value.shape = ir.Shape([batch or "N", *further.shape])
        _refuse_shaping(model.graph, value)
        value.meta[FURTHER] = further.model_copy(update={"tensor": str(value.name)})
    for value in model.graph.inputs[1:]:
        further = value.meta[FURTHER]
        value.meta[FURTHER] = further.model_copy(update={"entries": _tables(model, value, batch or 1)})


def further_inputs(model: ir.Model) -> tuple[FurtherInput, ...]:
    """Return the further inputs of a model."""
    return tuple(value.meta[FURTHER] for value in model.graph.inputs if FURTHER in value.meta)


@contextmanager
def freezing_may_help(model: ir.Model) -> Iterator[None]:
    """Add to the errors inside, of a model with further inputs, that one may have no row for each picture."""
    try:
        yield
    except ModelError as error:
        names = [each.name for each in further_inputs(model)]
        if not names:
            raise
        which = " or ".join(map(repr, names))
        raise ModelError(
            f"{error}; or input {which} has no row for each picture, and must be frozen with {option(names[0])}"
        ) from error


def _refuse_shaping(graph: ir.Graph, start: ir.Value) -> None:
    """Refuse an input whose values decide shapes: these are constants of the bundle's graphs."""
    reached = {start}
    for node in graph:
        if reached.isdisjoint(reads(node)) or node.op_type in ("Shape", "Size"):
            continue
        shaping = [node.inputs[i] for i in SHAPED_BY.get(node.op_type, ()) if i < len(node.inputs)]
        if not reached.isdisjoint(shaping):
            raise must_freeze(start, f"decides shapes (node {node.name!r}, {operator_name(node)})")
        reached.update(node.outputs)


def _tables(model: ir.Model, start: ir.Value, batch: int) -> tuple[int, ...]:
    """Return the lengths of the tables that the elements of an input choose from, see `FurtherInput.entries`.

    The numbers of the elements themselves are sent through the graph, to see which of them reach a table.
    """
    further: FurtherInput = start.meta[FURTHER]
    if further.type == "bool":
        return ()
    moved, tables = {start}, dict[ir.Value, int]()
    for node in model.graph:
        if node.op_type == "Gather" and node.inputs[1] in moved and node.inputs[0] is not None:
            length = list(node.inputs[0].shape or [None])[node.attributes.get_int("axis", 0)]
            if isinstance(length, int):
                tables[node.inputs[1]] = min(length, tables.get(node.inputs[1], length))
        elif node.op_type in MOVES and any(v in moved for v in node.inputs[:1]):
            moved.update(node.outputs)
    if not tables:
        return ()
    count = int(np.prod(further.shape))
    numbers = np.broadcast_to(np.arange(count).reshape(1, *further.shape), (batch, *further.shape))
    lengths = np.zeros(count, int)
    for chosen, length in _values(model, tables, start, numbers.astype(further.dtype), batch):
        places = np.unique(chosen.astype(int))
        lengths[places] = np.where(lengths[places] > 0, np.minimum(lengths[places], length), length)
    return (int(lengths[0]),) if len(set(lengths)) == 1 else tuple(lengths.tolist())


def _values(
    model: ir.Model, tables: Mapping[ir.Value, int], start: ir.Value, numbers: Array, batch: int
) -> Iterator[tuple[Array, int]]:
    """Yield the indices that reach each table where an input holds `numbers`, and the length of the table."""
    graph = model.graph
    image, kept = graph.inputs[0], list(graph.outputs)
    feeds = {str(image.name): np.zeros([batch, *(d for d in image.shape or () if isinstance(d, int))][-4:], np.float32)}
    feeds |= drawn(further_inputs(model), batch) | {str(start.name): numbers}
    graph.outputs[:] = [v for v in tables if not v.is_graph_input()]
    try:
        found = run(model, feeds) if len(graph.outputs) else []
        computed = dict(zip(graph.outputs, found, strict=True))
    finally:
        graph.outputs[:] = kept
    for value, length in tables.items():
        yield computed.get(value, numbers), length
