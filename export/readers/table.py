"""The table of readers: which output each takes, and the few nodes that make the normal form of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops, dims
from fusioncam.forms import Task
from fusioncam.kernels.arrays import Array, Size

Shape = tuple[int, ...]  # of an output, without its batch


@dataclass(frozen=True)
class Reader:
    """A way to read an output.

    Attributes:
        name: The name that a user gives.
        tasks: What the model may do, the first by default.
        takes: The shape of the output, for messages.
        rank: Number of its axes besides the batch; 1 is any number of which one is larger than 1.
        looks_so: Returns whether an output of that rank is read so unless the user says it, for a picture of a size.
        arrange: Appends the nodes that bring the output into the normal form.
        compute: Computes the same in NumPy, for the check.
        classes_at: The axis of classes in maps that have one.
        roles: Meaning of the axes of such maps, as of a `Layout`.
    """

    name: str
    tasks: tuple[Task, ...]
    takes: str
    rank: int
    looks_so: Callable[[Shape, Size], bool]
    arrange: Callable[[Ops, ir.Value], ir.Value]
    compute: Callable[[Array], Array]
    classes_at: int | None = None
    roles: str | None = None

    def takes_shape(self, shape: Shape) -> bool:
        """Return whether an output of a shape, without its batch, can be read so."""
        return sum(d != 1 for d in shape) <= 1 if self.rank == 1 else len(shape) == self.rank

    def fits(self, shape: Shape, size: Size) -> bool:
        """Return whether an output of a shape is read so by default, for a picture of a size."""
        return self.suits(size) and self.takes_shape(shape) and self.looks_so(shape, size)

    def suits(self, size: Size) -> bool:
        """Return whether models of an input (H, W) can be read so: maps of signals and volumes have no readers yet."""
        return self.rank == 1 or len(size) == 2


def _is_grid(grid: Shape, size: Size) -> bool:
    """Return whether (h, w) covers a picture of (H, W): the aspect ratios agree, but for rounding."""
    (h, w), (height, width) = grid, size
    return h * w > 1 and abs(h * width - w * height) <= max(height, width)


def _tokens_cover(count: int, size: Size) -> bool:
    """Return whether some (h, w) of `count` cells has the very aspect ratio of the picture."""
    height, width = size
    return any(h * h * width == count * height for h in range(1, count + 1) if count % h == 0)


def _flat(op: Ops, y: ir.Value) -> ir.Value:
    length = int(np.prod([d for d in dims(y)[1:] if d is not None]))
    return y if len(dims(y)) == 2 else op.Reshape(y, op.ints([-1, length]))


MAPS: tuple[Task, ...] = ("segment", "value")

READERS = (
    Reader(
        "vector", ("classify", "value", "embed"), "(N, C)", 1,
        lambda shape, size: True,
        _flat,
        lambda y: y.reshape(len(y), -1),
    ),
    Reader(
        "maps", MAPS, "(N, C, h, w)", 3,
        lambda shape, size: _is_grid(shape[1:], size),
        lambda op, y: y,
        lambda y: y,
        classes_at=1, roles="NCHW",
    ),
    Reader(
        "maps-last", MAPS, "(N, h, w, C)", 3,
        lambda shape, size: _is_grid(shape[:2], size),
        lambda op, y: op.Transpose(y, perm=[0, 3, 1, 2]),
        lambda y: y.transpose(0, 3, 1, 2),
        classes_at=3, roles="NHWC",
    ),
    Reader(
        "map", MAPS, "(N, h, w)", 2,
        _is_grid,
        lambda op, y: op.Unsqueeze(y, op.ints([1])),
        lambda y: y[:, None],
    ),
    Reader(
        "mean-tokens", ("embed",), "(N, tokens, D)", 2,
        lambda shape, size: _tokens_cover(shape[0], size),
        lambda op, y: op.ReduceMean(y, op.ints([1]), keepdims=0),
        lambda y: y.mean(axis=1),
    ),
    Reader(
        "cls-token", ("embed",), "(N, tokens, D)", 2,
        lambda shape, size: shape[0] > 1,
        lambda op, y: op.Squeeze(op.Slice(y, op.ints([0]), op.ints([1]), op.ints([1])), op.ints([1])),
        lambda y: y[:, 0],
    ),
    Reader(
        "mean-map", ("embed",), "(N, D, h, w)", 3,
        lambda shape, size: _is_grid(shape[1:], size),
        lambda op, y: op.ReduceMean(y, op.ints([2, 3]), keepdims=0),
        lambda y: y.mean(axis=(2, 3)),
    ),
)  # fmt: skip
VECTOR = READERS[0]


def reader_named(name: str) -> Reader:
    """Return the reader of a name, which a manifest or a user gives."""
    return next(r for r in READERS if r.name == name)
