"""Activations that onnxruntime's optimizations would compute wrongly, written so that they leave them alone."""

import onnx_ir as ir

from fusioncam.export.gradient import Ops

# Before a QuantizeLinear to any other type onnxruntime 1.31 drops a Relu, whatever its zero point, and fails on a Clip.
SOUND = (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.UINT16, ir.DataType.INT16)


def keep_activations(model: ir.Model) -> None:
    """Write Relu and Clip before a quantisation to 4 bits or to float8 in operators that are not fused with it."""
    op = Ops(model.graph, "unfused")
    for node in list(model.graph):
        quantised = [use.node for use in (node.outputs[0].uses() if node.outputs else ()) if _narrow(use.node)]
        if quantised and node.op_type == "Relu":
            node.op_type = "LeakyRelu"
            node.attributes["alpha"] = ir.AttrFloat32("alpha", 0.0)
        elif quantised and node.op_type == "Clip":
            bounds = [*node.inputs[1:], None, None][:2]
            x = node.inputs[0]
            for operator, bound in zip((op.Max, op.Min), bounds, strict=True):
                x = x if bound is None else operator(x, bound)
            if x is not None and (last := x.producer()) is not None and x is not node.inputs[0]:
                old = node.outputs[0]
                old.replace_all_uses_with(x, replace_graph_outputs=True)
                last.outputs[0].name, old.name = old.name, None
    model.graph.sort()


def _narrow(node: ir.Node) -> bool:
    """Tell whether a node quantises to a type that onnxruntime does not look after."""
    if node.op_type != "QuantizeLinear":
        return False
    zero = node.inputs[2] if len(node.inputs) > 2 else None
    kind = zero.dtype if zero is not None else ir.DataType(node.attributes.get_int("output_dtype", 0))
    return kind not in (*SOUND, None, ir.DataType.UNDEFINED)
