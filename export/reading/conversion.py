"""The comparison of a model that was rewritten on loading with its source, tensor by tensor."""

from collections.abc import Sequence

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
    values = list(dict.fromkeys([fed, *watched.values()]))
    ours = dict(zip(values, _values(model, values, feeds), strict=True))
    others = {each.name: feeds[each.tensor] for each in further_inputs(model)}
    theirs = _source_values(conversion.source, list(watched), {input_name: ours[fed], **others})
    for name, expected in zip(watched, theirs, strict=True):
        if not _equal(expected, ours[watched[name]]):
            node = next(n for n in conversion.source.graph.node if name in n.output)
            raise ModelError(
                f"the model gives other numbers at opset {model.opset_imports['']} than at its own, first in node "
                f"{node.name or name!r} ({node.op_type}); export it at opset {model.opset_imports['']}"
            )


def _values(model: ir.Model, values: Sequence[ir.Value], feeds: dict[str, Array]) -> list[Array]:
    """Run a model for some of its tensors; its input may be one of them."""
    graph = model.graph
    kept = list(graph.outputs)
    graph.outputs[:] = [v for v in values if not v.is_graph_input()]
    try:
        names = [str(v.name) for v in graph.outputs]
        outputs = dict(zip(names, run_session(session(model, optimize=False), names, feeds), strict=True))
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
    return repeats(one, other, TOLERANCES.get(one.dtype, TOLERANCE))
