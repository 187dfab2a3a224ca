"""The way from the scores of chosen boxes up to those of all: through what picks, sorts, masks and moves them."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from fusioncam.export.gradient.reader import constant_of
from fusioncam.export.readers.boxes.cuts.limits import number
from fusioncam.export.readers.boxes.cuts.walking import MOVES, PICKS, above, is_of_one_picture, picks_by, without_mask

Shape = tuple[int, ...]
ShapeOf = Callable[[ir.Value], Shape | None]


@dataclass(frozen=True)
class Part:
    """Scores of all anchors, or of those of one level.

    Attributes:
        value: The tensor.
        column: The class that is taken of them; None for all.
        classes: How many there are, where one is taken.
        alone: The tensor of that class alone.
    """

    value: ir.Value
    column: int | None = None
    classes: int | None = None
    alone: ir.Value | None = None


@dataclass
class ScoreWalk:
    """A way from scores that an end works on up to dense ones.

    Attributes:
        varying: All that is computed from the picture.
        shape_of: Returns the shape of a tensor for one picture; None where nobody knows.
        seen: The tensors on the way.
        best_only: Whether only the best class of an anchor goes on.
        chosen: Whether something was chosen on the way.
    """

    varying: Collection[ir.Value]
    shape_of: ShapeOf
    seen: list[ir.Value] = field(default_factory=list)
    best_only: bool = False
    chosen: bool = False

    def parts(self, value: ir.Value) -> list[Part]:
        """Return the dense scores that a tensor is made of, in order."""
        moved = [value]
        while True:
            self.seen.append(moved[-1])
            node = moved[-1].producer()
            if node is None:
                break
            kind = node.op_type
            if kind in MOVES and node.inputs[0] is not None:
                moved.append(node.inputs[0])
                continue
            if kind == "Concat" and self._joins(node):
                return [part for v in node.inputs if v is not None for part in self.parts(v)]
            passed = self._passed(node, moved[-1])
            if passed is not None:
                moved = [passed]
                continue
            column = self._column(node, moved[-1])
            if column is not None:
                return column
            break
        return [Part(self._dense(moved))]

    def _passed(self, node: ir.Node, value: ir.Value) -> ir.Value | None:
        """Return the tensor that a node takes some scores of; None where it computes them."""
        kind, x = node.op_type, node.inputs[0] if node.inputs else None
        if picks_by(node, self.varying):
            self.chosen = True
            return x
        if kind == "TopK" and value is node.outputs[0] and x is not None:
            self.chosen = True
            self.best_only |= number(node.inputs[1]) == 1
            return x
        if kind == "ReduceMax":
            self.best_only = True
            return x
        if kind in PICKS and is_of_one_picture(node, self.shape_of):
            return x
        return without_mask(node)

    def _column(self, node: ir.Node, value: ir.Value) -> list[Part] | None:
        """Return the scores that a node takes those of one class of."""
        x = node.inputs[0] if node.inputs else None
        shape = None if x is None else self.shape_of(x)
        if x is None or shape is None:
            return None
        taken = one_of(node, value, shape)
        return None if taken is None else [Part(part.value, *taken, value) for part in self.parts(x)]

    def _joins(self, node: ir.Node) -> bool:
        """Return whether a Concat joins anchors: levels of them, or those that were chosen of each class."""
        inputs = [v for v in node.inputs if v is not None]
        return all(v in self.varying for v in inputs) and any(self._leads(v) for v in inputs)

    def _leads(self, value: ir.Value) -> bool:
        """Return whether a tensor was chosen of others, so that a Concat of such is no part of the model itself."""
        while (node := value.producer()) is not None:
            if picks_by(node, self.varying):
                return True
            if node.op_type == "TopK":
                return True
            if node.op_type == "Concat":
                return all(v is not None and self._leads(v) for v in node.inputs)
            if node.op_type not in (*MOVES, "Slice") or node.inputs[0] is None:
                return False
            value = node.inputs[0]
        return False

    def _dense(self, moved: list[ir.Value]) -> ir.Value:
        """Return, of tensors that hold the same scores, the first that has an axis of anchors and one of classes."""
        for value in moved:
            shape = self.shape_of(value)
            if shape is not None and sum(d != 1 for d in shape) == 2 and len(shape) in (2, 3):
                return value
        return moved[-1]


def one_of(node: ir.Node, value: ir.Value, shape: Shape) -> tuple[int, int] | None:
    """Return the only place that a node takes along an axis, and how many there are; None where it takes several.

    Args:
        node: The node.
        value: The output of it that counts.
        shape: The shape of its first input.
    """
    axis = node.attributes.get_int("axis", 0)
    if node.op_type == "Gather":
        index = constant_of(node.inputs[1])
        return (int(index.item()) % shape[axis], shape[axis]) if index is not None and index.size == 1 else None
    if node.op_type == "Split":
        return (list(node.outputs).index(value), shape[axis]) if len(node.outputs) == shape[axis] else None
    if node.op_type == "Slice" and len(node.inputs) > 3:
        starts, ends, axes = (constant_of(v) for v in node.inputs[1:4])
        if starts is None or ends is None or axes is None or starts.size != 1:
            return None
        length = shape[int(axes.item())]
        start, end = (min(int(v.item()) + (int(v.item()) < 0) * length, length) for v in (starts, ends))
        return (start, length) if end - start == 1 and length > 1 else None
    return None


def starts_of(outputs: list[ir.Value], varying: Collection[ir.Value]) -> Iterator[ir.Value]:
    """Yield the scores that a TopK gives to outputs, through nothing but moves and choices."""
    todo, seen = list(outputs), set[ir.Value]()
    while todo:
        value = todo.pop(0)
        node = value.producer()
        if value in seen or node is None:
            continue
        seen.add(value)
        if node.op_type == "TopK" and value is node.outputs[0]:
            yield value
        else:
            todo += [v for v in above(node) if v in varying]
