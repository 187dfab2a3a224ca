"""Gradient rules of matrix products."""

import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule, unbroadcast
from fusioncam.export.gradient.tape import dims


def _swap_last(s: Step, value: ir.Value) -> ir.Value:
    rank = len(dims(value))
    return s.op.Transpose(value, perm=[*range(rank - 2), rank - 1, rank - 2])


@rule("MatMul", every_input=True)
def _matmul(s: Step) -> ir.Value:
    a, b = s.input(0), s.input(1)
    if min(len(dims(a)), len(dims(b))) < 2:
        raise NotImplementedError("a product with a vector")
    gradient = s.op.MatMul(s.dy, _swap_last(s, b)) if s.index == 0 else s.op.MatMul(_swap_last(s, a), s.dy)
    # The leading axes broadcast; the last two are those of the input already.
    return unbroadcast(s.op, gradient, (*dims(s.y)[:-2], *dims(s.x)[-2:]), s.x)


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


@rule("Einsum", every_input=True)
def _einsum(s: Step) -> ir.Value:
    # "ij,jk->ik" by its first operand is "ik,jk->ij": exchange the operand's letters with the result's.
    terms, arrow, result = str(s.attribute("equation")).replace(" ", "").partition("->")
    operands = terms.split(",")
    mine = operands[s.index]
    others = result + "".join(o for i, o in enumerate(operands) if i != s.index)
    if not arrow or "." in terms or len(set(mine)) < len(mine) or not set(mine) <= set(others):
        raise NotImplementedError(f"the equation {s.attribute('equation')!r}")
    sizes: dict[str, int | None] = {}
    for i, operand in enumerate(operands):
        if any(sizes.setdefault(letter, d) != d for letter, d in zip(operand, dims(s.input(i)), strict=True)):
            raise NotImplementedError("an operand that is repeated along an axis of the others")
    inputs = [s.dy if i == s.index else s.op.own(s.input(i)) for i in range(len(operands))]
    operands[s.index] = result
    return s.op.Einsum(*inputs, equation=f"{','.join(operands)}->{mine}")
