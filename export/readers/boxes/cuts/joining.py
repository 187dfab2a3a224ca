"""Tensors of a cut, brought together: the sides of all boxes, the numbers of their classes, and what else there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.gradient.marks import ZERO, mark
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Array, BoolArray

Shape = tuple[int, ...]
NEVER = -3e4  # the number of a class that an anchor never has; float16 holds it
LEAST = 1e-30  # of a score whose logarithm is taken


@dataclass(frozen=True)
class Joint:
    """The axes of the tensors of a cut, for one picture.

    Attributes:
        anchors: The number of boxes.
        numbers: The numbers of classes of each, background included.
        parts: The anchors in each tensor of scores.
        classes_first: Whether their axes are (classes, anchors).
        extras: Further numbers of a box; 0 where no tensor holds any.
        apart: Whether each class has boxes of its own, so that an anchor has one class.
        background: The number of no object among those of classes, which has no boxes; None where all have some.
    """

    anchors: int
    numbers: int
    parts: tuple[int, ...]
    classes_first: bool
    extras: int
    apart: bool
    background: int | None = None

    @property
    def own(self) -> list[int]:
        """Return the classes that have boxes of their own, in the order of these."""
        return [n for n in range(self.numbers) if n != self.background]

    @property
    def of_class(self) -> BoolArray:
        """Return which number is that of the class of each box, (classes with boxes, numbers)."""
        return np.asarray(np.arange(self.numbers) == np.array(self.own)[:, None])

    @property
    def softmax(self) -> bool:
        """Return whether anchors of one class have, beside its number, that of all others as their background."""
        return self.apart and self.background is not None

    def blocks(self, as_many: bool = True) -> list[Shape]:
        """Return the shape of each tensor for one picture: boxes, scores, extras.

        Args:
            as_many: Whether every picture has as many boxes as this one; else their number is -1.
        """
        parts = [a if as_many else -1 for a in self.parts]
        anchors = self.anchors if as_many else -1
        scores = [(self.numbers, a) if self.classes_first else (a, self.numbers) for a in parts]
        extras = [(anchors, self.extras)] if self.extras else []
        return [(anchors, SIDES), *scores, *extras]


def joint_of(shapes: Sequence[Shape], batch: int, extra: bool, background: str = "none") -> Joint | None:
    """Return the axes of boxes, scores and, in the last tensor, extras; None where they do not belong together.

    Args:
        shapes: The shapes of the tensors for a batch, which may be folded into other axes.
        batch: The number of pictures.
        extra: Whether the last tensor holds further numbers.
        background: Where the numbers of classes hold one of no object: `first`, `last` or `none`.
    """
    sizes = [math.prod(shape) // batch for shape in shapes]
    end = len(shapes) - extra
    anchors, rest = divmod(sizes[0], SIDES)
    columns = shapes[1][-1]
    if background != "none" and len(shapes) == 2 and columns > 1 and (columns - 1) * sizes[1] == anchors * columns:
        at = 0 if background == "first" else columns - 1
        return Joint(anchors, columns, (sizes[1] // columns,), False, 0, True, at) if anchors and not rest else None
    numbers, over = divmod(sum(sizes[1:end]), anchors or 1)
    extras, more = divmod(sizes[-1] if extra else 0, anchors or 1)
    if not anchors or not numbers or rest or over or more:
        return None
    axes = [[d for d in shape if d != 1] for shape in shapes[1:end]]
    last = next((a[-1] for a in axes if len(a) > 1), numbers)
    apart = numbers == 1 and last > 1
    numbers = last if apart else numbers
    if any(size % numbers for size in sizes[1:end]):
        return None
    parts = tuple(size // numbers for size in sizes[1:end])
    return Joint(anchors, numbers, parts, last != numbers, extras, apart)


def join_nodes(op: Ops, values: Sequence[ir.Value], joint: Joint, as_many: bool = True) -> ir.Value:
    """Append the nodes that make one tensor (N, A, columns) of the tensors of a cut.

    Args:
        op: Appends nodes.
        values: The tensors.
        joint: Their axes.
        as_many: Whether every picture has as many boxes; else there is one picture.
    """
    shapes = [[-1 if as_many else 1, *shape] for shape in joint.blocks(as_many)]
    blocks = [op.Reshape(v, op.ints(shape)) for v, shape in zip(values, shapes, strict=True)]
    scores = blocks[1 : 1 + len(joint.parts)]
    if joint.classes_first:
        scores = [op.Transpose(s, perm=[0, 2, 1]) for s in scores]
    numbers = scores[0] if len(scores) == 1 else op.Concat(*scores, axis=1)
    if joint.softmax:
        numbers = _own_numbers(op, numbers, joint, _without_softmax(values[1]))
    elif joint.apart:
        numbers = op.Mul(op.Unsqueeze(numbers, op.ints([3])), op.constant(np.eye(joint.numbers), np.float32))
    if joint.apart:
        numbers = op.Reshape(numbers, op.ints([*shapes[0][:2], joint.numbers]))
    return op.Concat(blocks[0], numbers, *blocks[1 + len(joint.parts) :], axis=2)


def _without_softmax(value: ir.Value) -> bool:
    """Take off the Softmax over the last axis that scores come from; return whether there was one."""
    node = value.producer()
    while node is not None and node.op_type in ("Identity", "Cast", "Slice") and node.inputs[0] is not None:
        value = node.inputs[0]
        node = value.producer()
    if node is None or node.op_type != "Softmax" or len(value.uses()) != 1 or value.is_graph_output():
        return False
    if node.attributes.get_int("axis", -1) not in (-1, len(value.shape or ()) - 1):
        return False
    logits = node.inputs[0]
    assert logits is not None
    value.replace_all_uses_with(logits)
    return True


def _own_numbers(op: Ops, numbers: ir.Value, joint: Joint, logits: bool) -> ir.Value:
    """Return the numbers (N, boxes, classes, n) of anchors of one class, whose softmax gives its score.

    That is its logit, and for the background the logarithm of what all other numbers add up to. A class that is not the
    anchor's has the number `NEVER`.

    Args:
        op: Appends nodes.
        numbers: Logits, or scores, (N, boxes, n).
        joint: The axes.
        logits: Whether the numbers are logits.
    """
    z = numbers if logits else op.Log(op.Max(numbers, op.constant(LEAST, np.float32)))
    of_class = joint.of_class
    of_rest = np.broadcast_to(np.arange(joint.numbers) == joint.background, of_class.shape)
    others = op.Add(op.Unsqueeze(z, op.ints([2])), op.constant(np.where(of_class, NEVER, 0), np.float32))
    rest = mark(op.ReduceLogSumExp(others, op.ints([3]), keepdims=1), ZERO)
    own = op.Unsqueeze(op.Gather(z, op.ints(joint.own), axis=2), op.ints([3]))
    placed = op.Where(op.constant(of_rest), rest, op.constant(NEVER, np.float32))
    return op.Where(op.constant(of_class), own, placed)


def join_arrays(arrays: Sequence[Array], joint: Joint) -> Array:
    """Return one array (N, A, columns) of the tensors of a cut."""
    blocks = [a.reshape(-1, *shape) for a, shape in zip(arrays, joint.blocks(), strict=True)]
    scores = blocks[1 : 1 + len(joint.parts)]
    numbers = np.concatenate([s.swapaxes(1, 2) if joint.classes_first else s for s in scores], axis=1)
    if joint.softmax:
        own = numbers[..., joint.own, None]
        rest = np.where(np.arange(joint.numbers) == joint.background, 1 - own, 0)
        numbers = np.where(joint.of_class, own, rest).reshape(-1, joint.anchors, joint.numbers)
    elif joint.apart:
        numbers = (numbers[..., None] * np.eye(joint.numbers)).reshape(-1, joint.anchors, joint.numbers)
    return np.concatenate([blocks[0], numbers, *blocks[1 + len(joint.parts) :]], axis=2)
