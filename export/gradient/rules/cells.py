"""One direction of a recurrent operator, as `through_time.py` works with it.

Shapes: T steps, N pictures, H units, G gates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from fusioncam.export.gradient.rules.gates import Activation, Gate
from fusioncam.export.gradient.rules.turns import Turn, Values, take_turns
from fusioncam.export.gradient.tape import Ops


@dataclass(frozen=True)
class Cell:
    """One direction of a recurrent operator, and the gradients of its outputs.

    Attributes:
        op: Appends nodes.
        activations: Of its gates, in ONNX's order.
        length: T.
        units: H.
        backwards: Whether its last step comes first.
        x: The inputs, (T, N, I).
        before: The state before each step, (T, N, H).
        w: Weights of the inputs, (G H, I).
        r: Weights of the state, (G H, H).
        bias: Biases of the inputs and of the state, (G H,) each, or None.
        valid: Where a picture has a step, (T, N, 1), or None where it always has.
        first: The first cell state of an LSTM, (N, H).
        peepholes: Weights of the cell state in the gates i, o, f of an LSTM, (H,) each, or None.
        dy: Gradient of the state after each step, (T, N, H), or None.
        last: Gradients of the last state and, of an LSTM, of the last cell state, (N, H).
    """

    op: Ops
    activations: Sequence[Activation]
    length: int
    units: int
    backwards: bool
    x: ir.Value
    before: ir.Value
    w: ir.Value
    r: ir.Value
    bias: Values | None
    valid: ir.Value | None
    first: ir.Value | None
    peepholes: Values | None
    dy: ir.Value | None
    last: Values

    def gate(self, number: int, z: ir.Value, op: Ops | None = None) -> Gate:
        """Return the gate that the activation function of a number makes of its input."""
        assert self.x.dtype is not None
        return self.activations[number](op or self.op, z, self.x.dtype)

    def number(self, value: float) -> ir.Value:
        """Return a constant of the element type of the inputs."""
        return self.op.like(value, self.x)

    def by_input(self) -> ir.Value:
        """Return the part of the gates' inputs that is the inputs', (T, N, G H)."""
        return self.times(self.x, self.w, self.bias[0] if self.bias else None)

    def by_state(self) -> ir.Value:
        """Return the part of the gates' inputs that is the state's, (T, N, G H)."""
        return self.times(self.before, self.r, self.bias[1] if self.bias else None)

    def times(self, value: ir.Value, weights: ir.Value, bias: ir.Value | None) -> ir.Value:
        """Return the product of a value, (T, N, J), with weights, (K, J), and a bias added, (K,)."""
        product = self.op.MatMul(value, self.op.Transpose(weights, perm=[1, 0]))
        return product if bias is None else self.op.Add(product, bias)

    def split(self, value: ir.Value, parts: int, op: Ops | None = None) -> Values:
        """Return equal parts of a value along its last axis."""
        return (op or self.op).many("Split", value, count=parts, axis=-1, num_outputs=parts)

    def where_valid(self, value: ir.Value, otherwise: float) -> ir.Value:
        """Return a value, (T, N, ...), with another number where a picture has no step."""
        return value if self.valid is None else self.op.Where(self.valid, value, self.number(otherwise))

    def kept(self) -> Values:
        """Return where a picture has no step, as numbers, (T, N, 1): its state keeps its gradient there."""
        return [] if self.valid is None else [self.op.Cast(self.op.Not(self.valid), to=self.x.dtype)]

    def back(self, turn: Turn, coefficients: Values) -> tuple[Values, Values]:
        """Append the loop against the order of the steps; see `take_turns`.

        Args:
            turn: Gets the gradients of the states after a step, and the coefficients of the step.
            coefficients: Of all steps, (T, N, ...).
        """

        def whole(op: Ops, states: Values, items: Values) -> tuple[Values, Values]:
            if self.dy is None:
                return turn(op, states, items)
            return turn(op, [op.Add(states[0], items[0]), *states[1:]], items[1:])

        # Where a picture has no step the output is a zero that nothing changes.
        sequences = [*([] if self.dy is None else [self.where_valid(self.dy, 0)]), *coefficients]
        return take_turns(self.op, whole, self.last, sequences, not self.backwards, self.length, self.x)


@dataclass(frozen=True)
class Through:
    """Gradients that come out of one direction.

    Attributes:
        inputs: Of the gates' inputs, (T, N, G H).
        products: Gradients of the products with rows of the recurrent weights, in order, (T, N, some H), and what these
            rows are multiplied with, (T, N, H).
        states: Of the first state and, of an LSTM, the first cell state, (N, H).
        seen: The cell states that the gates i, o, f of an LSTM look at, (T, N, H).
    """

    inputs: ir.Value
    products: Sequence[tuple[ir.Value, ir.Value]]
    states: Values
    seen: Values = ()
