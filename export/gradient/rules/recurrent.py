"""Gradient rules of the recurrent operators: RNN, GRU and LSTM of layout 0, the only one that is left after loading.

The operators themselves stay, for their kernels are fast; what their steps hold is computed again.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.cells import Cell, Through
from fusioncam.export.gradient.rules.gates import Activation, activations
from fusioncam.export.gradient.rules.table import Step, rule
from fusioncam.export.gradient.rules.through_time import gru, gru_reset_after, lstm, rnn
from fusioncam.export.gradient.tape import Ops, dims

X, W, R, BIAS, LENGTHS, STATE, CELL, PEEPHOLES = range(8)  # inputs
USUAL = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
CELL_STATE = 2  # the activation function of it


@rule("RNN", "GRU", "LSTM", every_input=True)
def _recurrent(s: Step) -> ir.Value | None:
    if s.index == LENGTHS:
        return None
    directions = range(s.static(s.input(W))[0])
    parts = s.op.once((s.node, *s.received), lambda: [_through(s, number) for number in directions])
    found = [GRADIENTS[s.index](cell, through) for cell, through in parts]
    if s.index == X:
        return found[0] if len(found) == 1 else s.op.Add(*found)
    found = [s.op.Unsqueeze(v, s.op.ints([0])) for v in found]
    return found[0] if len(found) == 1 else s.op.Concat(*found, axis=0)


def _product(cell: Cell, gradient: ir.Value, factor: ir.Value) -> ir.Value:
    """Return the gradient of weights, given that of their product with a factor, summed over steps and pictures."""
    return cell.op.Einsum(gradient, factor, equation="tni,tnj->ij")


def _total(cell: Cell, gradient: ir.Value) -> ir.Value:
    return cell.op.ReduceSum(gradient, cell.op.ints([0, 1]), keepdims=0)


def _by_recurrent_weights(cell: Cell, through: Through) -> ir.Value:
    return _joined(cell, [_product(cell, dy, factor) for dy, factor in through.products])


def _by_bias(cell: Cell, through: Through) -> ir.Value:
    return _joined(cell, [_total(cell, dy) for dy in (through.inputs, *(dy for dy, _ in through.products))])


def _by_peepholes(cell: Cell, through: Through) -> ir.Value:
    gates = cell.split(through.inputs, 4)
    return _joined(cell, [_total(cell, cell.op.Mul(*pair)) for pair in zip(gates, through.seen, strict=False)])


def _joined(cell: Cell, parts: Sequence[ir.Value]) -> ir.Value:
    return parts[0] if len(parts) == 1 else cell.op.Concat(*parts, axis=0)


# By each input, for one direction.
GRADIENTS: dict[int, Callable[[Cell, Through], ir.Value]] = {
    X: lambda cell, through: cell.op.MatMul(through.inputs, cell.w),
    W: lambda cell, through: _product(cell, through.inputs, cell.x),
    R: _by_recurrent_weights,
    BIAS: _by_bias,
    STATE: lambda _, through: through.states[0],
    CELL: lambda _, through: through.states[1],
    PEEPHOLES: _by_peepholes,
}


def _through(s: Step, number: int) -> tuple[Cell, Through]:
    """Return a direction of the operator, and the gradients that come out of it."""
    cell = _cell(s, number)
    if s.node.op_type == "RNN":
        return cell, rnn(cell)
    if s.node.op_type == "LSTM":
        return cell, lstm(cell, bool(s.attribute("input_forget", 0)))
    return cell, (gru_reset_after if s.attribute("linear_before_reset", 0) else gru)(cell)


def _cell(s: Step, number: int) -> Cell:
    """Return a direction of the operator by its number.

    Raises:
        NotImplementedError: It works batch first, or its number of steps is unknown.
    """
    op, x, (length, *_) = s.op, s.input(X), dims(s.input(X))
    if s.attribute("layout", 0):
        raise NotImplementedError("layout=1")
    if length is None:
        raise NotImplementedError("the number of its steps depends on the batch")
    here, has_cells = op.constant(number), s.node.op_type == "LSTM"

    def of(value: ir.Value | None, axis: int = 0) -> ir.Value | None:
        return None if value is None else op.Gather(value, here, axis=axis)

    def pieces(i: int, count: int) -> Sequence[ir.Value] | None:
        value = of(s.given(i))
        return None if value is None else op.many("Split", value, count=count, axis=0, num_outputs=count)

    dy, dh, dc, *_ = (*s.received, None, None)
    states = op.Gather(_states(s.node), here, axis=1)
    zeros = op.Expand(op.like(0, x), op.Shape(op.Gather(states, op.constant(0), axis=0)))
    valid, first = _valid(s, length), of(s.given(STATE))
    backwards = number == 1 or s.attribute("direction", "forward") == "reverse"
    if valid is not None and first is not None and backwards:
        # A picture's own last step comes first: what lies behind it has the first state.
        states = op.Where(valid, states, op.Unsqueeze(first, op.ints([0])))
    return Cell(
        op=op,
        activations=_activations(s, number),
        length=length,
        units=s.static(s.input(R))[2],
        backwards=backwards,
        x=x,
        before=_before(op, states, first or zeros, length, backwards),
        w=op.Gather(s.input(W), here, axis=0),
        r=op.Gather(s.input(R), here, axis=0),
        bias=pieces(BIAS, 2),
        valid=valid,
        first=(of(s.given(CELL)) or zeros) if has_cells else None,
        peepholes=pieces(PEEPHOLES, 3) if has_cells else None,
        dy=of(dy, axis=1),
        last=[of(dh) or zeros, *([of(dc) or zeros] if has_cells else [])],
    )


def _activations(s: Step, number: int) -> list[Activation]:
    """Return the activation functions of a direction."""
    directions = s.static(s.input(W))[0]
    names = s.attribute("activations", USUAL[s.node.op_type] * directions)
    alphas, betas = s.attribute("activation_alpha", ()), s.attribute("activation_beta", ())
    found = activations(names, alphas, betas, s.attribute("clip"))
    each = len(found) // directions
    found = found[number * each : (number + 1) * each]
    # onnxruntime clips the inputs of the gates, but not the cell state that h sees.
    return [replace(f, clip=None) if i == CELL_STATE else f for i, f in enumerate(found)]


def _states(node: ir.Node) -> ir.Value:
    """Return the states after all steps, the first output, which gets a name where the model does not use it."""
    states = node.outputs[0]
    if not states.name:
        states.name = f"{next(o.name for o in node.outputs if o.name)}/states"
    return states


def _valid(s: Step, length: int) -> ir.Value | None:
    """Return where a picture has a step, (T, N, 1), or None where all have all of them."""
    known = s.constant(LENGTHS)
    if not s.has(LENGTHS) or (known is not None and bool((known >= length).all())):
        return None
    steps = s.op.constant(np.arange(length).reshape(-1, 1, 1), np.int32)
    valid = s.op.Less(steps, s.op.Reshape(s.input(LENGTHS), s.op.ints([1, -1, 1])))
    valid.dtype = ir.DataType.BOOL
    return valid


def _before(op: Ops, states: ir.Value, first: ir.Value, length: int, backwards: bool) -> ir.Value:
    """Return the states before all steps, by those after them and the first one, (T, N, H)."""
    first = op.Unsqueeze(first, op.ints([0]))
    if length == 1:
        return first
    start, end = (1, length) if backwards else (0, length - 1)
    others = op.Slice(states, op.ints([start]), op.ints([end]), op.ints([0]))
    return op.Concat(*((others, first) if backwards else (first, others)), axis=0)
