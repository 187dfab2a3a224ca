"""Arithmetic, element by element; operands broadcast as in NumPy."""

import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule


@rule("Identity", "Dropout", "QuantizeLinear", "DequantizeLinear")
def _unchanged(s: Step) -> ir.Value:
    # A quantised model is differentiated straight through (arXiv 1308.3432): rounding counts as the identity, and
    # the scale that QuantizeLinear divides by is the one its DequantizeLinear multiplies with.
    s.only_input(0)
    return s.dy


@rule("Cast", "CastLike")
def _cast(s: Step) -> ir.Value | None:
    s.only_input(0)
    assert s.x.dtype is not None
    return s.op.Cast(s.dy, to=s.x.dtype) if s.x.dtype.is_floating_point() else None


@rule(
    *("Shape", "Size", "ArgMax", "ArgMin", "Sign", "Floor", "Ceil", "Round", "Not", "And", "Or", "Xor", "IsNaN"),
    *("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "NonZero", "ConstantOfShape"),
)
def _zero(_: Step) -> None:
    # Piecewise constant: the derivative is zero wherever it exists.
    return None


@rule("Add", "Sum", broadcasts=True)
def _add(s: Step) -> ir.Value:
    return s.dy


@rule("Mean", broadcasts=True)
def _mean(s: Step) -> ir.Value:
    return s.op.Div(s.dy, s.scalar(len(s.node.inputs)))


@rule("Sub", broadcasts=True)
def _sub(s: Step) -> ir.Value:
    return s.dy if s.index == 0 else s.op.Neg(s.dy)


@rule("Neg")
def _neg(s: Step) -> ir.Value:
    return s.op.Neg(s.dy)


@rule("Mul", broadcasts=True)
def _mul(s: Step) -> ir.Value:
    return s.op.Mul(s.dy, s.input(1 - s.index))


@rule("Div", broadcasts=True)
def _div(s: Step) -> ir.Value:
    quotient = s.op.Div(s.dy, s.input(1))
    return quotient if s.index == 0 else s.op.Neg(s.op.Mul(quotient, s.y))


@rule("Pow", broadcasts=True)
def _pow(s: Step) -> ir.Value:
    base, exponent = s.input(0), s.input(1)
    if s.index == 1:
        return s.op.Mul(s.dy, s.op.Mul(s.y, s.op.Log(base)))
    exponent = exponent if exponent.dtype == base.dtype else s.op.Cast(exponent, to=base.dtype)
    lowered = s.op.Pow(base, s.op.Sub(exponent, s.scalar(1)))
    return s.op.Mul(s.dy, s.op.Mul(exponent, lowered))


@rule("Where", broadcasts=True)
def _where(s: Step) -> ir.Value | None:
    zero = s.scalar(0) if s.index else None
    choices = {1: (s.dy, zero), 2: (zero, s.dy)}
    return s.op.Where(s.input(0), *choices[s.index]) if s.index else None


@rule("Max", "Min", broadcasts=True)
def _extreme(s: Step) -> ir.Value:
    # Operands that tie share the gradient, as torch.maximum and torch.amax do.
    def wins(x: ir.Value) -> ir.Value:
        return s.op.Cast(s.op.Equal(x, s.y), to=x.dtype)

    shares = [wins(x) for x in s.node.inputs if x is not None]
    total = shares[0] if len(shares) == 1 else s.op.Sum(*shares)
    return s.op.Mul(s.dy, s.op.Div(shares[s.index], total))
