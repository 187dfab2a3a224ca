"""Windows that lie where shape inference does not expect them, written out as plain pads.

Some versions of the pools count windows that begin in the padding; with `auto_pad` and dilations, or `output_shape`,
inference has a formula of its own. onnxruntime runs such a node all the same, but refuses to load a graph in which its
output meets a tensor of the size that it really has, as in a gradient.
"""

import numpy as np
import onnx
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.gradient import Ops
from fusioncam.export.gradient.rules.pooling import shares
from fusioncam.export.gradient.rules.table import Step
from fusioncam.export.gradient.rules.windows import Window, window_of
from fusioncam.export.gradient.tape import dims

WINDOWED = ("AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool")
FORMULAS = ("auto_pad", "ceil_mode", "output_shape", "output_padding")  # what `pads` says plainly


def write_out_windows(model: ir.Model) -> None:
    """Give plain pads to every node whose output has another shape than ONNX infers; all shapes must be measured.

    Raises:
        ModelError: There are no such pads.
    """
    graph = model.graph
    for node in list(graph):
        if node.op_type in WINDOWED and not node.domain and not _agreed(node):
            try:
                _write_out(Ops(graph, "windows"), node)
                plain = _agreed(node)
            except NotImplementedError:
                plain = False
            if not plain:
                raise ModelError(
                    f"the windows of {node.op_type} (node {node.name or node.outputs[0].name!r}) lie where shape "
                    "inference does not expect them; export the model with plain `pads` for it"
                )
    graph.sort()


def _agreed(node: ir.Node) -> bool:
    """Return whether ONNX infers the measured output size from the measured inputs, if it infers any."""
    assert node.graph is not None
    schema = onnx.defs.get_schema(node.op_type, node.graph.opset_imports.get("", 18))
    types = {str(v.name): ir.to_proto(v).type for v in node.inputs if v is not None}
    try:
        types_of_outputs = onnx.shape_inference.infer_node_outputs(schema, ir.to_proto(node), types)
    except onnx.shape_inference.InferenceError:
        return True
    tensor = types_of_outputs[str(node.outputs[0].name)].tensor_type
    inferred = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    return not tensor.HasField("shape") or inferred[2:] == list(dims(node.outputs[0]))[2:]


def _write_out(op: Ops, node: ir.Node) -> None:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    step = Step(op, node, (None,), 0)
    transposed = node.op_type == "ConvTranspose"
    kernel = list(step.attribute("kernel_shape") or step.static(step.input(1), 2))
    window = window_of(step, kernel, *((y, x) if transposed else (x, y)))
    weights = shares(step, kernel) if node.op_type == "AveragePool" else None
    if window.overlooks:
        if transposed:
            raise NotImplementedError("borders that hold the bias alone")
        node.replace_input_with(0, _cut(op, x, window))
    for name in FORMULAS:
        node.attributes.pop(name, None)
    pads = window.attributes["pads"]
    if "Pool" in node.op_type and any(p >= k for p, k in zip(pads, kernel * 2, strict=True)):
        # onnxruntime refuses a border as wide as the kernel, be it dilated.
        node.replace_input_with(0, _bordered(op, node, pads))
        pads = [0] * len(pads)
    node.attributes["pads"] = ir.AttrInt64s("pads", pads)
    if transposed and any(window.unseen):
        node.attributes["output_padding"] = ir.AttrInt64s("output_padding", window.unseen)
    if weights is not None:
        ratio = weights / shares(step, kernel)
        if not (abs(ratio - 1) < 1e-6).all():
            # What the border counts for is decided by where it came from.
            scaled = op.Mul(y, step.like(ratio))
            scaled.shape, scaled.type = y.shape, y.type
            y.replace_all_uses_with(scaled, replace_graph_outputs=True)
            product = scaled.producer()
            assert product is not None
            product.replace_input_with(0, y)


def _cut(op: Ops, x: ir.Value, window: Window) -> ir.Value:
    """Return the part of `x` that any window sees."""
    sizes = [d or 0 for d in dims(x)[2:]]
    ends = [size - u for size, u in zip(sizes, window.unseen, strict=True)]
    cut = op.Slice(x, op.ints(window.before), op.ints(ends), op.ints(range(2, 2 + len(ends))))
    cut.type = x.type
    cut.shape = ir.Shape([*list(x.shape or ())[:2], *(e - b for e, b in zip(ends, window.before, strict=True))])
    return cut


def _bordered(op: Ops, node: ir.Node, pads: list[int]) -> ir.Value:
    """Return the input of a MaxPool with a border that never wins."""
    x = node.inputs[0]
    assert x is not None
    if node.op_type != "MaxPool" or x.dtype not in (ir.DataType.FLOAT, ir.DataType.FLOAT16):
        raise NotImplementedError("a border as wide as the window, which onnxruntime refuses")
    half = len(pads) // 2
    wide = op.Pad(x, op.ints([0, 0, *pads[:half], 0, 0, *pads[half:]]), op.like(-np.inf, x))
    sizes = [(d or 0) + pads[i] + pads[half + i] for i, d in enumerate(dims(x)[2:])]
    wide.type, wide.shape = x.type, ir.Shape([*list(x.shape or ())[:2], *sizes])
    return wide
