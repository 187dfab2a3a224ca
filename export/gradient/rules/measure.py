"""Measuring the results of single nodes, where the formulas of an operator differ between versions."""

from collections.abc import Mapping, Sequence
from typing import Any

from onnx import TensorProto, helper, numpy_helper

from fusioncam.export.sessions import open_session
from fusioncam.kernels.arrays import Array


def run_node(op_type: str, opset: int, inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
    """Return the first output of a node, computed by onnxruntime.

    Args:
        op_type: An operator of ONNX.
        opset: The version of the operators.
        inputs: The inputs: the first float32, the others constants, None for one that is left out.
        attributes: The attributes by name.

    Raises:
        ModelError: onnxruntime cannot load the node.
    """
    names = ["" if array is None else f"input_{i}" for i, array in enumerate(inputs)]
    x, *constants = ((array, name) for array, name in zip(inputs, names, strict=True) if array is not None)
    graph = helper.make_graph(
        [helper.make_node(op_type, names, ["y"], **attributes)],
        op_type,
        [helper.make_tensor_value_info(x[1], TensorProto.FLOAT, x[0].shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(*constant) for constant in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    y: Array = open_session(model.SerializeToString()).run(None, {x[1]: x[0]})[0]
    return y
