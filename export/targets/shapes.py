"""Types and shapes of nodes of our own, which need no measuring: their inputs are known."""

from collections.abc import Iterable

import onnx
import onnx_ir as ir

from fusioncam.export.reading.file import OPSET


def infer_shapes(nodes: Iterable[ir.Node]) -> None:
    """Set the type and the shape of the outputs of nodes, one after the other, from those of their inputs."""
    for node in nodes:
        inputs = [v for v in node.inputs if v is not None]
        found = onnx.shape_inference.infer_node_outputs(
            onnx.defs.get_schema(node.op_type, OPSET, node.domain),
            ir.to_proto(node),
            {str(v.name): _type(v) for v in inputs},
            {str(v.name): ir.to_proto(v.const_value) for v in inputs if v.const_value is not None},
        )
        for output in node.outputs:
            kind = found[str(output.name)].tensor_type
            output.dtype = ir.DataType(kind.elem_type)
            sizes = [d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim]
            output.shape = ir.Shape(sizes)


def _type(value: ir.Value) -> onnx.TypeProto:
    assert value.dtype is not None
    assert value.shape is not None
    sizes = [d if isinstance(d, int) else str(d) for d in value.shape]
    return onnx.helper.make_tensor_type_proto(value.dtype.value, sizes)
