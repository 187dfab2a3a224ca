"""Steps of optimisers, which training graphs hold, written in arithmetic.

The formulas are those of https://github.com/onnx/onnx/blob/main/docs/Operators.md#ai-onnx-preview-training.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.tape import Ops, numpy_type
from fusioncam.export.lowering.table import Call, lowering

TRAINING = "ai.onnx.preview.training"
RATE, COUNT, FIRST = 0, 1, 2  # inputs: the learning rate, the number of updates so far, then tensors kind by kind


class Numbers:
    """The attributes of an optimiser, as constants of the type of its tensors."""

    def __init__(self, call: Call) -> None:
        """Take the type of the first tensor; float32 where it is unknown."""
        x = call.input(FIRST)
        self.call, self.type = call, numpy_type(x) if x.dtype is not None else np.dtype(np.float32)

    def value(self, number: float) -> ir.Value:
        """Return a number as a constant."""
        return self.call.op.constant(number, self.type)

    def named(self, name: str, default: float = 0.0) -> float:
        """Return the number that an attribute is, or its default."""
        return float(self.call.attribute(name, default))

    @property
    def count(self) -> ir.Value:
        """Return the number of updates so far as a real number."""
        return self.call.op.Cast(self.call.input(COUNT), to=ir.DataType.from_numpy(self.type))

    def regularised(self, x: ir.Value, gradient: ir.Value) -> ir.Value:
        """Return the gradient with that of the squared norm of `x`."""
        op: Ops = self.call.op
        return op.Add(op.Mul(self.value(self.named("norm_coefficient")), x), gradient)


def _tensors(call: Call, kinds: int) -> Iterator[list[ir.Value]]:
    """Yield for each optimised tensor its inputs of all kinds."""
    count = (len(call.node.inputs) - FIRST) // kinds
    for i in range(count):
        yield [call.input(FIRST + kind * count + i) for kind in range(kinds)]


def _by_kind(results: Sequence[Sequence[ir.Value]]) -> list[ir.Value]:
    return [value for kind in zip(*results, strict=True) for value in kind]


@lowering("Adagrad", domain=TRAINING)
def _adagrad(call: Call) -> Sequence[ir.Value]:
    op, numbers, results = call.op, Numbers(call), []
    decay = op.Mul(numbers.count, numbers.value(numbers.named("decay_factor")))
    rate = op.Div(call.input(RATE), op.Add(numbers.value(1), decay))
    for x, gradient, squares in _tensors(call, 3):
        g = numbers.regularised(x, gradient)
        summed = op.Add(squares, op.Mul(g, g))
        width = op.Add(op.Sqrt(summed), numbers.value(numbers.named("epsilon", 1e-6)))
        results.append((op.Sub(x, op.Div(op.Mul(rate, g), width)), summed))
    return _by_kind(results)


@lowering("Adam", domain=TRAINING)
def _adam(call: Call) -> Sequence[ir.Value]:
    op, numbers, results = call.op, Numbers(call), []
    alpha, beta = numbers.named("alpha", 0.9), numbers.named("beta", 0.999)
    one, updates = numbers.value(1), op.Max(numbers.count, numbers.value(1))
    rest_a, rest_b = (op.Sub(one, op.Pow(numbers.value(c), updates)) for c in (alpha, beta))
    started = op.Greater(numbers.count, numbers.value(0))
    rate = op.Mul(call.input(RATE), op.Where(started, op.Div(op.Sqrt(rest_b), rest_a), one))
    for x, gradient, mean, square in _tensors(call, 4):
        g = numbers.regularised(x, gradient)
        mean = op.Add(op.Mul(numbers.value(alpha), mean), op.Mul(numbers.value(1 - alpha), g))
        square = op.Add(op.Mul(numbers.value(beta), square), op.Mul(numbers.value(1 - beta), op.Mul(g, g)))
        width = op.Add(op.Sqrt(square), numbers.value(numbers.named("epsilon", 1e-6)))
        new = op.Sub(x, op.Div(op.Mul(rate, mean), width))
        results.append((op.Mul(numbers.value(1 - numbers.named("norm_coefficient_post")), new), mean, square))
    return _by_kind(results)


@lowering("Momentum", domain=TRAINING)
def _momentum(call: Call) -> Sequence[ir.Value]:
    op, numbers, results = call.op, Numbers(call), []
    alpha, one = numbers.value(numbers.named("alpha")), numbers.value(1)
    started = op.Greater(numbers.count, numbers.value(0))
    beta = op.Where(started, numbers.value(numbers.named("beta")), one)
    for x, gradient, velocity in _tensors(call, 3):
        g = numbers.regularised(x, gradient)
        velocity = op.Add(op.Mul(alpha, velocity), op.Mul(beta, g))
        step = op.Add(g, op.Mul(alpha, velocity)) if call.attribute("mode") == "nesterov" else velocity
        results.append((op.Sub(x, op.Mul(call.input(RATE), step)), velocity))
    return _by_kind(results)
