"""The boxes and the further numbers among the columns of a detector's outputs, and the choice of rows above them."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from fusioncam.export.readers.boxes.cuts.walking import LIGHT, MOVES, PICKS, SAME_ORDER, above, picks_by, without_mask
from fusioncam.forms import SIDES

Shape = tuple[int, ...]
ShapeOf = Callable[[ir.Value], Shape | None]


@dataclass(frozen=True)
class Columns:
    """The tensors that hold the numbers of chosen boxes.

    Attributes:
        sides: The four numbers of each box.
        extras: What follows score and class in one output.
    """

    sides: ir.Value
    extras: tuple[ir.Value, ...] = ()


def columns_of(
    outputs: Sequence[ir.Value], scores: Collection[ir.Value], varying: Collection[ir.Value], shape_of: ShapeOf
) -> Columns | None:
    """Return the boxes of the first output that has any.

    Args:
        outputs: The outputs.
        scores: Tensors of scores, which may have four columns, too.
        varying: All that is computed from the picture.
        shape_of: Returns the shape of a tensor for one picture; None where nobody knows.
    """
    for output in outputs:
        todo, seen = [output], set[ir.Value]()
        while todo:
            value = todo.pop(0)
            if value in seen or value in scores or value not in varying:
                continue
            seen.add(value)
            shape, node = shape_of(value), value.producer()
            if node is not None and node.op_type == "Concat" and (found := _of_concat(node, shape, shape_of)):
                return found
            if shape is not None and len(shape) >= 2 and shape[-1] == SIDES:
                return Columns(_rows_of(value, shape_of))
            todo += above(node)
    return None


def _of_concat(node: ir.Node, shape: Shape | None, shape_of: ShapeOf) -> Columns | None:
    """Return the columns of boxes that a node puts beside those of scores and classes."""
    axis = node.attributes["axis"].as_int()
    if shape is None or axis % len(shape) != len(shape) - 1 or shape[-1] <= SIDES:
        return None
    parts = [v for v in node.inputs if v is not None]
    widths = [s[-1] if (s := shape_of(v)) else None for v in parts]
    at = next((i for i, w in enumerate(widths) if w == SIDES), None)
    if at is None:
        return None
    behind = [v for v, w in zip(parts[at + 1 :], widths[at + 1 :], strict=True) if w]  # an empty one is left
    return Columns(_rows_of(parts[at], shape_of), tuple(_rows_of(v, shape_of) for v in behind[2:]))


def _rows_of(value: ir.Value, shape_of: ShapeOf) -> ir.Value:
    """Return the tensor whose rows a tensor holds under other axes."""
    while (node := value.producer()) is not None and node.op_type in SAME_ORDER and node.inputs[0] is not None:
        before, after = shape_of(node.inputs[0]), shape_of(value)
        if not before or not after or before[-1] != after[-1]:
            break
        value = node.inputs[0]
    return value


def is_chosen(value: ir.Value, reached: Collection[ir.Value], varying: Collection[ir.Value]) -> bool:
    """Return whether a tensor is a choice of rows by scores, but for what goes back to the photo.

    Args:
        value: The boxes.
        reached: All that is computed from the dense scores.
        varying: All that is computed from the picture.
    """
    todo, seen, found = [value], set[ir.Value](), False
    while todo:
        each = todo.pop()
        if each in seen or each not in varying:
            continue
        seen.add(each)
        node = each.producer()
        if node is None:
            return False
        if picks_by(node, reached):
            found = True
        elif node.op_type in (*MOVES, *LIGHT, *PICKS):
            todo += (
                [v for v in node.inputs[:1] if v is not None]
                if node.op_type in (*MOVES, *PICKS, "Slice", "Split")
                else [v for v in node.inputs if v is not None]
            )
        elif (passed := without_mask(node)) is not None:
            todo.append(passed)
        else:
            return False
    return found
