"""onnxruntime's normalisations with what is fused to them, written in ONNX's own operators."""

from collections.abc import Sequence

import onnx_ir as ir

from fusioncam.export.lowering.contrib import CONTRIB, like
from fusioncam.export.lowering.table import Call, lowering

Outputs = Sequence[ir.Value | None] | None


def rms(call: Call, x: ir.Value, scale: ir.Value) -> ir.Value:
    """Return a tensor divided by its root mean square along the last axes, and scaled."""
    op, axis = call.op, call.attribute("axis", -1)
    axes = op.ints(range(axis, 0)) if axis < 0 else op.ints([axis])
    square = op.ReduceMean(op.Mul(x, x), axes, keepdims=1)
    root = op.Sqrt(op.Add(square, like(call, call.attribute("epsilon", 1e-5))))
    return op.Mul(op.Div(x, root), scale)


@lowering("SimplifiedLayerNormalization")
def _simplified(call: Call) -> Outputs:
    axis = call.attribute("axis", -1)
    if call.used(1) or (axis >= 0 and call.known_rank(0) != axis + 1):
        return None
    return [rms(call, call.input(0), call.input(1))]


@lowering("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=CONTRIB)
def _after_skip(call: Call) -> Outputs:
    simple = call.node.op_type == "SkipSimplifiedLayerNormalization"
    bias = 3 if simple else 4
    if call.used(1) or call.used(2):
        return None
    total = call.op.Add(call.input(0), call.input(1))
    if call.has(bias):
        total = call.op.Add(total, call.input(bias))
    if simple:
        return [rms(call, total, call.input(2)), None, None, total if call.used(3) else None]
    given = [call.input(2), *([call.input(3)] if call.has(3) else [])]
    y = call.op.LayerNormalization(total, *given, axis=-1, epsilon=call.attribute("epsilon", 1e-12))
    return [y, None, None, total if call.used(3) else None]
