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
        roles: One letter per axis: N, C, H, W, T for tokens in rows of the grid, or c for a part of the channels.
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
    assert height is not None
    assert width is not None
    found = {image: Layout("NCHW", (height, width))}
    for node in graph:
        known = [v for v in node.inputs if v is not None and v in found]
        for output in node.outputs:
            layout = _layout_of(node, known, found, output) if output.shape is not None else None
            if layout is not None and _fits(layout, output):
                found[output] = layout
    return found


def _fits(layout: Layout, value: ir.Value) -> bool:
    shape, roles = dims(value), layout.roles
    if len(shape) != len(roles) or str(value.shape[roles.index("N")] if value.shape else "") != "N":
        return False
    if "T" in roles:
        tokens = shape[roles.index("T")]
        return tokens is not None and tokens >= layout.offset + layout.grid[0] * layout.grid[1]
    return "H" in roles and "W" in roles and (shape[roles.index("H")], shape[roles.index("W")]) == layout.grid


def _layout_of(node: ir.Node, known: list[ir.Value], found: dict[ir.Value, Layout], output: ir.Value) -> Layout | None:
    shape = dims(output)
    if node.op_type in SPATIAL_OPS and len(shape) == 4:
        height, width = shape[2:]
        source = found.get(known[0]) if known else None
        taken = source is None or source.roles == "NCHW"
        return Layout("NCHW", (height, width)) if height and width and taken else None
    if not known:
        return None
    source_value = max(known, key=lambda v: (len(dims(v)), dims(v) == shape))
    layout, before = found[source_value], dims(source_value)
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
    if role in "Cc":
        return layout
    if role in "HW":
        return _thinned(node, layout, role, before[changed[0]], shape[changed[0]])
    return _with_other_tokens(node, layout, source_value) if role == "T" else None


def _reshaped(layout: Layout, before: tuple[int | None, ...], after: tuple[int | None, ...]) -> Layout | None:
    """Axes are split and merged again; what is split off stands for channels, marked `c` until it joins them."""
    roles, grid, i = "", layout.grid, 0
    for old, new in _groups(before, after):
        mine, i = layout.roles[i : i + len(old)], i + len(old)
        if len(old) == len(new) == 1:
            roles += mine
        elif mine == "HW" and len(new) == 1:
            roles += "T"
        elif mine == "T" and tuple(new) == layout.grid and not layout.offset:
            roles += "HW"
        elif mine in ("H", "W") and len(new) == 2:
            # The outer part is the coarser place, the inner one the place within it.
            grid = (new[0] or 0, grid[1]) if mine == "H" else (grid[0], new[0] or 0)
            roles += f"{mine}c"
        elif set(mine) <= {"C", "c"}:
            roles += "C" if len(new) == 1 and mine else "c" * len(new)
        else:
            return None
    return replace(layout, roles=roles, grid=grid)


def _groups(
    before: tuple[int | None, ...], after: tuple[int | None, ...]
) -> list[tuple[tuple[int | None, ...], tuple[int | None, ...]]]:
    """The shortest stretches of axes that hold the same elements before and after; the batch stands alone."""
    groups, i, j = [], 0, 0
    while i < len(before) or j < len(after):
        a, b = i, j
        i, j = min(i + 1, len(before)), min(j + 1, len(after))
        while (left := _size(before[a:i])) != (right := _size(after[b:j])):
            if left < right and i < len(before):
                i += 1
            elif left > right and j < len(after):
                j += 1
            else:
                break
        groups.append((before[a:i], after[b:j]))
    return groups


def _size(shape: tuple[int | None, ...]) -> int:
    return int(np.prod([-1 if d is None else d for d in shape], dtype=np.int64))


def _thinned(node: ir.Node, layout: Layout, role: str, before: int | None, after: int | None) -> Layout | None:
    """Every k-th row or column is still a picture; a part of the rows is not."""
    if node.op_type != "Slice" or before is None or after is None or len(node.inputs) < 5 or node.inputs[4] is None:
        return None
    steps = node.inputs[4].const_value
    if steps is None or steps.size != 1 or -(-before // int(steps.numpy().item())) != after:
        return None
    return replace(layout, grid=(after, layout.grid[1]) if role == "H" else (layout.grid[0], after))


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
