"""RNN, GRU and LSTM (onnx.ai/onnx/operators/onnx__LSTM.html) backwards through time, a direction of them.

The inputs of all gates are known at once, for the states before each step are what the operator put out. Of the
gradient that comes from the later steps everything is a linear function: its coefficients are computed for all steps
together, and what is left to a turn of the loop is little more than the product with the recurrent weights.
"""

import onnx_ir as ir

from fusioncam.export.gradient.rules.cells import Cell, Through
from fusioncam.export.gradient.rules.gates import Gate
from fusioncam.export.gradient.rules.turns import Values, take_turns
from fusioncam.export.gradient.tape import Ops


def rnn(c: Cell) -> Through:
    """Return the gradients of h' = f(z)."""
    op = c.op
    gate = c.gate(0, op.Add(c.by_input(), c.by_state()))
    slope = gate.back(op.Expand(c.number(1), op.Shape(c.before)))

    def turn(op: Ops, states: Values, items: Values) -> tuple[Values, Values]:
        dz = op.Mul(states[0], items[0])
        return [_with_kept(op, op.MatMul(dz, c.r), states[0], items[1:])], [dz]

    states, (dz,) = c.back(turn, [c.where_valid(slope, 0), *c.kept()])
    return Through(dz, [(dz, c.before)], states)


def _with_kept(op: Ops, earlier: ir.Value, later: ir.Value, kept: Values) -> ir.Value:
    """Return the gradient of the state before a step: where a picture has no step, it is that after it."""
    return op.Add(earlier, op.Mul(later, kept[0])) if kept else earlier


def gru(c: Cell) -> Through:
    """Return the gradients of h' = (1 - u) n + u h, with u = f(z_u), r = f(z_r), n = g(z_n) and z_n of r h."""
    op = c.op
    sizes = op.ints([2 * c.units, c.units])
    r_ur, r_n = op.many("Split", c.r, sizes, count=2, axis=0)
    b_ur, b_n = (None, None) if c.bias is None else op.many("Split", c.bias[1], sizes, count=2, axis=0)
    xu, xr, xn = c.split(c.by_input(), 3)
    hu, hr = c.split(c.times(c.before, r_ur, b_ur), 2)
    u, r = c.gate(0, op.Add(xu, hu)), c.gate(0, op.Add(xr, hr))
    reset = op.Mul(r.y, c.before)
    n = c.gate(1, op.Add(xn, c.times(reset, r_n, b_n)))
    to_n, to_u, straight = _of_blend(c, u, n)

    def turn(op: Ops, states: Values, items: Values) -> tuple[Values, Values]:
        (dh,), (to_u, to_n, to_r, straight, r) = states, items
        dn = op.Mul(dh, to_n)
        dreset = op.MatMul(dn, r_n)
        dur = op.Concat(op.Mul(dh, to_u), op.Mul(dreset, to_r), axis=-1)
        earlier = op.Sum(op.MatMul(dur, r_ur), op.Mul(dreset, r), op.Mul(dh, straight))
        return [earlier], [dur, dn]

    states, (dur, dn) = c.back(turn, [to_u, to_n, r.back(c.before), straight, r.y])
    return Through(op.Concat(dur, dn, axis=-1), [(dur, c.before), (dn, reset)], states)


def _of_blend(c: Cell, u: Gate, n: Gate) -> Values:
    """Return what (1 - u) n + u h makes of its gradient: the coefficients for z_n, for z_u, and for h by itself."""
    to_n = c.where_valid(n.back(c.op.Sub(c.number(1), u.y)), 0)
    to_u = c.where_valid(u.back(c.op.Sub(c.before, n.y)), 0)
    return to_n, to_u, c.where_valid(u.y, 1)


def gru_reset_after(c: Cell) -> Through:
    """Return the gradients of a GRU where r is a factor of the state's part of z_n (linear_before_reset)."""
    op = c.op
    xu, xr, xn = c.split(c.by_input(), 3)
    hu, hr, hn = c.split(c.by_state(), 3)
    u, r = c.gate(0, op.Add(xu, hu)), c.gate(0, op.Add(xr, hr))
    n = c.gate(1, op.Add(xn, op.Mul(r.y, hn)))
    to_n, to_u, straight = _of_blend(c, u, n)
    to_gates = op.Concat(to_u, r.back(op.Mul(to_n, hn)), axis=-1)

    def turn(op: Ops, states: Values, items: Values) -> tuple[Values, Values]:
        (dh,), (to_state, straight) = states, items
        dz = op.Mul(op.Concat(dh, dh, dh, axis=-1), to_state)
        return [op.Add(op.MatMul(dz, c.r), op.Mul(dh, straight))], [dh]

    to_state = op.Concat(to_gates, op.Mul(to_n, r.y), axis=-1)
    states, (dh,) = c.back(turn, [to_state, straight])
    thrice = op.Concat(dh, dh, dh, axis=-1)
    inputs = op.Mul(thrice, op.Concat(to_gates, to_n, axis=-1))
    return Through(inputs, [(op.Mul(thrice, to_state), c.before)], states)


def lstm(c: Cell, coupled: bool) -> Through:
    """Return the gradients of c' = f c + i g, h' = o h(c').

    Args:
        c: The cell; its gates are i, o, f, g.
        coupled: Whether f is 1 - i (input_forget).
    """
    op, z = c.op, c.op.Add(c.by_input(), c.by_state())
    before = _cell_states(c, z, coupled)
    i, o, f, g, cell = _opened(c, op, z, before, coupled)
    h = c.gate(2, cell)
    to_i = i.back(g.y if f else op.Sub(g.y, before))
    to_f = f.back(before) if f else op.Mul(before, c.number(0))
    to_o, to_cell, straight = o.back(h.y), h.back(o.y), f.y if f else op.Sub(c.number(1), i.y)
    if c.peepholes:
        p_i, p_o, p_f = c.peepholes
        to_cell = op.Add(to_cell, op.Mul(to_o, p_o))
        straight = op.Sum(straight, op.Mul(to_i, p_i), op.Mul(to_f, p_f))
    to_z = c.where_valid(op.Concat(to_i, to_o, to_f, g.back(i.y), axis=-1), 0)

    def turn(op: Ops, states: Values, items: Values) -> tuple[Values, Values]:
        (dh, dc), (to_z, to_cell, straight, *kept) = states, items
        dc = op.Add(dc, op.Mul(dh, to_cell))
        dz = op.Mul(op.Concat(dc, dh, dc, dc, axis=-1), to_z)
        return [_with_kept(op, op.MatMul(dz, c.r), dh, kept), op.Mul(dc, straight)], [dz]

    coefficients = [to_z, c.where_valid(to_cell, 0), c.where_valid(straight, 1), *c.kept()]
    states, (dz,) = c.back(turn, coefficients)
    return Through(dz, [(dz, c.before)], states, (before, cell, before))


def _opened(
    c: Cell, op: Ops, z: ir.Value, before: ir.Value, coupled: bool
) -> tuple[Gate, Gate, Gate | None, Gate, ir.Value]:
    """Return the gates i, o, f (None where it is 1 - i) and g of an LSTM, and the cell state after the step."""
    zi, zo, zf, zg = c.split(z, 4, op)
    p_i, p_o, p_f = c.peepholes or (None, None, None)

    def gate(z: ir.Value, weights: ir.Value | None, cell: ir.Value) -> Gate:
        return c.gate(0, z if weights is None else op.Add(z, op.Mul(weights, cell)), op)

    i, f, g = gate(zi, p_i, before), None if coupled else gate(zf, p_f, before), c.gate(1, zg, op)
    share = f.y if f else op.Sub(c.number(1), i.y)
    cell = op.Add(op.Mul(share, before), op.Mul(i.y, g.y))
    return i, gate(zo, p_o, cell), f, g, cell


def _cell_states(c: Cell, z: ir.Value, coupled: bool) -> ir.Value:
    """Return the cell state of an LSTM before each step, (T, N, H), by the inputs of its gates, which are all known."""

    def turn(op: Ops, states: Values, items: Values) -> tuple[Values, Values]:
        (before,), (z, *kept) = states, items
        after = _opened(c, op, z, before, coupled)[-1]
        return [op.Sub(after, op.Mul(op.Sub(after, before), kept[0])) if kept else after], [before]

    assert c.first is not None
    return take_turns(c.op, turn, [c.first], [z, *c.kept()], c.backwards, c.length, c.x)[1][0]
