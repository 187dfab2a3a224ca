"""Models in float64 or bfloat16 that onnxruntime cannot run on the CPU: they are read as float32.

Weights in bfloat16 are exact in float32, those in float64 lose digits that no picture has.
"""

import itertools
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from fusioncam.export.reading.nodes import all_nodes

RARE_TYPES = {TensorProto.DOUBLE: "float64", TensorProto.BFLOAT16: "bfloat16"}
# Attributes that name an element type.
TYPED = ("to", "dtype", "stash_type", "softmax_precision", "output_dtype")


def rare_types(proto: onnx.ModelProto) -> set[str]:
    """Return names of the rare types that a model computes in: of its inputs, its weights, or what it casts to."""
    kinds = {t.data_type for t in _tensors(proto) if len(t.dims) > 1 or t.data_type == TensorProto.BFLOAT16}
    kinds |= {v.type.tensor_type.elem_type for v in proto.graph.input}
    kinds |= {a.i for a in _attributes(proto) if a.name in TYPED and a.i == TensorProto.BFLOAT16}
    return {name for kind, name in RARE_TYPES.items() if kind in kinds}


def to_float32(proto: onnx.ModelProto) -> None:
    """Write the tensors of a model that are in float64 or bfloat16 in float32; numbers beyond it become its largest."""
    for tensor in _tensors(proto):
        if tensor.data_type in RARE_TYPES:
            wide, limit = numpy_helper.to_array(tensor).astype(np.float64), np.finfo(np.float32).max
            narrow = np.where(np.isfinite(wide), np.clip(wide, -limit, limit), wide).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
    for attribute in _attributes(proto):
        if attribute.name in TYPED and attribute.i in RARE_TYPES:
            attribute.i = TensorProto.FLOAT
    for kind in _types(proto):
        if kind.elem_type in RARE_TYPES:
            kind.elem_type = TensorProto.FLOAT


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    return all_nodes([*proto.graph.node, *itertools.chain.from_iterable(f.node for f in proto.functions)])


def _attributes(proto: onnx.ModelProto) -> Iterator[onnx.AttributeProto]:
    return (attribute for node in _nodes(proto) for attribute in node.attribute)


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    yield proto.graph
    for attribute in _attributes(proto):
        yield from (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs)


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from (t for graph in _graphs(proto) for t in graph.initializer)
    for attribute in _attributes(proto):
        yield from (*([attribute.t] if attribute.HasField("t") else []), *attribute.tensors)


def _types(proto: onnx.ModelProto) -> Iterator[onnx.TypeProto.Tensor]:
    for graph in _graphs(proto):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield from _within(value.type)


def _within(kind: onnx.TypeProto) -> Iterator[onnx.TypeProto.Tensor]:
    if kind.HasField("tensor_type"):
        yield kind.tensor_type
    elif kind.HasField("sequence_type"):
        yield from _within(kind.sequence_type.elem_type)
    elif kind.HasField("optional_type"):
        yield from _within(kind.optional_type.elem_type)
