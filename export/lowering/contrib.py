"""onnxruntime's fused operators (domain com.microsoft), written in ONNX's own.

The formulas are those of https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. Models have them
where onnxruntime, or its optimizer for transformers, saved them after its fusions. Operators without a kernel for
the CPU are not here: a bundle could not be compared with its source.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from fusioncam.export.lowering.axes import channels_first, channels_last
from fusioncam.export.lowering.table import Call, lowering

CONTRIB = "com.microsoft"
# The operators of activations by name, with the attributes that `activation_params` hold in order.
PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "Relu": (), "Tanh": (), "Sigmoid": (), "Elu": ("alpha",), "LeakyRelu": ("alpha",), "Softplus": (),
    "HardSigmoid": ("alpha", "beta"), "HardSwish": (), "Selu": ("alpha", "gamma"), "Softsign": (),
    "ThresholdedRelu": ("alpha",), "Clip": ("min", "max"),
}  # fmt: skip
OF_FUSION = ("activation", "activation_params", "activation_alpha", "activation_beta", "activation_gamma")
SQUARED = "sqeuclidean"
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def number_type(call: Call) -> Any:
    """Return NumPy's type of a node's numbers, as far as its inputs tell; else that is float32."""
    found = (v.dtype for v in call.node.inputs if v is not None and v.dtype in FLOATS)
    return next(found, ir.DataType.FLOAT).numpy()


def like(call: Call, number: float) -> ir.Value:
    """Return a number of the type of a node's numbers."""
    return call.op.constant(number, number_type(call))


def activated(call: Call, x: ir.Value, name: str | None, numbers: Sequence[float] = ()) -> ir.Value | None:
    """Return a fused activation of a tensor; None where its name is not in the table.

    Args:
        call: The node.
        x: The tensor.
        name: The operator, or None for no activation.
        numbers: Values of its attributes, in the order of `PARAMETERS`; the others have their defaults.
    """
    if name is None:
        return x
    if name not in PARAMETERS:
        return None
    named = dict(zip(PARAMETERS[name], map(float, numbers), strict=False))
    if name == "Clip":
        return call.op.Clip(x, *(like(call, v) for v in named.values()))
    activation: ir.Value = getattr(call.op, name)(x, **named)
    return activation


def numbers_of(call: Call) -> list[float]:
    """Return the parameters of the fused activation, as FusedConv or as FusedGemm names them."""
    apart = [call.attribute(f"activation_{k}") for k in ("alpha", "beta", "gamma")]
    return [*call.attribute("activation_params", [v for v in apart if v is not None])]


def _given(call: Call, i: int) -> ir.Value | None:
    return call.input(i) if call.has(i) else None


@lowering("FusedConv", domain=CONTRIB)
def _fused_conv(call: Call) -> ir.Value | None:
    y = call.op.Conv(call.input(0), call.input(1), _given(call, 2), **call.others(*OF_FUSION))
    y = call.op.Add(y, call.input(3)) if call.has(3) else y
    return activated(call, y, call.attribute("activation"), numbers_of(call))


@lowering("NhwcMaxPool", domain=CONTRIB)
def _nhwc_max_pool(call: Call) -> ir.Value:
    return channels_last(call.op, call.op.MaxPool(channels_first(call.op, call.input(0)), **call.others()))


@lowering("FusedGemm", domain=CONTRIB)
def _fused_gemm(call: Call) -> ir.Value | None:
    y = call.op.Gemm(call.input(0), call.input(1), _given(call, 2), **call.others(*OF_FUSION))
    return activated(call, y, call.attribute("activation"), numbers_of(call))


@lowering("FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", domain=CONTRIB)
def _fused_product(call: Call) -> ir.Value | None:
    op, sides = call.op, []
    for i, side in enumerate("AB"):
        swapped, batched = call.attribute(f"trans{side}", 0), call.attribute(f"transBatch{side}", 0)
        rank = call.known_rank(i)
        if (swapped or batched) and rank is None:
            return None
        axes = list(range(rank or 0))
        if batched:
            axes = [*axes[1:-1], axes[0], axes[-1]]  # the axes of the batch stand between rows and columns
        if swapped and len(axes) > 1:
            axes[-2:] = axes[:-3:-1]
        sides.append(op.Transpose(call.input(i), perm=axes) if axes != list(range(rank or 0)) else call.input(i))
    y = op.MatMul(*sides)
    alpha = call.attribute("alpha", 1.0)
    y = y if alpha == 1 else op.Mul(y, like(call, alpha))
    return activated(call, y, call.attribute("activation"), numbers_of(call))


@lowering("Gelu", "BiasGelu", "FastGelu", domain=CONTRIB)
def _gelu(call: Call) -> ir.Value:
    x = call.op.Add(call.input(0), call.input(1)) if call.has(1) else call.input(0)
    return gelu(call, x, tanh=call.node.op_type == "FastGelu")


def gelu(call: Call, x: ir.Value, tanh: bool = False) -> ir.Value:
    """Return Gelu in operators that every opset has."""
    op, half, one = call.op, like(call, 0.5), like(call, 1)
    if not tanh:
        return op.Mul(op.Mul(x, half), op.Add(one, op.Erf(op.Mul(x, like(call, np.sqrt(0.5))))))
    cubic = op.Mul(like(call, 0.044715), op.Mul(x, op.Mul(x, x)))
    inner = op.Mul(like(call, np.sqrt(2 / np.pi)), op.Add(x, cubic))
    return op.Mul(op.Mul(x, half), op.Add(one, op.Tanh(inner)))


@lowering("QuickGelu", domain=CONTRIB)
def _quick_gelu(call: Call) -> ir.Value:
    x = call.input(0)
    return call.op.Mul(x, call.op.Sigmoid(call.op.Mul(x, like(call, call.attribute("alpha", 1.702)))))


@lowering("Trilu", "Pad", domain=CONTRIB)
def _as_onnx(call: Call) -> ir.Value:
    y: ir.Value = getattr(call.op, call.node.op_type)(*call.node.inputs, **call.others())
    return y


@lowering("GridSample", domain=CONTRIB)
def _grid_sample(call: Call) -> ir.Value:
    y = call.op.GridSample(*call.node.inputs, **call.others())
    made = y.producer()
    assert made is not None
    made.version = 16  # whose names of the modes these are
    return y


@lowering("ExpandDims", domain=CONTRIB)
def _expand_dims(call: Call) -> ir.Value:
    axis = call.op.Cast(call.input(1), to=ir.DataType.INT64)
    return call.op.Unsqueeze(call.input(0), call.op.Reshape(axis, call.op.ints([1])))


@lowering("CDist", domain=CONTRIB)
def _distances(call: Call) -> ir.Value:
    op = call.op
    rows, columns = op.Unsqueeze(call.input(0), op.ints([1])), op.Unsqueeze(call.input(1), op.ints([0]))
    apart = op.Sub(rows, columns)
    squared = op.ReduceSum(op.Mul(apart, apart), op.ints([2]), keepdims=0)
    return squared if call.attribute("metric", SQUARED) == SQUARED else op.Sqrt(squared)
