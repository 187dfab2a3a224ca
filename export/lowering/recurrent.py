"""Recurrent operators of layout 1, which onnxruntime has no kernels for: layout 0, and transposes."""

from collections.abc import Sequence

import onnx_ir as ir

from fusioncam.export.lowering.table import Call, lowering

# The axes of layout 0 in the order of layout 1, by input and by output; inputs back again have the same order.
INPUTS = {0: [1, 0, 2], 5: [1, 0, 2], 6: [1, 0, 2]}
OUTPUTS = ([2, 0, 1, 3], [1, 0, 2], [1, 0, 2])


@lowering("RNN", "GRU", "LSTM")
def _time_first(c: Call) -> Sequence[ir.Value | None] | None:
    if not c.attribute("layout", 0):
        return None
    inputs = [
        c.op.Transpose(v, perm=INPUTS[i]) if v is not None and i in INPUTS else v for i, v in enumerate(c.node.inputs)
    ]
    attributes = {k: v.value for k, v in c.node.attributes.items() if k != "layout"}
    outputs = c.op.many(c.node.op_type, *inputs, count=len(c.node.outputs), **attributes)
    return [
        c.op.Transpose(new, perm=perm) if old.name else None
        for old, new, perm in zip(c.node.outputs, outputs, OUTPUTS, strict=False)
    ]
