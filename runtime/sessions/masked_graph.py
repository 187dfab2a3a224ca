"""A score graph that masks its pictures itself, so that onnxruntime's threads do that work."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fusioncam.errors import BundleError, first_line, out_of_memory
from fusioncam.kernels.arrays import Array, Size
from fusioncam.kernels.masks import interpolation_matrix
from fusioncam.manifest import WEIGHTS
from fusioncam.runtime.sessions.contract import FLOAT, compare

# Inputs. The prefix keeps their names apart from those of the model's own tensors.
PICTURE, MASKS = "fusioncam.picture", "fusioncam.masks"


def masked_graph(path: Path, grids: Sequence[Size], shape: Size) -> bytes:
    """Return the score graph after nodes that compute its `image`, x * up(s).

    up(s) = U_rows s U_columns^T, linear along each axis, with half-pixel centres and clamped edges; up of one is one.
    With several grids s is zero outside of the block of one of them, see `blocks_of`.

    Args:
        path: The score graph, with a float32 input; its weights stay in their file. A graph with a cast to float16 does
            not serve: onnxruntime removes the cast, and with it the check that a picture fits.
        grids: (h, w) of the masks of each level; (l,) of a signal, (d, h, w) of a volume.
        shape: (C, H, W) of x.

    Returns:
        A model with the inputs `PICTURE`, x (1 or N, C, H, W), and `MASKS`, s (N, 1, h, w), both float32, and the
        score graph's other inputs.

    Raises:
        BundleError: The file holds no graph, or a graph with another input.
    """
    import onnx  # only here in all of runtime, and not on a GPU
    from onnx import TensorProto, helper, numpy_helper

    try:
        model = onnx.load(path, load_external_data=False)
        image = next((i for i in model.graph.input if i.name == "image"), model.graph.input[0])
        kind = TensorProto.DataType.Name(image.type.tensor_type.elem_type).lower()
        sizes = [d.dim_value or None for d in image.type.tensor_type.shape.dim]
    except Exception as error:  # protobuf's exceptions are not part of its interface
        raise out_of_memory(error) or BundleError(
            f"cannot load {path}: {first_line(error)}; export the model again"
        ) from error
    compare(path, {"image": (FLOAT, shape)}, {image.name: (f"tensor({kind})", sizes[1:])})
    weights = (path.parent / WEIGHTS).resolve()  # a link, in the caches of some hubs
    for entry in (e for tensor in model.graph.initializer for e in tensor.external_data):
        if entry.key == "location":
            entry.value = weights.name
    grids = list(dict.fromkeys(map(tuple, grids)))
    enlarged, constants = _enlarging(grids, shape[1:])
    prologue = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in enlarged]
    prologue.append(helper.make_node("Mul", [PICTURE, enlarged[-1].output], [image.name]))
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    nodes = [*prologue, *model.graph.node]
    inputs = [
        helper.make_tensor_value_info(PICTURE, TensorProto.FLOAT, ["P", *shape]),
        helper.make_tensor_value_info(MASKS, TensorProto.FLOAT, ["N", 1, *map(sum, zip(*grids, strict=True))]),
        *(i for i in model.graph.input if i.name != image.name),
    ]
    for field, entries in ((model.graph.node, nodes), (model.graph.input, inputs)):
        del field[:]
        field.extend(entries)
    return bytes(model.SerializeToString())


class _Node(NamedTuple):
    """A node of the prologue: its operator, its inputs and its output."""

    kind: str
    inputs: list[str]
    output: str


def _enlarging(grids: Sequence[Size], size: Size) -> tuple[list[_Node], dict[str, Array]]:
    """Return the nodes that enlarge the masks, the last axis first, and the constants of the nodes.

    Axes beyond the last two need a shape of their own, since MatMul has room for rows and columns.
    """
    names = ("columns", "rows", "slices")
    nodes: list[_Node] = []
    constants: dict[str, Array] = {}

    def after(kind: str, output: str, *inputs: str) -> str:
        nodes.append(_Node(kind, list(inputs), f"fusioncam.{output}"))
        return nodes[-1].output

    value = MASKS
    of_axes = reversed(list(zip(*grids, strict=True)))
    for place, (small, large) in enumerate(zip(of_axes, reversed(size), strict=True)):
        matrix = np.hstack([interpolation_matrix(n, large) for n in small]).astype(np.float32)
        name = f"fusioncam.{names[place]}"
        constants[name] = np.ascontiguousarray(matrix.T) if place == 0 else matrix
        if place == 2:
            flat, whole = (sum(small), math.prod(size[1:])), size
            constants["fusioncam.flat"], constants["fusioncam.whole"] = (
                np.array([-1, 1, *sides], np.int64) for sides in (flat, whole)
            )
            value = after("Reshape", "flattened", value, "fusioncam.flat")
        operands = (value, name) if place == 0 else (name, value)
        value = after("MatMul", ("wide", "up", "deep")[place], *operands)
        if place == 2:
            value = after("Reshape", "volume", value, "fusioncam.whole")
    return nodes, constants
