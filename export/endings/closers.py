"""Operators after probabilities that change their scale or round them: percents, integers, quantised outputs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from fusioncam.export.endings.bounds import Interval, cuts
from fusioncam.export.endings.tail import VIEWS

# What a cast to a type leaves out of a number, relative to it.
DIGITS = {ir.DataType.FLOAT16: 2.0**-11, ir.DataType.BFLOAT16: 2.0**-8}


@dataclass(frozen=True)
class Closed:
    """An output as scale * value + offset, give or take `rounding`, and `digits` of its size."""

    value: ir.Value
    scale: float = 1.0
    offset: float = 0.0
    rounding: float = 0.0
    digits: float = 0.0


def _constant(node: ir.Node, index: int) -> float | None:
    """The one number of a constant input; what is left out counts as 0."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return 0.0
    if value.const_value is None or value.const_value.size != 1:
        return None
    return float(value.const_value.numpy().astype(np.float64).item())


def _times(factor: Callable[[float], float]) -> Callable[[ir.Node, Closed], Closed | None]:
    def undo(node: ir.Node, at: Closed) -> Closed | None:
        for i in (1, 0) if node.op_type == "Mul" else (1,):
            number = _constant(node, i)
            if number is not None and number > 0 and (other := node.inputs[1 - i]) is not None:
                return replace(at, value=other, scale=at.scale * factor(number))
        return None

    return undo


def _rounds(most: float) -> Callable[[ir.Node, Closed], Closed | None]:
    return lambda node, at: replace(at, rounding=at.rounding + most * abs(at.scale))


def _cast(node: ir.Node, at: Closed) -> Closed | None:
    to = ir.DataType(node.attributes.get_int("to", 1))
    if to in DIGITS:
        return replace(at, digits=max(at.digits, DIGITS[to]))
    return replace(at, rounding=at.rounding + abs(at.scale)) if to.is_integer() else at


def _quantise(node: ir.Node, at: Closed) -> Closed | None:
    step, zero = _constant(node, 1), _constant(node, 2)
    if step is None or zero is None:
        return None
    return replace(
        at, scale=at.scale / step, offset=at.offset + at.scale * zero, rounding=at.rounding + 1.01 * abs(at.scale)
    )


def _dequantise(node: ir.Node, at: Closed) -> Closed | None:
    step, zero = _constant(node, 1), _constant(node, 2)
    if step is None or zero is None:
        return None
    return replace(at, scale=at.scale * step, offset=at.offset - at.scale * step * zero)


def _same(node: ir.Node, at: Closed) -> Closed | None:
    return at


UNDO: dict[str, Callable[[ir.Node, Closed], Closed | None]] = {
    **dict.fromkeys((*VIEWS, "Transpose", "Clip", "Max", "Min"), _same),
    "Cast": _cast,
    "Mul": _times(lambda number: number),
    "Div": _times(lambda number: 1 / number),
    "Neg": lambda node, at: replace(at, scale=-at.scale),
    "Round": _rounds(0.51),
    "Floor": _rounds(1.0),
    "Ceil": _rounds(1.0),
    "QuantizeLinear": _quantise,
    "DequantizeLinear": _dequantise,
}


def before_closers(output: ir.Value, found: dict[ir.Value, Interval]) -> list[Closed]:
    """Go back from an output through what scales, rounds, copies or reshapes it.

    Args:
        output: The output.
        found: The bounds of probabilities; a Clip that cuts into them is not gone through, nor one of anything else.

    Returns:
        What is passed on the way, the output itself last.
    """
    passed = [Closed(output)]
    while (node := passed[-1].value.producer()) is not None and node.op_type in UNDO and node.inputs:
        clips, bounds = node.op_type in ("Clip", "Max", "Min"), [v for v in node.inputs[1:] if v is not None]
        constant = all(v.const_value is not None for v in bounds)
        if clips and (node.inputs[0] not in found or not constant or cuts(node, found)):
            break
        before = UNDO[node.op_type](node, passed[-1])
        if before is None or node.inputs[0] is None:
            break
        passed.append(replace(before, value=node.inputs[0]) if before.value is passed[-1].value else before)
    return passed[::-1]
