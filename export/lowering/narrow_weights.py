"""Products with weights of few bits in onnxruntime's packing (domain com.microsoft): the weights become real numbers.

Formulas: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md; NF4 is that of arXiv 2305.14314.
"""

import numpy as np
import onnx_ir as ir

from fusioncam.export.lowering.contrib import CONTRIB, number_type
from fusioncam.export.lowering.table import Call, lowering
from fusioncam.kernels.arrays import Array

IN_BYTES = 4  # the accuracy level at which onnxruntime rounds the other factor to 8 bits, too
FP4 = np.array([0, 1 / 192, 2 / 3, 1, 1 / 3, 1 / 2, 1 / 6, 1 / 4])
NF4 = np.array(
    [-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
     -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
     0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0]
)  # fmt: skip
LEVELS = (np.concatenate([FP4, -FP4]), NF4)  # by `quant_type`


def _unpacked(packed: Array, bits: int) -> Array:
    """Return the numbers of so many bits in bytes (..., B), the lowest bits first: (..., numbers)."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return np.asarray(numbers.reshape(*packed.shape[:-1], -1))


@lowering("MatMulNBits", domain=CONTRIB)
def _by_blocks(call: Call) -> ir.Value | None:
    packed, scales, bits = call.constant(1), call.constant(2), call.attribute("bits", 4)
    if packed is None or scales is None or bits not in (2, 4, 8) or call.has(4):
        return None
    if call.attribute("accuracy_level", 0) == IN_BYTES or call.attribute("weight_prepacked", 0):
        return None
    rows, columns = call.attribute("N"), call.attribute("K")
    numbers = _unpacked(packed.reshape(rows, -1), bits)
    blocks = -(-columns // call.attribute("block_size"))
    scales, zero = scales.reshape(rows, blocks), np.full((rows, blocks), 1 << (bits - 1), np.float64)
    if call.has(3):
        given = call.constant(3)
        if given is None:
            return None
        zero = _unpacked(given.reshape(rows, -1), bits)[:, :blocks] if given.dtype == np.uint8 else given
    real = (numbers.reshape(rows, blocks, -1) - zero.reshape(rows, blocks, 1).astype(np.float64)) * scales[..., None]
    weights = real.reshape(rows, -1)[:, :columns].T
    y = call.op.MatMul(call.input(0), call.op.constant(weights, number_type(call)))
    return call.op.Add(y, call.input(5)) if call.has(5) else y


@lowering("MatMulBnb4", domain=CONTRIB)
def _by_levels(call: Call) -> ir.Value | None:
    packed, most = call.constant(1), call.constant(2)
    if packed is None or most is None:
        return None
    rows, columns, block = (call.attribute(name) for name in ("N", "K", "block_size"))
    first_high = np.stack([packed >> 4, packed & 15], -1).ravel()[: rows * columns]
    scale = np.repeat(most.astype(np.float64), block)[: rows * columns]
    weights = (LEVELS[call.attribute("quant_type")][first_high] * scale).reshape(rows, columns)
    weights = weights.T if call.attribute("transB", 1) else weights
    return call.op.MatMul(call.input(0), call.op.constant(weights, number_type(call)))
