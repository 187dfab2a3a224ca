"""Softmaxes and sigmoids of onnxruntime on quantised numbers, rewritten in ONNX's own operators."""

import onnx_ir as ir

from fusioncam.export.gradient import Ops

KINDS = {"QLinearSoftmax": "Softmax", "QLinearSigmoid": "Sigmoid"}


def open_quantised(model: ir.Model) -> None:
    """Replace QLinearSoftmax and QLinearSigmoid by DequantizeLinear, the operator itself, and QuantizeLinear.

    The inputs of both are X, its scale and zero point, then those of Y.
    """
    graph = model.graph
    op = Ops(graph, "quantised")
    for node in [n for n in graph if n.op_type in KINDS]:
        x, x_scale, x_zero, y_scale, y_zero = [*node.inputs, None, None, None, None, None][:5]
        operator = getattr(op, KINDS[node.op_type])
        axis = node.attributes.get_int("axis", -1) if node.op_type == "QLinearSoftmax" else None
        inner = operator(op.DequantizeLinear(x, x_scale, x_zero), axis=axis)
        new = op.QuantizeLinear(inner, y_scale, y_zero)
        node.outputs[0].replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
    graph.sort()
