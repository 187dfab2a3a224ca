"""onnxruntime's attention (domain com.microsoft), written as products and a softmax.

Formulas: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md. What remembers past tokens is for
language models, and stays.
"""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.lowering.contrib import CONTRIB, number_type
from fusioncam.export.lowering.quantised import real
from fusioncam.export.lowering.table import Call, lowering

FILTERED = -10000.0  # what a token that is masked adds to its scores
LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Heads:
    """Queries, keys and values, each (N, heads, tokens, size), and what is added to their scores.

    Attributes:
        query: The queries.
        key: The keys.
        value: The values.
        bias: Position of the input that is added to the scores.
        mask: Position of the input that says which keys count.
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    bias: int
    mask: int


def attend(call: Call, heads: Heads) -> ir.Value | None:
    """Return the result (N, tokens, values) of attention; None where its mask has a form that is not known."""
    op, kind = call.op, number_type(call)
    scores = op.MatMul(heads.query, op.Transpose(heads.key, perm=[0, 1, 3, 2]))
    scale = call.attribute("scale", 0.0)
    if scale:
        scores = op.Mul(scores, op.constant(scale, kind))
    else:
        size = op.Shape(heads.query, start=3)
        scores = op.Div(scores, op.Sqrt(op.Cast(size, to=ir.DataType.from_numpy(np.dtype(kind)))))
    if call.has(heads.bias):
        scores = op.Add(scores, call.input(heads.bias))
    if call.attribute("unidirectional", 0):
        shape = op.Concat(op.Shape(heads.query, start=2, end=3), op.Shape(heads.key, start=2, end=3), axis=0)
        later = op.Trilu(op.Expand(op.constant(max(LOWEST, np.finfo(kind).min), kind), shape), op.constant(1, np.int64))
        scores = op.Add(scores, later)
    if call.has(heads.mask):
        rank = call.known_rank(heads.mask)
        if rank not in (2, 3):
            return None
        kept = op.Cast(call.input(heads.mask), to=ir.DataType.from_numpy(np.dtype(kind)))
        off = op.Mul(
            op.Sub(op.constant(1, kind), kept), op.constant(call.attribute("mask_filter_value", FILTERED), kind)
        )
        scores = op.Add(scores, op.Unsqueeze(off, op.ints([1, 2] if rank == 2 else [1])))
    mixed = op.Transpose(op.MatMul(op.Softmax(scores, axis=-1), heads.value), perm=[0, 2, 1, 3])
    return op.Reshape(mixed, op.ints([0, 0, -1]))


def _split(call: Call, x: ir.Value) -> ir.Value:
    """Return a tensor (N, tokens, numbers) as (N, heads, tokens, size)."""
    heads = call.op.ints([0, 0, call.attribute("num_heads"), -1])
    return call.op.Transpose(call.op.Reshape(x, heads), perm=[0, 2, 1, 3])


def _parts(call: Call, x: ir.Value, sizes: list[int] | None, axis: int = -1) -> list[ir.Value]:
    """Return the three parts of a tensor along one axis, equal ones where no sizes are given."""
    if sizes:
        return [*call.op.many("Split", x, call.op.ints(sizes), count=3, axis=axis)]
    return [*call.op.many("Split", x, count=3, axis=axis, num_outputs=3)]


def _plain(call: Call, past: int) -> bool:
    """Tell whether only the first output of a node is used, and no past is given as input `past`."""
    others = any(call.used(i) for i in range(1, len(call.node.outputs)))
    return not others and not call.has(past) and not call.attribute("do_rotary", 0)


@lowering("Attention", domain=CONTRIB)
def _attention(call: Call) -> ir.Value | None:
    if not _plain(call, 4) or call.has(6):
        return None
    return _of_one_product(call, call.input(0), call.input(1), call.input(2) if call.has(2) else None, 3, 5)


@lowering("QAttention", domain=CONTRIB)
def _quantised_attention(call: Call) -> ir.Value | None:
    if not _plain(call, 8):
        return None
    x, w = real(call, 0, at=(3, 6)), real(call, 1, axis=1, at=(4, 7))
    return _of_one_product(call, x, w, call.input(2), 5, 9)


def _of_one_product(
    call: Call, x: ir.Value, w: ir.Value, bias: ir.Value | None, mask: int, added: int
) -> ir.Value | None:
    product = call.op.MatMul(x, w)
    product = product if bias is None else call.op.Add(product, bias)
    q, k, v = (_split(call, part) for part in _parts(call, product, call.attribute("qkv_hidden_sizes")))
    return attend(call, Heads(q, k, v, added, mask))


@lowering("MultiHeadAttention", domain=CONTRIB)
def _multi_head(call: Call) -> ir.Value | None:
    op = call.op
    if not _plain(call, 6) or any(call.has(i) for i in (7, 8, 9)):
        return None
    query, key = call.input(0), call.input(1) if call.has(1) else None
    rank = call.known_rank(1 if key is not None else 0)
    if key is None:  # N x tokens x heads x 3 x size
        if call.has(3):
            return None
        q, k, v = (op.Squeeze(part, op.ints([3])) for part in _parts(call, query, None, axis=3))
        q, k, v = (op.Transpose(part, perm=[0, 2, 1, 3]) for part in (q, k, v))
    elif rank == 3 and call.has(2):
        given = [query, key, call.input(2)]
        if call.has(3):
            sizes = _sizes(call)
            if sizes is None:
                return None
            given = [op.Add(x, b) for x, b in zip(given, _parts(call, call.input(3), sizes), strict=True)]
        q, k, v = (_split(call, x) for x in given)
    elif rank == 4 and call.has(2) and not call.has(3):
        q, k, v = _split(call, query), key, call.input(2)
    else:
        return None
    return attend(call, Heads(q, k, v, 5, 4))


def _sizes(call: Call) -> list[int] | None:
    """Return how much of a bias is that of queries, keys and values; None where it is unknown."""
    whole = call.constant(3)
    wide = None if (shape := call.input(0).shape) is None else shape[-1]
    if isinstance(wide, int) and whole is not None:
        return [wide, wide, whole.size - 2 * wide]
    return None if whole is None or whole.size % 3 else [whole.size // 3] * 3
