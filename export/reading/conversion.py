"""The comparison of a model that was rewritten on loading with its source, tensor by tensor."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import EncodeError

from fusioncam.errors import ModelError
from fusioncam.export.gradient import dims
from fusioncam.export.reading.further_inputs import further_inputs
from fusioncam.export.reading.load import Conversion
from fusioncam.export.reading.shapes import feeds_of, repeats
from fusioncam.export.sessions import open_session, run_session, session
from fusioncam.kernels.arrays import Array

# What a tensor may differ by, relative to its largest number.
TOLERANCES = {np.dtype(np.float16): 2e-2, np.dtype(np.float64): 1e-6}
TOLERANCE = 1e-4
CUT_OFF = (
    ", or on a CPU with VNNI: others cut off sums of products of uint8 and int8, unless the model was quantised with "
    "reduce_range"
)


def compare_conversion(model: ir.Model, conversion: Conversion, input_name: str, reader: tuple[ir.Node, int]) -> None:
    """Run the source and the converted model on the same input and compare what was rewritten.

    Args:
        model: The converted model; its input is the picture already.
        conversion: The tensors that were rewritten.
        input_name: The source's input.
        reader: A node that reads that input, and the position: its input now is fed to the source.

    Raises:
        ModelError: They differ, or the source does not run. The first tensor that differs is named.
    """
    graph = model.graph
    node, position = reader
    fed = node.inputs[position]
    assert fed is not None
    alive = {v: None for node in graph for v in node.outputs}
    watched = {name: v for name, v in conversion.rewritten.items() if v in alive}
    feeds = feeds_of(model, dims(graph.inputs[0])[0] or 1)  # some take one only, whatever they say
    others = {each.name: feeds[each.tensor] for each in further_inputs(model)}
    picture = _values(model, [fed], feeds)[0]
    theirs = dict(
        zip(watched, _source_values(conversion.source, [*watched], {input_name: picture, **others}), strict=True)
    )
    whole = {watched[name]: array for name, array in theirs.items() if _rounded(array)}
    with _set_to(model, whole) as rounded:
        ours = dict(zip(watched, _values(model, [*watched.values()], {**feeds, **rounded}), strict=True))
    for name, expected in theirs.items():
        if not _equal(expected, ours[name]):
            node = next(n for n in conversion.source.graph.node if name in n.output)
            raise ModelError(
                f"the model gives other numbers at opset {model.opset_imports['']} than at its own, first in node "
                f"{node.name or name!r} ({node.op_type}); export it at opset {model.opset_imports['']}"
                + CUT_OFF
                * node.op_type.startswith("QLinear")
            )


def _rounded(array: Array) -> bool:
    """Return whether a tensor holds quantised numbers, which differ by whole steps."""
    return isinstance(array, np.ndarray) and array.dtype in (np.uint8, np.int8)


@contextmanager
def _set_to(model: ir.Model, arrays: Mapping[ir.Value, Array]) -> Iterator[dict[str, Array]]:
    """Let what reads some tensors read inputs instead, while inside: a step in one is not seen in those after it.

    Yields:
        What to feed to these inputs.
    """
    graph, feeds, replaced = model.graph, {}, []
    for value, array in arrays.items():
        given = ir.Value(name=f"{value.name}/given", type=ir.TensorType(ir.DataType.from_numpy(array.dtype)))
        readers = list(value.uses())
        for reader, index in readers:
            reader.replace_input_with(index, given)
        graph.inputs.append(given)
        feeds[str(given.name)] = array
        replaced.append((value, readers))
    try:
        yield feeds
    finally:
        del graph.inputs[len(graph.inputs) - len(replaced) :]
        for value, readers in replaced:
            for reader, index in readers:
                reader.replace_input_with(index, value)


def _values(model: ir.Model, values: Sequence[ir.Value], feeds: dict[str, Array]) -> list[Array]:
    """Run a model for some of its tensors; its input may be one of them."""
    graph = model.graph
    kept = list(graph.outputs)
    graph.outputs[:] = [v for v in values if not v.is_graph_input()]
    try:
        names = [str(v.name) for v in graph.outputs]
        run = run_session(session(model, optimize=False), names, feeds) if names else []
        outputs = dict(zip(names, run, strict=True))
    finally:
        graph.outputs[:] = kept
    return [(outputs | feeds)[str(v.name)] for v in values]


def _source_values(source: onnx.ModelProto, names: Sequence[str], feeds: dict[str, Array]) -> list[Array]:
    """Run the source for some of its tensors."""
    kept = list(source.graph.output)
    del source.graph.output[:]
    source.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    try:
        data = source.SerializeToString()
    except (ValueError, EncodeError) as error:  # protobuf holds 2 GB at most
        raise ModelError(
            "the model is too large to be compared with its conversion; export it at opset 18 or later"
        ) from error
    finally:
        del source.graph.output[:]
        source.graph.output.extend(kept)
    return run_session(open_session(data, optimize=False), names, feeds)


def _equal(one: Array, other: Array) -> bool:
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return type(one) is type(other)  # sequences and maps: what is read of them is a tensor again
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if _rounded(one):
        return bool((np.abs(one.astype(int) - other) <= 1).all())
    return repeats(one, other, TOLERANCES.get(one.dtype, TOLERANCE))
