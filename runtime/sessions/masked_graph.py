"""A score graph that masks its pictures itself, so that onnxruntime's threads do that work."""

from pathlib import Path

import numpy as np

from fusioncam.errors import BundleError, first_line, out_of_memory
from fusioncam.kernels.masks import interpolation_matrix
from fusioncam.manifest import WEIGHTS
from fusioncam.runtime.sessions.contract import FLOAT, compare

# Inputs. The prefix keeps their names apart from those of the model's own tensors.
PICTURE, MASKS = "fusioncam.picture", "fusioncam.masks"


def masked_graph(path: Path, grid: tuple[int, int], shape: tuple[int, ...]) -> bytes:
    """Return the score graph after nodes that compute its `image`, x * up(s).

    up(s) = U_rows s U_columns^T, bilinear with half-pixel centres and clamped edges; where s is one, so is up(s).

    Args:
        path: The score graph, with a float32 input; its weights stay in their file. A graph with a cast to float16 does
            not serve: onnxruntime removes the cast, and with it the check that a picture fits.
        grid: (h, w) of s.
        shape: (C, H, W) of x.

    Returns:
        A model with the inputs `PICTURE`, x (1 or N, C, H, W), and `MASKS`, s (N, 1, h, w), both float32.

    Raises:
        BundleError: The file holds no graph, or a graph with another input.
    """
    import onnx  # only here in all of runtime, and not on a GPU
    from onnx import TensorProto, helper, numpy_helper

    try:
        model = onnx.load(path, load_external_data=False)
        (image,) = model.graph.input
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
    of_rows, of_columns = (interpolation_matrix(n, m).astype(np.float32) for n, m in zip(grid, shape[1:], strict=True))
    wide, up, rows, columns = (f"fusioncam.{name}" for name in ("wide", "up", "rows", "columns"))
    prologue = [
        helper.make_node("MatMul", [MASKS, columns], [wide]),
        helper.make_node("MatMul", [rows, wide], [up]),
        helper.make_node("Mul", [PICTURE, up], [image.name]),
    ]
    model.graph.initializer.extend(
        [numpy_helper.from_array(of_rows, rows), numpy_helper.from_array(np.ascontiguousarray(of_columns.T), columns)]
    )
    nodes = [*prologue, *model.graph.node]
    inputs = [
        helper.make_tensor_value_info(PICTURE, TensorProto.FLOAT, ["P", *shape]),
        helper.make_tensor_value_info(MASKS, TensorProto.FLOAT, ["N", 1, *grid]),
    ]
    for field, entries in ((model.graph.node, nodes), (model.graph.input, inputs)):
        del field[:]
        field.extend(entries)
    return bytes(model.SerializeToString())
