"""Gradient rules of quantisation, straight through (arXiv 1308.3432): rounding counts as the identity.

The gradient of a quantised tensor is that of the real one it stands for, so a QuantizeLinear and its DequantizeLinear
are the identity together, whatever their scale.
"""

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule
from fusioncam.export.gradient.tape import dims, numpy_type

SCALE = 1  # input


@rule("QuantizeLinear", every_input=True)
@rule("QuantizeLinear", domain="com.microsoft", every_input=True)  # written for 16 bits below opset 21
def _quantize(s: Step) -> ir.Value | None:
    return None if s.index else s.dy


@rule("DequantizeLinear", every_input=True)
@rule("DequantizeLinear", domain="com.microsoft", every_input=True)
def _dequantize(s: Step) -> ir.Value | None:
    if s.index == 0:
        return s.dy
    return _by_scale(s) if s.index == SCALE and not _quantised_by_it(s) else None


def _quantised_by_it(s: Step) -> bool:
    """Return whether the data come, perhaps moved, out of a QuantizeLinear with the same scale."""
    node = s.input(0).producer()
    while node is not None and node.op_type != "QuantizeLinear":
        first = node.inputs[0] if node.inputs else None
        node = None if first is None else first.producer()
    return node is not None and node.inputs[SCALE] is s.x


def _by_scale(s: Step) -> ir.Value:
    """Return the sum of dy (data - zero point) over the elements of each scale."""
    if s.node.domain:
        raise NotImplementedError("its scale depends on the layer")
    op, shape, narrow, block = s.op, dims(s.input(0)), s.static(s.x), s.attribute("block_size", 0)
    attributes = {k: v.value for k, v in s.node.attributes.items() if k in ("axis", "block_size")}
    ones = op.constant(np.ones(narrow), numpy_type(s.x))
    steps = op.DequantizeLinear(s.input(0), ones, *s.node.inputs[2:], **attributes)
    dy = s.dy if s.y.dtype == s.x.dtype else op.Cast(s.dy, to=s.x.dtype)
    total, axis = op.Mul(dy, steps), s.axis(1) if shape else 0
    if block:
        if shape[axis] != narrow[axis] * block:
            raise NotImplementedError("blocks that do not fill its axis")
        total = op.reshape(total, (*shape[:axis], narrow[axis], block, *shape[axis + 1 :]))
        return op.ReduceSum(total, op.ints([axis + 1]), keepdims=0)
    single = not narrow or narrow == [1]
    if shape and (not single or shape != (1,)):
        others = [i for i in range(len(shape)) if single or i != axis]
        total = op.ReduceSum(total, op.ints(others), keepdims=0) if others else total
    return op.Reshape(total, op.ints(narrow)) if single and narrow else total
