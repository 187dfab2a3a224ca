"""Which axis of a tensor is what: channels, height, width, or a row of tokens that covers a grid.

The meaning of axes is followed from the image through the graph, so nothing is guessed from numbers such as 14 x 14.
"""

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import dims

SPATIAL_OPS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "Resize", "DepthToSpace", "SpaceToDepth")


@dataclass(frozen=True)
class Layout:
    """Meaning of the axes of one tensor.

    Attributes:
        roles: One letter per axis: N, C, H, W, or T for tokens in rows of the grid.
        grid: (h, w).
        offset: Tokens before those of the grid (the class token, registers).
    """

    roles: str
    grid: tuple[int, int]
    offset: int = 0


def layouts(graph: ir.Graph) -> dict[ir.Value, Layout]:
    """The layout of every tensor where it is known; the shapes of all tensors must be."""
    image = graph.inputs[0]
    height, width = dims(image)[2:]
    assert height is not None and width is not None
    found = {image: Layout("NCHW", (height, width))}
    for node in graph:
        known = [v for v in node.inputs if v is not None and v in found]
        for output in node.outputs:
            layout = _layout_of(node, known, found, output) if output.shape is not None else None
            if layout is not None and _fits(layout, output):
                found[output] = layout
    return found


def _fits(layout: Layout, value: ir.Value) -> bool:
    shape = dims(value)
    if len(shape) != len(layout.roles) or shape[layout.roles.index("N")] is not None:
        return False
    if "T" in layout.roles:
        tokens = shape[layout.roles.index("T")]
        return tokens is not None and tokens >= layout.offset + layout.grid[0] * layout.grid[1]
    return (shape[layout.roles.index("H")], shape[layout.roles.index("W")]) == layout.grid


def _layout_of(
    node: ir.Node, known: list[ir.Value], found: dict[ir.Value, Layout], output: ir.Value
) -> Layout | None:  # fmt: skip
    shape = dims(output)
    if node.op_type in SPATIAL_OPS and len(shape) == 4:
        height, width = shape[2:]
        return Layout("NCHW", (height, width)) if height and width else None
    if not known:
        return None
    source = max(known, key=lambda v: (len(dims(v)), dims(v) == shape))
    layout, before = found[source], dims(source)
    if node.op_type == "Transpose":
        perm = node.attributes["perm"].as_ints()
        return replace(layout, roles="".join(layout.roles[p] for p in perm))
    if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
        return _reshaped(layout, before, shape)
    if len(shape) != len(before):
        return None
    changed = [i for i, (a, b) in enumerate(zip(before, shape, strict=True)) if a != b]
    if not changed:
        return layout
    if len(changed) > 1:
        return None
    role = layout.roles[changed[0]]
    if role == "C":
        return layout
    return _with_other_tokens(node, layout, source) if role == "T" else None


def _reshaped(layout: Layout, before: tuple[int | None, ...], after: tuple[int | None, ...]) -> Layout | None:
    """Height and width merge to tokens, or tokens without extras split into height and width."""
    height, width = layout.grid
    if before == after:
        return layout
    if "HW" in layout.roles:
        at = layout.roles.index("H")
        merged = (*before[:at], height * width, *before[at + 2 :])
        return replace(layout, roles=layout.roles.replace("HW", "T")) if after == merged else None
    if "T" in layout.roles:
        at = layout.roles.index("T")
        split = (*before[:at], height, width, *before[at + 1 :])
        return replace(layout, roles=layout.roles.replace("T", "HW")) if after == split else None
    return None


def _with_other_tokens(node: ir.Node, layout: Layout, source: ir.Value) -> Layout | None:
    """Extra tokens joined to the grid's, or cut off again."""
    axis = layout.roles.index("T")
    if node.op_type == "Concat":
        before = node.inputs[: list(node.inputs).index(source)]
        sizes = [dims(v)[axis] for v in before if v is not None]
        return replace(layout, offset=layout.offset + sum(n or 0 for n in sizes))
    if node.op_type == "Slice" and node.inputs[1] is not None and node.inputs[1].const_value is not None:
        start = int(np.ravel(node.inputs[1].const_value.numpy())[0])
        return replace(layout, offset=layout.offset - start) if 0 <= start <= layout.offset else None
    return None
