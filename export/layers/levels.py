"""The levels of a detector: the last layer of each resolution that the boxes and the classes of its anchors share."""

from collections.abc import Sequence

import onnx_ir as ir

from fusioncam.export.gradient import path
from fusioncam.export.layers.choice import EARLY, Candidate, Survey
from fusioncam.export.layers.graph_paths import bottlenecks, branches
from fusioncam.kernels.arrays import Size

POOL = "RoiAlign"


def find_levels(image: ir.Value, output: ir.Value, surveyed: Survey) -> list[Candidate]:
    """Return the levels in the order of the graph; none where one layer sees everything.

    The heads of a detector part into branches, of boxes and of classes, on each level. The layer of a level is the last
    of its resolution that all these branches must pass. That of the finest may come early, as few operators lead there.
    A detector of two stages takes features of its levels for each box that it proposes: by a RoiAlign of each level.

    Args:
        image: The input.
        output: The boxes and classes.
        surveyed: The layers that could explain the model.
    """
    usable = [c for c in surveyed.candidates if c.refused is None]
    pooled = [c for c in usable if pooling_of(c)]
    if pooled:
        return pooled
    last = branches(image, output, {c.value for c in usable if c.bypassed or c.depth > EARLY})
    ends = [c for c in usable if c.value in last]
    grids = dict.fromkeys(c.layout.grid for c in ends)
    found = [_shared(image, [c for c in ends if c.layout.grid == grid], usable, grid) for grid in grids]
    order = {id(c): n for n, c in enumerate(usable)}
    levels = sorted((c for c in found if c is not None), key=lambda c: order[id(c)])
    return levels if len(levels) > 1 else []


def pooling_of(level: Candidate) -> ir.Node | None:
    """Return the node that takes features of a level for boxes; None where nothing does."""
    return next((use.node for use in level.value.uses() if use.node.op_type == POOL and use.idx == 0), None)


def _shared(image: ir.Value, ends: Sequence[Candidate], usable: Sequence[Candidate], grid: Size) -> Candidate | None:
    """Return the last layer of a grid that everything passes on its way to the ends of all these branches."""
    passed = [bottlenecks(path(image, c.value), image, c.value) | {c.value} for c in ends]
    shared = [c for c in usable if c.layout.grid == grid and all(c.value in of_branch for of_branch in passed)]
    return shared[-1] if shared else None
