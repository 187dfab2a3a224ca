"""The graph that masks the layer, so that the model sees only some places of the activations.

Recipro-CAM needs it: it runs only the part after the layer, once per place, and needs no gradient:
Byun and Lee, Recipro-CAM: Fast gradient-free visual explanations for convolutional neural networks, arXiv 2209.14074.
"""

import math
from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from fusioncam.errors import out_of_memory
from fusioncam.export.gradient import Ops, reads
from fusioncam.export.layers.layout import Layout
from fusioncam.export.precision.drift import LOGIT_TOLERANCE
from fusioncam.export.reading.shapes import feeds_of
from fusioncam.export.sessions import session
from fusioncam.export.targets import Scoring
from fusioncam.kernels.arrays import Size

ONE, MANY = "1", "M"  # the batch before the layer, and after it


def head_graph(
    model: ir.Model, layer_name: str, layout: Layout, precision: str, scoring: Scoring | None = None
) -> ir.Model | None:
    """Return the graph from `image` (1, C, H, W) and `masks` (M, 1, h, w), both float32, to `logits` (M, classes).

    Of maps or an embedding it takes T targets, too, and gives their `scores` and `confidences`, both (M, T). Further
    inputs have one row.

    Everything up to the layer has a batch of one; the layer's tensor is multiplied by the masks, and what follows has a
    batch of M. Tokens outside of the grid (the class token, registers) are kept, as OpenVINO's ViTReciproCAM keeps
    them. Tensors that bypass the layer are the same for every mask.

    Args:
        model: A canonical model; it is left as it is.
        layer_name: Name of the layer's tensor.
        layout: Meaning of its axes.
        precision: Type the model computes in.
        scoring: The scores of its targets; None for a vector.

    Returns:
        The graph, or None where its logits differ from the model's: an operator after the layer takes the batch from
        elsewhere. None of a model that takes one picture at a time, either.
    """
    if 1 in list(model.graph.inputs[0].shape or ())[:1]:
        return None
    head = model.clone()
    graph = head.graph
    inputs = list(graph.inputs)
    layer = next(o for node in graph for o in node.outputs if o.name == layer_name)
    masks = ir.Value(name="masks", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([MANY, 1, *layout.grid]))
    graph.inputs.append(masks)
    op = Ops(graph, "head")
    after = _after(graph, layer)
    _name_batch(after, MANY)
    _repeat_the_others(op, graph, after, layer, masks)
    _name_batch((*inputs, *(o for node in graph for o in node.outputs if o not in after)), ONE)
    masked = op.Mul(layer, _as_tensor(op, masks, layer, layout))
    product = masked.producer()
    assert product is not None
    layer.replace_all_uses_with(masked)
    product.replace_input_with(0, layer)
    graph.sort()
    if not _gives_logits_of(model, head, layout.grid, LOGIT_TOLERANCE[precision]):
        return None
    if scoring is not None and scoring.form.scored:
        scoring.append_crosswise(graph, MANY)
    return head


def _after(graph: ir.Graph, layer: ir.Value) -> set[ir.Value]:
    """Return the tensors that are computed from the layer."""
    after: set[ir.Value] = set()
    for node in graph:
        if any(v is layer or v in after for v in reads(node)):
            after.update(node.outputs)
    return after


def _repeat_the_others(op: Ops, graph: ir.Graph, after: set[ir.Value], layer: ir.Value, masks: ir.Value) -> None:
    """Repeat M times the tensors that bypass the layer and meet tensors of batch M.

    An operator that broadcasts would not need this, but concatenation does.
    """
    repeated: dict[ir.Value, ir.Value] = {}
    for node in [n for n in graph if not after.isdisjoint(n.outputs)]:
        for i, value in enumerate(node.inputs):
            if value is None or value is layer or value in after or (axis := _batch_axis(value)) is None:
                continue
            if value not in repeated:
                rank = len(value.shape or ())
                ones = [op.ints([1] * n) for n in (axis, rank - axis - 1)]
                repeated[value] = op.Tile(value, op.Concat(ones[0], op.Shape(masks, start=0, end=1), ones[1], axis=0))
            node.replace_input_with(i, repeated[value])


def _batch_axis(value: ir.Value) -> int | None:
    """Return the axis that grows with the batch, or None."""
    return next((i for i, d in enumerate(value.shape or ()) if not isinstance(d, int)), None)


def _name_batch(values: Iterable[ir.Value], batch: str) -> None:
    """Replace N by `batch` in the shapes of tensors: onnxruntime takes equal names for equal sizes."""
    for value in values:
        axis = _batch_axis(value)
        if value.shape is not None and axis is not None:
            size = str(value.shape[axis]).replace("N", batch)
            whole = [*value.shape]
            whole[axis] = int(np.prod([int(f) for f in size.split("*")])) if batch == ONE else size
            value.shape = ir.Shape(whole)


def _as_tensor(op: Ops, masks: ir.Value, layer: ir.Value, layout: Layout) -> ir.Value:
    """Return the masks in the axes and the type of the layer's tensor, one for tokens outside of the grid."""
    value, axes, places = masks, layout.usual_roles, math.prod(layout.grid)
    if layout.in_tokens:
        value = op.Reshape(value, op.ints([-1, 1, places]))
        tokens = layer.shape[layout.roles.index("T")] if layer.shape is not None else 0
        assert isinstance(tokens, int)
        after = tokens - layout.offset - places
        if layout.offset or after:
            value = op.Pad(value, op.ints([0, 0, layout.offset, 0, 0, after]), op.constant(1, np.float32))
    if layout.roles != axes:
        value = op.Transpose(value, perm=[axes.index(r) for r in layout.roles])
    return op.Cast(value, to=layer.dtype) if layer.dtype != ir.DataType.FLOAT else value


def _gives_logits_of(model: ir.Model, head: ir.Model, grid: Size, tolerance: float) -> bool:
    """Return whether a mask of ones changes nothing, and no mask depends on those beside it."""
    feeds = feeds_of(model, 1)
    masks = np.ones((3, 1, *grid), np.float32)
    masks[1:] = np.random.default_rng(0).random((2, 1, *grid)) < 0.5
    try:
        masked = session(head, optimize=False)
        together = masked.run(None, {**feeds, "masks": masks})[0]
        alone = [session(model, optimize=False).run(None, feeds)[0]]
        alone += [masked.run(None, {**feeds, "masks": m[None]})[0] for m in masks[1:]]
    except Exception as error:  # those of onnxruntime share no base class
        if memory := out_of_memory(error):
            raise memory from error
        return False
    expected = np.concatenate(alone)
    scale = float(np.abs(expected).max()) or 1.0
    return together.shape == expected.shape and bool(np.abs(together - expected).max() <= tolerance * scale)
