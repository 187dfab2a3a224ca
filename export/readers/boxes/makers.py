"""The operator that makes the first numbers of a tensor: found through what only moves them."""

import onnx_ir as ir

MOVING = ("Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Concat")


def first_maker(value: ir.Value) -> str:
    """Return the type of the operator that makes the first numbers of a tensor; "" for an input or a constant."""
    while (node := value.producer()) is not None and node.op_type in MOVING and node.inputs[0] is not None:
        value = node.inputs[0]
    return "" if node is None else node.op_type
