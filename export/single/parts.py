"""What both forms of the single graph are made of: its inputs, the class explained, and the masked pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.nodes import forget_shapes

SPLIT = 1 + 2.0**13  # Veltkamp's constant that leaves the 11 digits of float16 of the 24 of float32
BEYOND = 65520  # from here on, float16 rounds to infinity


def of_one_picture(graph: ir.Graph) -> list[ir.Value]:
    """The inputs of a graph, whose batch becomes one."""
    for value in (*graph.inputs, *graph.outputs):
        assert value.shape is not None
        value.shape = ir.Shape([1, *value.shape[1:]])
    kept = [(v, v.shape, v.type) for v in graph.outputs]
    forget_shapes(graph)
    for value, shape, kind in kept:
        value.shape, value.type = shape, kind
    return list(graph.inputs)


def chosen_class(op: Ops, logits: ir.Value, class_index: ir.Value) -> ir.Value:
    """The class c (1,): the one asked for, or the top one where that is below zero."""
    top = op.ArgMax(logits, axis=1, keepdims=0)
    return op.Where(op.Less(class_index, op.ints([0])), top, class_index)


def masked(op: Ops, image: ir.Value, masks: ir.Value, half: bool) -> ir.Value:
    """Pictures x * m (n, 3, H, W) as the score graph takes them, for x (1, 3, H, W) and m (n, 1, H, W) float32.

    A float16 graph takes float16 pictures. onnxruntime, which computes in float32 on a CPU, goes round a Cast there
    and back, so that is done in float32 as well (Dekker, A floating-point technique, 1971): what float16 does not hold
    becomes infinite there, too.
    """
    pictures = op.Mul(image, masks)
    if not half:
        return pictures
    large = op.Mul(pictures, op.constant(SPLIT, np.float32))
    rounded = op.Sub(large, op.Sub(large, pictures))
    beyond = op.GreaterOrEqual(op.Abs(pictures), op.constant(BEYOND, np.float32))
    return op.Cast(op.Where(beyond, op.constant(np.inf, np.float32), rounded), to=ir.DataType.FLOAT16)


def of_class(op: Ops, rows: ir.Value, chosen: ir.Value) -> ir.Value:
    """The column (n,) of a class c (1,) in rows (n, classes)."""
    return op.Reshape(op.Gather(rows, chosen, axis=1), op.ints([-1]))


def is_half(score: ir.Model) -> bool:
    """Whether a score graph takes float16 pictures."""
    return score.graph.inputs[0].dtype == ir.DataType.FLOAT16


def give(graph: ir.Graph, outputs: Mapping[str, ir.Value], shape: Sequence[int]) -> None:
    """Make float32 values of one shape the outputs of a graph, behind those it has, by name."""
    for name, value in outputs.items():
        value.name, value.type, value.shape = name, ir.TensorType(ir.DataType.FLOAT), ir.Shape(shape)
        graph.outputs.append(value)
