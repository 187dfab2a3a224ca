"""A float16 graph, written out as onnxruntime computes it on a CPU."""

import numpy as np
import onnx_ir as ir

from fusioncam.export.sessions import session
from fusioncam.files import temporary_folder


def widened(model: ir.Model) -> ir.Model:
    """Return the graph with a Cast to float32 and back around every operator without a float16 kernel on a CPU.

    onnxruntime adds these Casts by itself. But within a Loop it adds them too late to fold those of weights, which it
    would then cast in every turn, and convolutions whose weights are no constants are slow. So onnxruntime writes the
    graph with its Casts outside of a Loop, and weights that are cast are stored as float32.

    Args:
        model: A graph whose tensors are float16; it stays unchanged.

    Raises:
        ModelError: onnxruntime cannot load the graph.
    """
    opsets = dict(model.graph.opset_imports)
    with temporary_folder() as folder:
        path = folder / "widened.onnx"
        session(model, optimize=False, written_to=path)
        wide = ir.external_data.load_to_model(ir.load(path))
    wide.graph.opset_imports.clear()  # onnxruntime lists its own domains, used or not
    wide.graph.opset_imports.update(opsets)
    _fold_casts(wide.graph)
    return wide


def _fold_casts(graph: ir.Graph) -> None:
    """Store constants that are only cast to float32 as float32."""
    for node in list(graph):
        value = node.inputs[0] if node.op_type == "Cast" else None
        if value is None or value.const_value is None or node.attributes.get_int("to") != ir.DataType.FLOAT:
            continue
        cast = node.outputs[0]
        exact = value.const_value.numpy().astype(np.float32)
        constant = ir.Value(
            name=f"{value.name}/float32",
            type=ir.TensorType(ir.DataType.FLOAT),
            shape=ir.Shape(exact.shape),
            const_value=ir.tensor(exact),
        )
        if constant.name not in graph.initializers:
            graph.register_initializer(constant)
        cast.replace_all_uses_with(graph.initializers[str(constant.name)])
        graph.remove(node, safe=True)
    for name, value in list(graph.initializers.items()):
        if not value.uses():
            graph.initializers.pop(name)
