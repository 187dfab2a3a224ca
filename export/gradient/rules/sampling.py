"""Operators that read pictures at computed places."""

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.measure import run_node
from fusioncam.export.gradient.rules.points import LINEAR, NEAREST, Kernel, Points, cubic, neighbours
from fusioncam.export.gradient.rules.table import Step, product, rule
from fusioncam.export.gradient.tape import dims

# The names of both generations of the operator.
KERNELS = {
    **dict.fromkeys(("linear", "bilinear"), LINEAR),
    **dict.fromkeys(("cubic", "bicubic"), cubic(-0.75)),
    "nearest": NEAREST,
}


@rule("GridSample", every_input=True)
def _grid_sample(s: Step) -> ir.Value | None:
    """Return the gradient by the picture, or by the grid: torch's, of which the operator is a copy."""
    op, picture, grid = s.op, s.input(0), s.input(1)
    kernel = KERNELS[s.attribute("mode", "linear")]
    if s.index == 1 and kernel.nearest:
        return None
    channels, *sizes = s.static(picture, 1)
    count = product(s.static(grid, 1)[:-1])
    points = _of_grid(s, grid, sizes, kernel, count)
    dy = op.Transpose(op.reshape(s.dy, (None, channels, count)), perm=[0, 2, 1])
    if s.index == 0:
        return points.spread(dy, picture, channels)
    slopes = points.slopes(points.read(picture, channels), dy)
    # The grid names the last axis first.
    scaled = [op.Mul(d, s.like(_scale(s, size))) for d, size in zip(slopes, sizes, strict=True)]
    return op.reshape(op.Concat(*reversed(scaled), axis=2), dims(grid))


def _scale(s: Step, size: int) -> float:
    """Return the number of elements that a grid's unit is along an axis."""
    return (size - int(s.attribute("align_corners", 0))) / 2


def _of_grid(s: Step, grid: ir.Value, sizes: list[int], kernel: Kernel, count: int) -> Points:
    """Return the points of a grid, (B, *points, axes), whose -1 and 1 are the edges of the picture."""
    op, corners = s.op, bool(s.attribute("align_corners", 0))
    from_edge = op.Add(op.reshape(grid, (None, count, len(sizes))), s.like(1))
    axes = []
    for axis, size in enumerate(sizes):
        # As onnxruntime rounds, which decides where a point lies just between two elements.
        place = op.Mul(op.Gather(from_edge, op.ints([len(sizes) - 1 - axis]), axis=2), s.like(_scale(s, size)))
        place = place if corners else op.Sub(place, s.like(0.5))
        axes.append(neighbours(s, place, size, kernel, s.attribute("padding_mode", "zeros"), corners))
    return Points(s, sizes, count, kernel, axes)


@rule("AffineGrid")
def _affine_grid(s: Step) -> ir.Value:
    """Return the product of the gradient with the places at which theta is the unit, which are measured."""
    *sizes, axes = s.static(s.y, 1)
    theta = np.zeros((axes + 1, axes, axes + 1), np.float32)
    theta[:, 0] = np.eye(axes + 1)
    size = np.array([axes + 1, 1, *sizes], np.int64)
    corners = s.attribute("align_corners", 0)
    places = run_node("AffineGrid", 20, [theta, size], {"align_corners": corners})[..., 0]
    dy = s.op.Transpose(s.op.reshape(s.dy, (None, product(sizes), axes)), perm=[0, 2, 1])
    return s.op.MatMul(dy, s.like(places.reshape(axes + 1, -1).T))
