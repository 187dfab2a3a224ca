"""Zero points of an int8 graph."""

import os
from pathlib import Path

from fusioncam.errors import BundleError, first_line, out_of_memory

ZERO_POINT = 2  # the input of these operators that holds it
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")


def is_symmetric(path: Path) -> bool:
    """Return whether every zero point of a score graph is zero.

    Args:
        path: The graph.

    Raises:
        BundleError: The file holds no graph.
    """
    import onnx
    from onnx import numpy_helper

    try:
        graph = onnx.load(path, load_external_data=False).graph
        names = {n.input[ZERO_POINT] for n in graph.node if n.op_type in QUANTISERS and len(n.input) > ZERO_POINT}
        tensors = [t for t in graph.initializer if t.name in names]
        return not any(numpy_helper.to_array(t, os.fspath(path.parent.resolve())).any() for t in tensors)
    except Exception as error:  # protobuf's exceptions are not part of its interface
        raise out_of_memory(error) or BundleError(
            f"cannot load {path}: {first_line(error)}; export the model again"
        ) from error
