"""Operators that only move or repeat elements, whole axes at a time."""

import functools
import itertools

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule, rules
from fusioncam.export.gradient.tape import Dims, dims

rules(
    {
        **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), lambda s: s.op.reshape_as(s.dy, s.x)),
        # From opset 28 on SpaceToDepth has the modes of DepthToSpace, its inverse.
        "SpaceToDepth": lambda s: s.op.DepthToSpace(
            s.dy, blocksize=int(s.attribute("blocksize")), mode=s.attribute("mode", "DCR")
        ),
    }
)
rules({"Expand": lambda s: s.dy}, broadcasts=True)


@rule("Transpose")
def _transpose(s: Step) -> ir.Value:
    perm = s.attribute("perm", range(len(dims(s.x)))[::-1])
    return s.op.Transpose(s.dy, perm=np.argsort(perm).tolist())


@rule("Concat", every_input=True)
def _concat(s: Step) -> ir.Value:
    axis = s.axis(0)
    sizes = [dims(s.input(i))[axis] for i in range(s.index + 1)]
    if None in sizes:
        lengths = [s.op.Shape(s.input(i), start=axis, end=axis + 1) for i in range(s.index + 1)]
        start = functools.reduce(s.op.Add, lengths[:-1]) if s.index else s.op.ints([0])
        return s.op.Slice(s.dy, start, s.op.Add(start, lengths[-1]), s.op.ints([axis]))
    ends = list(itertools.accumulate(n for n in sizes if n is not None))
    first = ends[-2] if s.index else 0
    return s.op.Slice(s.dy, s.op.ints([first]), s.op.ints([ends[-1]]), s.op.ints([axis]))


@rule("Split")
def _split(s: Step) -> ir.Value:
    parts = [s.op.zeros_like(o) if d is None else d for o, d in zip(s.node.outputs, s.received, strict=True)]
    return s.op.Concat(*parts, axis=s.axis(0))


@rule("Tile")
def _tile(s: Step) -> ir.Value:
    # Each repeated axis becomes two, (repeats, size); the others stay one, as TensorRT takes no more than 8 in all.
    folded: list[int | None] = []
    axes = []
    for repeats, d in zip(s.array(1).tolist(), dims(s.x), strict=True):
        if repeats != 1:
            if d is None:
                raise NotImplementedError("a repetition of the batch")
            axes.append(len(folded))
            folded.append(repeats)
        folded.append(d)
    return s.op.ReduceSum(s.op.reshape(s.dy, tuple(folded)), s.op.ints(axes), keepdims=0) if axes else s.dy


@rule("DepthToSpace")
def _depth_to_space(s: Step) -> ir.Value:
    b = int(s.attribute("blocksize"))
    if s.attribute("mode", "DCR") == "DCR":
        return s.op.SpaceToDepth(s.dy, blocksize=b)
    # SpaceToDepth puts the channels innermost in the depth, CRD outermost.
    channels, height, width = s.static(s.x, 1)
    blocks: Dims = (None, channels // b**2, height, b, width, b)
    return s.op.reshape_as(s.op.Transpose(s.op.reshape(s.dy, blocks), perm=[0, 1, 3, 5, 2, 4]), s.x)
