"""Parts of both variants of the single graph: the inputs, the explained class, and the outputs."""

from collections.abc import Mapping, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as passes

from fusioncam.export.gradient import Ops
from fusioncam.export.single.nodes import forget_shapes


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


def chosen_class(op: Ops, logits: ir.Value, class_index: ir.Value) -> ir.Value:
    """Return the class c (1,): `class_index`, or the top class where that is below zero."""
    top = op.ArgMax(logits, axis=1, keepdims=0)
    return op.Where(op.Less(class_index, op.ints([0])), top, class_index)


def of_class(op: Ops, rows: ir.Value, chosen: ir.Value) -> ir.Value:
    """Return the column (n,) of a class c (1,) of rows (n, classes)."""
    return op.Reshape(op.Gather(rows, chosen, axis=1), op.ints([-1]))


def logits_only(explain: ir.Model) -> ir.Model:
    """Return the explain graph, which is changed, without class, activations and gradients: pictures to logits."""
    graph = explain.graph
    del graph.outputs[1:]
    passes.RemoveUnusedNodesPass()(explain)
    graph.inputs.remove(graph.inputs[1])
    return explain


def give(graph: ir.Graph, outputs: Mapping[str, ir.Value], shape: Sequence[int]) -> None:
    """Append float32 values of one shape to the outputs of a graph, by name."""
    for name, value in outputs.items():
        value.name, value.type, value.shape = name, ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
        graph.outputs.append(value)
