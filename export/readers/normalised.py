"""The L2 normalisation that closes many embeddings: a vector divided by its own length."""

import onnx_ir as ir

from fusioncam.export.endings.tail import before_views
from fusioncam.export.gradient import ancestors

# Operators between a vector and its length: a norm, what keeps it from zero, and its way back to the vector's shape.
NORMS = ("ReduceL2", "Sqrt")
AROUND = (
    *NORMS,
    *("Clip", "Max", "Add", "Expand", "Reshape", "Unsqueeze", "Cast", "Identity", "Reciprocal", "Pow", "Mul", "Abs"),
    *("ReduceSum", "ReduceSumSquare", "Shape", "Where", "Equal", "ConstantOfShape"),
)


def ends_normalised(value: ir.Value) -> bool:
    """Return whether a tensor is x / |x|, as far as operators tell: an L2 normalisation closes it."""
    node = before_views(value).producer()
    if node is None:
        return False
    if node.op_type == "LpNormalization":
        return node.attributes.get_int("p", 2) == 2
    if node.op_type not in ("Div", "Mul") or len(node.inputs) != 2:
        return False
    for x, length in (tuple(node.inputs), tuple(node.inputs)[::-1])[: 1 if node.op_type == "Div" else 2]:
        if x is None or length is None or x.const_value is not None:
            continue
        between = ancestors(length) - ancestors(x)
        kinds = {n.op_type for n in between}
        if between and kinds <= {*AROUND} and kinds & {*NORMS} and any(x in n.inputs for n in between):
            return True
    return False
