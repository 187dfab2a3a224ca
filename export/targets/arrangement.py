"""The ways in which targets meet pictures: one target for each, or every target with every picture."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops, dims
from fusioncam.forms import TARGETS_AXIS

Targets = Mapping[str, ir.Value]


@dataclass(frozen=True)
class Arrangement:
    """The way in which targets meet pictures.

    Tensors of pictures get an axis of targets behind the first: its size is 1 row by row, and T crosswise.

    Attributes:
        crosswise: Whether every target meets every picture.
    """

    crosswise: bool

    @property
    def axis(self) -> str:
        """Return the name of the first axis of the targets."""
        return TARGETS_AXIS if self.crosswise else "N"

    def beside(self, op: Ops, target: ir.Value) -> ir.Value:
        """Return a tensor of targets so that it broadcasts: (N, 1, ...) row by row, (1, T, ...) crosswise."""
        widened = op.Unsqueeze(target, op.ints([0 if self.crosswise else 1]))
        size = (1, target.shape[0]) if self.crosswise else (target.shape[0], 1)  # type: ignore[index]
        widened.shape = ir.Shape([*size, *target.shape[1:]])  # type: ignore[index]
        return widened

    def pick(self, op: Ops, maps: ir.Value, class_index: ir.Value, region: ir.Value) -> ir.Value:
        """Return the maps of the classes, (N, 1, h, w) row by row, (N, T, h, w) crosswise.

        Args:
            op: Appends nodes.
            maps: Maps of all classes, (N, C, h, w).
            class_index: The classes; row by row, -1 is the class of the highest mean in the region.
            region: The regions, as `beside` returns them.
        """
        if self.crosswise:
            return op.Gather(maps, class_index, axis=1)
        axes = op.ints(range(2, len(dims(maps))))
        top = op.ArgMax(op.ReduceSum(op.Mul(maps, region), axes, keepdims=0), axis=1, keepdims=1)
        marks = op.Unsqueeze(one_hot(op, class_index, top, dims(maps)[1] or 0), axes)
        return op.ReduceSum(op.Mul(maps, marks), op.ints([1]), keepdims=1)

    def finish(self, op: Ops, numbers: ir.Value) -> ir.Value:
        """Return the numbers of the targets (N,) row by row, (N, T) crosswise."""
        return op.Identity(numbers) if self.crosswise else op.Squeeze(numbers, op.ints([1]))


ROWWISE, CROSSWISE = Arrangement(False), Arrangement(True)


def one_hot(op: Ops, class_index: ir.Value, top: ir.Value, classes: int) -> ir.Value:
    """Return a 1 at the class of each picture, (N, C) float32.

    Args:
        op: Appends nodes.
        class_index: The classes (N,); below zero it is the one in `top`.
        top: The top class of each picture, (N, 1).
        classes: Their number C.
    """
    explained = op.Unsqueeze(class_index, op.ints([1]))
    chosen = op.Where(op.Less(explained, op.ints([0])), top, explained)
    return op.Cast(op.Equal(chosen, op.constant(np.arange(classes, dtype=np.int64)[None])), to=ir.DataType.FLOAT)
