"""Arithmetic, element by element; operands broadcast as in NumPy."""

from functools import reduce

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Gradient, Step, rule, rules

# Operators whose operands broadcast: the gradient of any operand, in the shape of the output.
OPERANDS: dict[str, Gradient] = {
    "Add": lambda s: s.dy,
    "Mean": lambda s: s.op.Div(s.dy, s.like(len(s.node.inputs))),
    "Mul": lambda s: s.op.Mul(s.dy, s.input(1 - s.index)),
    "Sub": lambda s: s.dy if s.index == 0 else s.op.Neg(s.dy),
    "Sum": lambda s: s.dy,
    "Where": lambda s: s.op.Where(s.input(0), *((s.dy, s.like(0)) if s.index == 1 else (s.like(0), s.dy))),
}


rules(OPERANDS, broadcasts=True, every_input=True)
rules({"Identity": lambda s: s.dy, "Neg": lambda s: s.op.Neg(s.dy)})


def drops(node: ir.Node) -> bool:
    """Return whether a Dropout is in training, as its third input says; out of training it is the identity."""
    mode = node.inputs[2] if node.op_type == "Dropout" and len(node.inputs) > 2 else None
    if mode is None:
        return False
    known = ir.convenience.get_const_tensor(mode)
    return known is None or bool(known.numpy().any())


@rule("Dropout", every_input=True)
def _dropout(s: Step) -> ir.Value | None:
    if drops(s.node):
        raise NotImplementedError("training_mode is true, or is computed")
    return None if s.index else s.dy


@rule("Cast", "CastLike", every_input=True)
def _cast(s: Step) -> ir.Value | None:
    if s.index or s.x.dtype is None or not s.x.dtype.is_floating_point():
        return None
    return s.op.Cast(s.dy, to=s.x.dtype)


@rule("Sign", "Floor", "Ceil", "Round", "Hardmax", "EyeLike")
def _zero(_: Step) -> None:
    # Piecewise constant, or only of the input's shape: the derivative is zero wherever it exists.
    return None


@rule("Div", broadcasts=True, every_input=True)
def _div(s: Step) -> ir.Value:
    quotient = s.op.Div(s.dy, s.input(1))
    return quotient if s.index == 0 else s.op.Neg(s.op.Mul(quotient, s.y))


@rule("Mod", broadcasts=True, every_input=True)
def _mod(s: Step) -> ir.Value:
    # x - n y, with the whole number n that `fmod` rounds to zero, else down.
    if s.index == 0:
        return s.dy
    times = s.op.Round(s.op.Div(s.op.Sub(s.input(0), s.y), s.x))
    return s.op.Neg(s.op.Mul(s.dy, times))


@rule("Pow", broadcasts=True, every_input=True)
def _pow(s: Step) -> ir.Value:
    # Where base or exponent is 0 the formulas read 0 * infinity, but the function is flat there.
    op, base, exponent, zero = s.op, s.input(0), s.input(1), s.like(0)
    if s.index == 1:
        return op.Mul(s.dy, op.Mul(s.y, op.Log(op.Where(op.Equal(base, zero), s.like(1), base))))
    known = s.constant(1)
    if known is None:
        factor = exponent if exponent.dtype == base.dtype else op.Cast(exponent, to=base.dtype)
        lowered = op.Where(op.Equal(factor, zero), zero, op.Sub(factor, s.like(1)))
    else:
        factor, lowered = s.like(known), s.like(np.where(known == 0, 0, known - 1.0))
    square = known is not None and bool((known == 2).all())
    return op.Mul(s.dy, op.Mul(factor, base if square else op.Pow(base, lowered)))


@rule("Max", "Min", broadcasts=True, every_input=True)
def _extreme(s: Step) -> ir.Value:
    # Operands that tie share the gradient, as torch.maximum and torch.amax do. They are compared with each other: in
    # float16 onnxruntime may hold them in float32, while the output is rounded and equals none of them.
    if len(s.node.inputs) == 1:
        return s.dy
    no_worse = s.op.GreaterOrEqual if s.node.op_type == "Max" else s.op.LessOrEqual

    def wins(i: int) -> ir.Value:
        others = [no_worse(s.input(i), s.input(j)) for j in range(len(s.node.inputs)) if j != i]
        return s.op.Cast(reduce(s.op.And, others), to=s.x.dtype)

    shares = [wins(i) for i in range(len(s.node.inputs))]
    return s.op.Mul(s.dy, s.op.Div(shares[s.index], s.op.Sum(*shares)))
