"""Parts of both variants of the single graph: the inputs, the explained class, and the masked pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as passes

from fusioncam.export.gradient import Ops
from fusioncam.export.single.nodes import forget_shapes

SPLIT = 1 + 2.0**13  # Veltkamp's constant, which keeps 11 of the 24 digits of float32, those of float16
BEYOND = 65520  # from here on, float16 rounds to infinity


def of_one_picture(graph: ir.Graph) -> list[ir.Value]:
    """Return the inputs of a graph after fixing its batch at one."""
    for value in (*graph.inputs, *graph.outputs):
        assert value.shape is not None
        value.shape = ir.Shape([1, *value.shape[1:]])
    kept = [(v, v.shape, v.type) for v in graph.outputs]
    forget_shapes(graph)
    for value, shape, kind in kept:
        value.shape, value.type = shape, kind
    return list(graph.inputs)


def chosen_class(op: Ops, logits: ir.Value, class_index: ir.Value) -> ir.Value:
    """Return the class c (1,): `class_index`, or the top class where that is below zero."""
    top = op.ArgMax(logits, axis=1, keepdims=0)
    return op.Where(op.Less(class_index, op.ints([0])), top, class_index)


def masked(op: Ops, image: ir.Value, masks: ir.Value, half: bool) -> ir.Value:
    """Return pictures x * m (n, 3, H, W) for the score graph, from x (1, 3, H, W) and m (n, 1, H, W) float32.

    A float16 graph takes float16 pictures. onnxruntime, which computes in float32 on a CPU, removes a Cast to float16
    and back, so the rounding is done in float32 as well (Dekker, A floating-point technique, 1971); numbers beyond
    float16 become infinite.
    """
    pictures = op.Mul(image, masks)
    if not half:
        return pictures
    large = op.Mul(pictures, op.constant(SPLIT, np.float32))
    rounded = op.Sub(large, op.Sub(large, pictures))
    beyond = op.GreaterOrEqual(op.Abs(pictures), op.constant(BEYOND, np.float32))
    return op.Cast(op.Where(beyond, op.constant(np.inf, np.float32), rounded), to=ir.DataType.FLOAT16)


def of_class(op: Ops, rows: ir.Value, chosen: ir.Value) -> ir.Value:
    """Return the column (n,) of a class c (1,) of rows (n, classes)."""
    return op.Reshape(op.Gather(rows, chosen, axis=1), op.ints([-1]))


def is_half(score: ir.Model) -> bool:
    """Return whether a score graph takes float16 pictures."""
    return score.graph.inputs[0].dtype == ir.DataType.FLOAT16


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
