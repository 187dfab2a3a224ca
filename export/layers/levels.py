"""The levels of a detector: the last layer of each resolution that the boxes and the classes of its anchors share."""

from collections.abc import Sequence

import onnx_ir as ir

from fusioncam.export.gradient import path
from fusioncam.export.layers.choice import Candidate, Survey
from fusioncam.export.layers.graph_paths import bottlenecks
from fusioncam.kernels.arrays import Size


def find_levels(image: ir.Value, surveyed: Survey) -> list[Candidate]:
    """Return the levels in the order of the graph; none where one layer sees everything.

    The heads of a detector part into branches, of boxes and of classes, on each level. The layer of a level is the last
    of its resolution that all these branches must pass.

    Args:
        image: The input.
        surveyed: The layers that could explain the model.
    """
    usable = [c for c in surveyed.candidates if c.refused is None]
    branches = [c for c in usable if c.name in surveyed.branches]
    grids = dict.fromkeys(c.layout.grid for c in branches)
    found = [_shared(image, [b for b in branches if b.layout.grid == grid], usable, grid) for grid in grids]
    order = {id(c): n for n, c in enumerate(usable)}
    levels = sorted((c for c in found if c is not None), key=lambda c: order[id(c)])
    return levels if len(levels) > 1 else []


def _shared(
    image: ir.Value, branches: Sequence[Candidate], usable: Sequence[Candidate], grid: Size
) -> Candidate | None:
    """Return the last layer of a grid that everything passes on its way to all of these branches."""
    passed = [bottlenecks(path(image, b.value), image, b.value) | {b.value} for b in branches]
    shared = [c for c in usable if c.layout.grid == grid and all(c.value in of_branch for of_branch in passed)]
    return shared[-1] if shared else None
