"""The trace of a graph: where in the picture the elements of its tensors come from, see `follow.py`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from fusioncam.export.gradient import carries, reads
from fusioncam.export.layers.follow import Follower, Part
from fusioncam.export.layers.positions import Positions, broadcasts, nowhere, sizes
from fusioncam.kernels.arrays import Float32Array

# The axes of an input of so many, which are followed together: a position has room for two.
PARTS: dict[int, tuple[tuple[int, ...], ...]] = {1: ((0,),), 2: ((0, 1),), 3: ((0,), (1, 2))}


@dataclass
class Trace:
    """The positions of a graph's tensors, as far as they are known.

    Attributes:
        rank: Number of axes of the picture: 2, or 1 of a signal, or 3 of a volume.
        positions: By tensor, for a batch of one: an array for each of `PARTS`, of the tensor's rank, of size 1 along
            axes where nothing changes.
        mixing: Nodes that may bring elements from one position to another.
        pairs: Tensors with positions along two axes at once, as attention's weights have: queries and keys.
        lost: The first nodes that cannot be followed, in the order of the graph.
    """

    rank: int
    positions: dict[ir.Value, tuple[Positions, ...]]
    mixing: set[ir.Node]
    pairs: set[ir.Value]
    lost: list[ir.Node]

    def somewhere(self, value: ir.Value) -> bool:
        """Return whether some of the tensor's elements have a position."""
        return not all(map(nowhere, self.positions.get(value, ())))

    def along(self, value: ir.Value) -> list[Float32Array]:
        """Return the positions of a tensor along each axis of the picture, in 0..1; NaN where there is none."""
        pairs = zip(PARTS[self.rank], self.positions[value], strict=True)
        return [part for axes, array in pairs for part in (array.real, array.imag)[: len(axes)]]


def trace(graph: ir.Graph) -> Trace:
    """Follow positions from the image, the graph's first input; the shapes of all tensors must be known."""
    rank = len(sizes(graph.inputs[0])) - 2
    parts = [_follow(graph, axes) for axes in PARTS[rank]]
    known = [v for v in parts[0].positions if all(v in part.positions for part in parts)]
    return Trace(
        rank,
        {v: tuple(part.positions[v] for part in parts) for v in known},
        set().union(*(part.mixing for part in parts)),
        set().union(*(part.pairs for part in parts)),
        list(dict.fromkeys(node for part in parts for node in part.lost)),
    )


def _follow(graph: ir.Graph, axes: Sequence[int]) -> Part:
    image = graph.inputs[0]
    made = Part(axes, len(sizes(image)))
    made.positions[image] = made.whole(sizes(image)[2:])[None, None]
    reached = {image}
    for node in graph:
        if reached.isdisjoint(reads(node)):
            continue
        reached.update(node.outputs)
        follower = Follower(node, made, reached)
        known: Iterable[Positions | None] = ()
        if all(o.shape is not None for o in node.outputs):
            known = follower.follow()
        for output, array in zip(node.outputs, known, strict=False):
            if array is not None and broadcasts(array.shape, sizes(output)):
                made.positions[output] = array
        came = any(v in made.positions for v in reads(node))
        if came and carries(node.outputs[0]) and node.outputs[0] not in made.positions:
            made.lost.append(node)
    return made
