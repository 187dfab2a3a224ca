"""Operators that only move or repeat elements, whole axes at a time."""

import itertools

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule
from fusioncam.export.gradient.tape import Dims, dims


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(s: Step) -> ir.Value:
    s.only_input(0)
    return s.op.reshape_as(s.dy, s.x)


@rule("Transpose")
def _transpose(s: Step) -> ir.Value:
    rank = len(dims(s.x))
    perm = s.attribute("perm", list(reversed(range(rank))))
    return s.op.Transpose(s.dy, perm=np.argsort(perm).tolist())


@rule("Concat")
def _concat(s: Step) -> ir.Value:
    axis = s.axis(0)
    sizes = [dims(s.input(i))[axis] for i in range(s.index + 1)]
    if None in sizes:
        raise NotImplementedError("a concatenation along the batch")
    ends = list(itertools.accumulate(n for n in sizes if n is not None))
    start = ends[-2] if s.index else 0
    return s.op.Slice(s.dy, s.op.ints([start]), s.op.ints([ends[-1]]), s.op.ints([axis]))


@rule("Split")
def _split(s: Step) -> ir.Value:
    s.only_input(0)
    parts = [s.op.zeros_like(o) if d is None else d for o, d in zip(s.node.outputs, s.received, strict=True)]
    return s.op.Concat(*parts, axis=s.axis(0))


@rule("Expand", broadcasts=True)
def _expand(s: Step) -> ir.Value:
    s.only_input(0)
    return s.dy


@rule("Tile")
def _tile(s: Step) -> ir.Value:
    s.only_input(0)
    repeats = s.array(1).tolist()
    shape = dims(s.x)
    if any(r != 1 and d is None for r, d in zip(repeats, shape, strict=True)):
        raise NotImplementedError("a repetition of the batch")
    folded: Dims = tuple(n for r, d in zip(repeats, shape, strict=True) for n in (r, d))
    axes = s.op.ints(list(range(0, 2 * len(shape), 2)))
    return s.op.ReduceSum(s.op.reshape(s.dy, folded), axes, keepdims=0)


def _blocks(s: Step, small: ir.Value) -> tuple[int, Dims]:
    """The block size b, and the shape (N, C, H, b, W, b) in which `small`, of (N, C, H b, W b), is made of blocks."""
    b = int(s.attribute("blocksize"))
    channels, height, width = s.static(small, 1)
    return b, (None, channels, height // b, b, width // b, b)


@rule("DepthToSpace")
def _depth_to_space(s: Step) -> ir.Value:
    _, blocks = _blocks(s, s.y)
    by_column = s.attribute("mode", "DCR") == "CRD"
    perm = [0, 1, 3, 5, 2, 4] if by_column else [0, 3, 5, 1, 2, 4]
    return s.op.reshape_as(s.op.Transpose(s.op.reshape(s.dy, blocks), perm=perm), s.x)


@rule("SpaceToDepth")
def _space_to_depth(s: Step) -> ir.Value:
    b, (_, channels, height, _, width, _) = _blocks(s, s.x)
    dy = s.op.reshape(s.dy, (None, b, b, channels, height, width))
    return s.op.reshape_as(s.op.Transpose(dy, perm=[0, 3, 4, 1, 5, 2]), s.x)
