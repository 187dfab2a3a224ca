"""Parts of both variants of the single graph: the inputs, the network of exact passes, and the outputs."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from fusioncam.export.single.nodes import forget_shapes
from fusioncam.forms import CONFIDENCES, SCORES, Form, Tensor


def of_one_picture(graph: ir.Graph) -> dict[str, ir.Value]:
    """Return the inputs and outputs of a graph, by name, after fixing its batch at one."""
    for value in (*graph.inputs, *graph.outputs):
        assert value.shape is not None
        value.shape = ir.Shape([1, *value.shape[1:]])
    kept = [(v, v.shape, v.type) for v in graph.outputs]
    forget_shapes(graph)
    for value, shape, kind in kept:
        value.shape, value.type = shape, kind
    return {str(v.name): v for v, _, _ in kept} | {str(v.name): v for v in graph.inputs}


def scoring_only(explain: ir.Model, form: Form) -> ir.Model:
    """Return the explain graph, which is changed, without activations and gradients.

    It takes pictures to logits where those are a vector, else pictures and one target to scores and confidences.
    """
    graph = explain.graph
    kept = (SCORES, CONFIDENCES) if form.scored else (form.output.name,)
    outputs = [v for v in graph.outputs if v.name in kept]
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    passes.RemoveUnusedNodesPass()(explain)
    if not form.scored:
        del graph.inputs[1:]
    return explain


def kind_of(tensor: Tensor) -> ir.DataType:
    """Return the type of the elements of a tensor."""
    return ir.DataType.from_numpy(np.dtype(tensor.dtype))


def give(
    graph: ir.Graph, outputs: Mapping[str, ir.Value], shape: Sequence[int], dtype: ir.DataType = ir.DataType.FLOAT
) -> None:
    """Append values of one shape and type to the outputs of a graph, by name."""
    for name, value in outputs.items():
        value.name, value.type, value.shape = name, ir.TensorType(dtype), ir.Shape(shape)
        graph.outputs.append(value)
