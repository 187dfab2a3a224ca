"""Gradient rule of Einsum: every equation is brought to one form, whose derivative is another Einsum."""

from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule
from fusioncam.export.gradient.tape import Dims, dims


@dataclass(frozen=True)
class Equation:
    """An equation with a letter for every axis.

    Attributes:
        operands: Letters of each operand.
        result: Letters of the result.
        unused: Letters that do not occur.
    """

    operands: list[str]
    result: str
    unused: list[str]


def read_equation(text: str, ranks: list[int]) -> Equation:
    """Return an equation without an ellipsis and with its result named, as Einsum reads it.

    Args:
        text: The attribute `equation`.
        ranks: The number of axes of each operand.
    """
    terms, arrow, result = text.replace(" ", "").partition("->")
    unused = [letter for letter in ascii_lowercase + ascii_uppercase if letter not in text]
    operands = terms.split(",")
    named = [len(o.replace("...", "")) for o in operands]
    hidden = [rank - n if "..." in o else 0 for o, rank, n in zip(operands, ranks, named, strict=True)]
    spread = "".join(unused[: max(hidden)])
    if not arrow:
        alone = sorted(c for c in {*terms} - {",", "."} if terms.count(c) == 1)
        result = ("..." if "..." in terms else "") + "".join(alone)
    # The axes of an ellipsis broadcast from the right.
    operands = [o.replace("...", spread[len(spread) - n :]) for o, n in zip(operands, hidden, strict=True)]
    return Equation(operands, result.replace("...", spread), unused[len(spread) :])


@rule("Einsum", every_input=True)
def _einsum(s: Step) -> ir.Value:
    # "ij,jk->ik" by its first operand is "ik,jk->ij": exchange the operand's letters with the result's.
    op, shapes = s.op, [dims(v) for v in s.node.inputs if v is not None]
    found = read_equation(str(s.attribute("equation")), [len(shape) for shape in shapes])
    lengths = _lengths(found, shapes)
    terms, inputs = [], []
    for i, (letters, shape) in enumerate(zip(found.operands, shapes, strict=True)):
        if i == s.index:
            terms.append(found.result)
            inputs.append(s.dy)
            continue
        # An axis of length one that the others repeat has no share in the sum.
        narrow = [a for a, (c, d) in enumerate(zip(letters, shape, strict=True)) if d == 1 != lengths[c]]
        value = op.own(s.input(i))
        inputs.append(op.Squeeze(value, op.ints(narrow)) if narrow else value)
        terms.append("".join(c for a, c in enumerate(letters) if a not in narrow))
    return _operand(s, found, lengths, terms, inputs)


def _lengths(equation: Equation, shapes: list[Dims]) -> dict[str, int | None]:
    """Return the length of each letter's axis, after broadcasting."""
    lengths: dict[str, int | None] = {}
    for letters, shape in zip(equation.operands, shapes, strict=True):
        for letter, d in zip(letters, shape, strict=True):
            if lengths.get(letter, 1) == 1:
                lengths[letter] = d
    return lengths


def _operand(
    s: Step, equation: Equation, lengths: dict[str, int | None], terms: list[str], inputs: list[ir.Value]
) -> ir.Value:
    """Return the Einsum of `inputs`, of letters `terms`, in the shape of the operand that is differentiated by."""
    op, shape, known = s.op, dims(s.x), {*"".join(terms)}
    mine, letters, missing = equation.operands[s.index], "", []
    for axis, (letter, d) in enumerate(zip(mine, shape, strict=True)):
        if letter in letters:  # a diagonal: all else is zero
            other = equation.unused.pop(0)
            if d is None:
                raise NotImplementedError("a diagonal along the batch")
            terms.append(letter + other)
            inputs.append(s.like(np.eye(d)))
            letters += other
        elif mine.count(letter) > 1 or (letter in known and (d != 1 or lengths[letter] == 1)):
            letters += letter
        else:
            missing.append(axis)
    gradient = op.Einsum(*inputs, equation=f"{','.join(terms)}->{letters}")
    if missing:  # summed in the operand alone, or broadcast
        gradient = op.Unsqueeze(gradient, op.ints(missing))
        if any(shape[a] != 1 for a in missing):
            gradient = op.Expand(gradient, op.Shape(s.x))
    return gradient
