"""What other tools make of a model file: onnx-simplifier, quantisers, onnxruntime's own optimizations.

Loaded by `conftest.py`, which hands them out as a fixture.
"""

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic


def _insert(model, nodes):
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def flattened_products(model):
    """MatMul with weights on tokens becomes Reshape, Gemm, Reshape, as onnx-simplifier writes it."""
    shapes = {v.name: v for v in onnx.shape_inference.infer_shapes(model).graph.value_info}
    weights = {t.name: t for t in model.graph.initializer}
    nodes = []
    for i, node in enumerate(model.graph.node):
        value = shapes.get(node.input[0]) if node.op_type == "MatMul" else None
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim] if value is not None else []
        if node.input[-1] not in weights or len(dims) != 3 or not dims[1]:  # one axis is the batch's, the first
            nodes.append(node)
            continue
        wide = weights[node.input[1]].dims[1]
        for name, shape in ((f"rows{i}", [-1, dims[2]]), (f"tokens{i}", [-1, dims[1], wide])):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(shape, np.int64), name))
        nodes += [
            helper.make_node("Reshape", [node.input[0], f"rows{i}"], [f"flat{i}"]),
            helper.make_node("Gemm", [f"flat{i}", node.input[1]], [f"product{i}"]),
            helper.make_node("Reshape", [f"product{i}", f"tokens{i}"], [*node.output]),
        ]
    _insert(model, nodes)
    return model


def quantised_pairs(model, operators=("MatMul", "Add", "LayerNormalization", "Conv", "Gemm", "Concat", "Gelu")):
    """QuantizeLinear and DequantizeLinear after every operator of `operators`."""
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0.05), "step"))
    model.graph.initializer.append(numpy_helper.from_array(np.int8(0), "zero"))
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    reals, nodes = {v.name for v in inferred if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}, []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type in operators and node.output[0] in reals:
            name = node.output[0]
            node.output[0] = f"{name}/float"
            nodes.append(helper.make_node("QuantizeLinear", [node.output[0], "step", "zero"], [f"{name}/bytes"]))
            nodes.append(helper.make_node("DequantizeLinear", [f"{name}/bytes", "step", "zero"], [name]))
    _insert(model, nodes)
    return model


def dynamic(source, target):
    """Dynamic quantisation by onnxruntime: DynamicQuantizeLinear, ConvInteger, MatMulInteger."""
    model = onnx.load(source)
    del model.graph.value_info[:]  # the quantiser transposes Gemm's weights and trips over their old shapes
    quantize_dynamic(model, target, weight_type=QuantType.QUInt8, op_types_to_quantize=["Conv", "MatMul", "Gemm"])
    return target


def optimised(source, target):
    """The file that onnxruntime writes after its own fusions."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return target
