"""Operators on quantised tensors, written as DequantizeLinear, the operator on real numbers, and QuantizeLinear.

ONNX's own (QLinearConv, QLinearMatMul) and onnxruntime's (com.microsoft): the QOperator form becomes that of pairs,
through which a gradient goes straight. onnxruntime makes its operators of the pairs again when it opens a session.
The formulas are those of https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from fusioncam.export.lowering.axes import channels_first, channels_last
from fusioncam.export.lowering.table import Call, lowering
from fusioncam.export.operators import WEIGHTED

CONTRIB = "com.microsoft"
LAST = "channels_last"
# A range that begins at zero stands for an activation behind one of these: quantisers leave that out.
SIGNED = (*WEIGHTED, "Add", "Sub", "Sum", "BatchNormalization", "InstanceNormalization", "LayerNormalization")
# Others have less than 8 bits, or a point: onnxruntime 1.31 fails on a Clip before these.
CLIPPED = (np.uint8, np.int8, np.uint16, np.int16)


def counts_whole(node: ir.Node | onnx.NodeProto) -> bool:
    """Return whether a node computes in whole numbers what its lowering rounds from real ones."""
    return node.op_type.startswith("QLinear") or node.op_type in ("QGemm", "ConvInteger", "MatMulInteger")


def real(call: Call, i: int, axis: int | None = None, at: Sequence[int] | None = None) -> ir.Value:
    """Return input `i` in real numbers; its scale and zero point are inputs `at`, by default the two that follow.

    Nodes that read one quantised tensor share its real numbers, which take its name, without the `_quantized` that
    onnxruntime's quantiser appends.

    Args:
        call: The node.
        i: Position of the quantised tensor.
        axis: The axis that several scales are of.
        at: Positions of scale and zero point; the latter may be missing.
    """
    at = (i + 1, i + 2) if at is None else at
    x, scale, *zeros = (_scalar(call, k) for k in (i, *at) if call.has(k))
    of_axis = axis if scale.shape is not None and len(scale.shape) else None
    given = [x, scale, *zeros]
    for use in x.uses():
        other = use.node
        same = other.op_type == "DequantizeLinear" and [*other.inputs] == given and other.graph is call.node.graph
        if same and other.attributes.get_int("axis", -1) == (-1 if of_axis is None else of_axis):
            return other.outputs[0]
    made = call.op.DequantizeLinear(*given, axis=of_axis)
    stem = str(x.name).removesuffix("_quantized")
    return call.op.call(made, stem if stem != x.name else f"{stem}_dequantized")


def quantised(call: Call, y: ir.Value, i: int) -> ir.Value:
    """Return real numbers rounded by the scale that is input `i`, and the zero point after it."""
    return call.op.QuantizeLinear(y, *(_scalar(call, k) for k in (i, i + 1) if call.has(k)))


def _scalar(call: Call, i: int) -> ir.Value:
    """Return input `i`; a constant of one number in one axis, as these operators take it, becomes a scalar."""
    value = call.input(i)
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is None or tuple(tensor.shape.numpy()) != (1,):
        return value
    return call.op.constant(tensor.numpy().reshape(()))


def _bias(call: Call, i: int, scales: Sequence[int], factor: float = 1.0) -> ir.Value | None:
    """Return a bias of whole numbers in real ones: its scale is the product of those of both operands."""
    if not call.has(i):
        return None
    op, known = call.op, [k for k in map(call.constant, scales) if k is not None]
    if len(known) < len(scales):
        scale = op.Mul(op.Mul(call.input(scales[0]), call.input(scales[1])), op.constant(factor, np.float32))
        return op.Mul(op.Cast(call.input(i), to=ir.DataType.FLOAT), scale)
    product = np.float32(factor) * np.squeeze(known[0] * known[1])
    return op.DequantizeLinear(call.input(i), op.constant(product, np.float32), axis=0 if product.ndim else None)


@lowering("QLinearConv")
@lowering("QLinearConv", domain=CONTRIB)
def _convolution(call: Call) -> ir.Value:
    last = bool(call.attribute(LAST, 0))
    x = real(call, 0)
    x = channels_first(call.op, x) if last else x
    w = real(call, 3, axis=0)
    y = call.op.Conv(x, w, _bias(call, 8, (1, 4)), **call.others(LAST))
    return quantised(call, channels_last(call.op, y) if last else y, 6)


@lowering("QLinearMatMul")
def _product(call: Call) -> ir.Value | None:
    left, right, rank = call.constant(1), call.constant(4), call.known_rank(3)
    if left is None or right is None or rank is None or left.size > 1 or right.ndim > 1:
        return None  # of many scales, or of unknown ones
    return quantised(call, call.op.MatMul(real(call, 0), real(call, 3, axis=rank - 1)), 6)


@lowering("QGemm", domain=CONTRIB)
def _gemm(call: Call) -> ir.Value:
    b = real(call, 3, axis=0 if call.attribute("transB", 0) else 1)
    bias = _bias(call, 6, (1, 4), call.attribute("alpha", 1.0))
    y = call.op.Gemm(real(call, 0), b, bias, **call.others())
    return quantised(call, y, 7) if call.has(7) else y


@lowering("QLinearAdd", "QLinearMul", domain=CONTRIB)
def _of_two(call: Call) -> ir.Value:
    operator = getattr(call.op, call.node.op_type.removeprefix("QLinear"))
    return quantised(call, operator(real(call, 0), real(call, 3)), 6)


@lowering("QLinearSigmoid", "QLinearLeakyRelu", domain=CONTRIB)
def _of_one(call: Call) -> ir.Value:
    operator = getattr(call.op, call.node.op_type.removeprefix("QLinear"))
    return quantised(call, operator(real(call, 0), **call.others()), 3)


@lowering("QLinearSoftmax", domain=CONTRIB)
def _softmax(call: Call) -> ir.Value:
    y = call.op.Softmax(real(call, 0), axis=call.attribute("axis", -1))
    node = y.producer()
    assert node is not None
    node.version = call.attribute("opset", 13)  # before 13 it is one over several axes; loading rewrites it
    return quantised(call, y, 3)


@lowering("QLinearAveragePool", "QLinearGlobalAveragePool", domain=CONTRIB)
def _pool(call: Call) -> ir.Value:
    last = bool(call.attribute(LAST, 0))
    x = real(call, 0)
    operator = getattr(call.op, call.node.op_type.removeprefix("QLinear"))
    y = operator(channels_first(call.op, x) if last else x, **call.others(LAST))
    return quantised(call, channels_last(call.op, y) if last else y, 3)


@lowering("QLinearReduceMean", domain=CONTRIB)
def _mean(call: Call) -> ir.Value:
    axes = call.attribute("axes")
    y = call.op.ReduceMean(
        real(call, 0), None if axes is None else call.op.ints(axes), keepdims=call.attribute("keepdims", 1)
    )
    return quantised(call, y, 3)


@lowering("QLinearConcat", domain=CONTRIB)
def _concat(call: Call) -> ir.Value:
    parts = [real(call, i) for i in range(2, len(call.node.inputs), 3)]
    return quantised(call, call.op.Concat(*parts, axis=call.attribute("axis")), 0)


@lowering("QLinearWhere", domain=CONTRIB)
def _where(call: Call) -> ir.Value:
    return quantised(call, call.op.Where(call.input(0), real(call, 1), real(call, 4)), 7)


@lowering("QuantizeLinear")
@lowering("QuantizeLinear", domain=CONTRIB)
def _clipped(call: Call) -> ir.Value | None:
    """Return the same behind a Clip, where the range stands for an activation: the gradient is zero outside of it."""
    x, scale = call.input(0), call.constant(1)
    zero = call.constant(2) if call.has(2) else np.zeros((), np.uint8)
    node = x.producer()
    if node is None or node.op_type not in SIGNED or scale is None or scale.size != 1:
        return None
    if zero is None or zero.dtype not in CLIPPED or zero.size != 1 or zero.item() != np.iinfo(zero.dtype).min:
        return None
    most = scale.reshape(()) * np.asarray(np.iinfo(zero.dtype).max - int(zero.item()), scale.dtype)
    bounds = (call.op.constant(bound, scale.dtype) for bound in (0, most))
    clip = call.op.Clip(x, *bounds)
    y = call.op.QuantizeLinear(clip, *call.node.inputs[1:], **call.others())
    made = y.producer()
    assert made is not None
    made.domain = call.node.domain
    return y
