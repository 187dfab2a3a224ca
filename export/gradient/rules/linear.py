"""Gradient rules of matrix products."""

import itertools
import math
from string import ascii_lowercase

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule, unbroadcast
from fusioncam.export.gradient.tape import dims
from fusioncam.kernels.arrays import Array

LARGEST_DETERMINANT = 4


def _swap_last(s: Step, value: ir.Value) -> ir.Value:
    rank = len(dims(value))
    return s.op.Transpose(value, perm=[*range(rank - 2), rank - 1, rank - 2])


@rule("MatMul", every_input=True)
def _matmul(s: Step) -> ir.Value:
    # A vector on the left is a row, one on the right a column.
    op, ranks, dy = s.op, [len(dims(s.input(i))) for i in (0, 1)], s.dy
    vectors = [axis for axis, rank in ((-2, ranks[0]), (-1, ranks[1])) if rank == 1]
    if vectors:
        dy = op.Unsqueeze(dy, op.ints(vectors))
    other = s.input(1 - s.index)
    other = op.Unsqueeze(other, op.ints([s.index])) if ranks[1 - s.index] == 1 else _swap_last(s, other)
    gradient = op.MatMul(dy, other) if s.index == 0 else op.MatMul(other, dy)
    leading = dims(s.y)[: len(dims(s.y)) - 2 + len(vectors)]
    if ranks[s.index] == 1:
        gradient = op.Squeeze(gradient, op.ints([(-2, -1)[s.index]]))
    # The leading axes broadcast; the last two are those of the input already.
    return unbroadcast(op, gradient, (*leading, *dims(s.x)[-2:]), s.x)


@rule("Gemm", every_input=True)
def _gemm(s: Step) -> ir.Value:
    # Y = alpha A' B' + beta C, where ' transposes if asked to.
    trans_a, trans_b, alpha = s.attribute("transA", 0), s.attribute("transB", 0), s.attribute("alpha", 1.0)
    a, b = s.input(0), s.input(1)
    if s.index == 2:
        beta = s.attribute("beta", 1.0)
        return unbroadcast(s.op, s.dy if beta == 1 else s.op.Mul(s.dy, s.like(beta)), dims(s.y), s.x)
    if s.index == 0:
        b = s.op.own(b)
        if trans_a:
            return s.op.Gemm(b, s.dy, alpha=alpha, transA=trans_b, transB=1)
        return s.op.Gemm(s.dy, b, alpha=alpha, transB=1 - trans_b)
    if trans_b:
        return s.op.Gemm(s.dy, a, alpha=alpha, transA=1, transB=trans_a)
    return s.op.Gemm(a, s.dy, alpha=alpha, transA=1 - trans_a)


@rule("Det")
def _det(s: Step) -> ir.Value:
    # The cofactors, by the permutation symbol: c_ij = 1 / (n - 1)! sum e_i.. e_j.. of the products of n - 1 elements.
    size = dims(s.x)[-1]
    if size is None or size > LARGEST_DETERMINANT:
        raise NotImplementedError(f"a determinant of more than {LARGEST_DETERMINANT} rows")
    op, signs = s.op, s.like(_permutation_symbol(size))
    rows, columns = ascii_lowercase[:size], ascii_lowercase[size : 2 * size]
    elements = [f"...{r}{c}" for r, c in zip(rows[1:], columns[1:], strict=True)]
    equation = ",".join([rows, *elements, columns]) + f"->...{rows[0]}{columns[0]}"
    share = op.Unsqueeze(op.Div(s.dy, s.like(math.factorial(size - 1))), op.ints([-2, -1]))
    if size == 1:
        return share
    return op.Mul(op.Einsum(signs, *[s.x] * (size - 1), signs, equation=equation), share)


def _permutation_symbol(size: int) -> Array:
    """Return the tensor of `size` axes that is 1 at even permutations of all numbers, -1 at odd ones, else 0."""
    symbol = np.zeros([size] * size)
    for order in itertools.permutations(range(size)):
        symbol[order] = round(np.linalg.det(np.eye(size)[list(order)]))
    return symbol
