"""Tensors of a cut, brought together: the sides of all boxes, the numbers of their classes, and what else there is."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Array

Shape = tuple[int, ...]


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
    """

    anchors: int
    numbers: int
    parts: tuple[int, ...]
    classes_first: bool
    extras: int
    apart: bool

    def blocks(self) -> list[Shape]:
        """Return the shape of each tensor for one picture: boxes, scores, extras."""
        scores = [(self.numbers, a) if self.classes_first else (a, self.numbers) for a in self.parts]
        extras = [(self.anchors, self.extras)] if self.extras else []
        return [(self.anchors, SIDES), *scores, *extras]


def joint_of(shapes: Sequence[Shape], batch: int, extra: bool) -> Joint | None:
    """Return the axes of boxes, scores and, in the last tensor, extras; None where they do not belong together.

    Args:
        shapes: The shapes of the tensors for a batch, which may be folded into other axes.
        batch: The number of pictures.
        extra: Whether the last tensor holds further numbers.
    """
    sizes = [math.prod(shape) // batch for shape in shapes]
    end = len(shapes) - extra
    anchors, rest = divmod(sizes[0], SIDES)
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


def join_nodes(op: Ops, values: Sequence[ir.Value], joint: Joint) -> ir.Value:
    """Append the nodes that make one tensor (N, A, columns) of the tensors of a cut."""
    blocks = [op.Reshape(v, op.ints([-1, *shape])) for v, shape in zip(values, joint.blocks(), strict=True)]
    scores = blocks[1 : 1 + len(joint.parts)]
    if joint.classes_first:
        scores = [op.Transpose(s, perm=[0, 2, 1]) for s in scores]
    numbers = scores[0] if len(scores) == 1 else op.Concat(*scores, axis=1)
    if joint.apart:
        own = op.Mul(op.Unsqueeze(numbers, op.ints([3])), op.constant(np.eye(joint.numbers), np.float32))
        numbers = op.Reshape(own, op.ints([-1, joint.anchors, joint.numbers]))
    return op.Concat(blocks[0], numbers, *blocks[1 + len(joint.parts) :], axis=2)


def join_arrays(arrays: Sequence[Array], joint: Joint) -> Array:
    """Return one array (N, A, columns) of the tensors of a cut."""
    blocks = [a.reshape(-1, *shape) for a, shape in zip(arrays, joint.blocks(), strict=True)]
    scores = blocks[1 : 1 + len(joint.parts)]
    numbers = np.concatenate([s.swapaxes(1, 2) if joint.classes_first else s for s in scores], axis=1)
    if joint.apart:
        numbers = (numbers[..., None] * np.eye(joint.numbers)).reshape(-1, joint.anchors, joint.numbers)
    return np.concatenate([blocks[0], numbers, *blocks[1 + len(joint.parts) :]], axis=2)
