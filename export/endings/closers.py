"""Operators that scale or round probabilities at the end of a model: percents, integers, quantised outputs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from fusioncam.export.endings.bounds import Interval, cuts
from fusioncam.export.endings.tail import VIEWS

# The part of a number that a cast to a type rounds off, at most.
DIGITS = {ir.DataType.FLOAT16: 2.0**-11, ir.DataType.BFLOAT16: 2.0**-8}


@dataclass(frozen=True)
class Closed:
    """An output as scale * value + offset, exact to `rounding`, and to `digits` of its size."""

    value: ir.Value
    scale: float = 1.0
    offset: float = 0.0
    rounding: float = 0.0
    digits: float = 0.0


def _constant(node: ir.Node, index: int) -> float | None:
    """Return the one number of a constant input, 0 where the input is left out; None for anything else."""
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


UNDO: dict[str, Callable[[ir.Node, Closed], Closed | None]] = {
    **dict.fromkeys((*VIEWS, "Transpose", "Clip", "Max", "Min"), lambda node, at: at),
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


def undone(at: Closed) -> Closed | None:
    """Return the output in terms of the tensor before the operator that `at` is made by, if that can be undone."""
    node = at.value.producer()
    if node is None or node.op_type not in UNDO or not node.inputs or node.inputs[0] is None:
        return None
    before = UNDO[node.op_type](node, at)
    return replace(before, value=node.inputs[0]) if before is not None and before.value is at.value else before


def before_closers(output: ir.Value, known: dict[ir.Value, Interval]) -> list[Closed]:
    """Return the tensors from which an output is made by scaling, rounding, copying or reshaping, itself the last.

    Args:
        output: The output.
        known: The bounds of probabilities; the search ends at a Clip that cuts into them, or that has none.
    """
    passed = [Closed(output)]
    while (before := undone(passed[-1])) is not None and not _clips(passed[-1].value.producer(), known):
        passed.append(before)
    return passed[::-1]


def _clips(node: ir.Node | None, known: dict[ir.Value, Interval]) -> bool:
    if node is None or node.op_type not in ("Clip", "Max", "Min"):
        return False
    constant = all(v.const_value is not None for v in node.inputs[1:] if v is not None)
    return node.inputs[0] not in known or not constant or cuts(node, known)
