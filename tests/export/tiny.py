"""A small classifier written by hand, in the many forms in which model files come.

Loaded by `conftest.py`, which hands it out as a fixture.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5


def _weights(channels, keep_axes, dtype):
    """The tensors w1, w2, w3 and b3."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.5, (4, channels, 3, 3)),
        "w2": rng.normal(0, 0.5, (6, 4, 3, 3)),
        "w3": rng.normal(0, 1, (CLASSES, 6, 1, 1) if keep_axes else (6, CLASSES)),
        "b3": rng.normal(0, 0.1, CLASSES),
    }
    numpy_type = helper.tensor_dtype_to_np_dtype(dtype)
    return [numpy_helper.from_array(v.astype(numpy_type), k) for k, v in weights.items()]


def _layer_nodes(x, conv, relu, operator):
    """Conv, Relu, `operator` if there is one, Conv, Relu and the pool, from the tensor `x` on."""
    second = "extra" if operator else "r1"
    return [
        helper.make_node("Conv", [x, "w1"], ["c1"], conv, pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        *([helper.make_node(operator, ["r1"], ["extra"], "odd")] if operator else []),
        helper.make_node("Conv", [second, "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1], strides=[2, 1]),
        helper.make_node("Relu", ["c2"], [relu], "relu2"),
        helper.make_node("GlobalAveragePool", [relu], ["pool"]),
    ]


def _ending_nodes(stages, last, output):
    """Operators one after the other, from the tensor `last` to `output`."""
    for i, stage in enumerate(stages):
        kind, attributes = stage if isinstance(stage, tuple) else (stage, {})
        after = output if i == len(stages) - 1 else f"stage{i}"
        yield helper.make_node(kind, [last], [after], f"ending{i}", **attributes)
        last = after


def classifier(
    *,
    batch="N",
    size=(8, 6),
    channels=3,
    channels_last=False,
    dtype=TensorProto.FLOAT,
    input_type=None,
    ending=(),
    keep_axes=False,
    opset=18,
    ir_version=8,
    names=("image", "conv", "relu", "scores"),
    weights_as_inputs=False,
    operator=None,
):
    """Conv, Relu, Conv, Relu, global average pool, fully connected layer; then the operators of `ending`.

    Args:
        batch: Size of the batch axis, or its name.
        size: (H, W) of the input.
        channels: Of the input.
        channels_last: Whether the input is (N, H, W, C).
        dtype: Of the weights.
        input_type: Of the input, where it is another one.
        ending: Types of the operators after the logits, or (type, attributes).
        keep_axes: The classifier is a 1x1 convolution, and the output has four axes.
        opset: Of the file.
        ir_version: Of the file.
        names: Of the input, the first convolution, the last activation and the output.
        weights_as_inputs: Whether the weights are listed among the inputs too, as up to IR 3.
        operator: Type of an operator put between the first Relu and the second Conv.
    """
    image, conv, relu, output = names
    nodes, x = [], image
    if input_type is not None:
        nodes.append(helper.make_node("Cast", [x], ["cast"], to=dtype))
        x = "cast"
    if channels_last:
        nodes.append(helper.make_node("Transpose", [x], ["nchw"], perm=[0, 3, 1, 2]))
        x = "nchw"
    nodes += _layer_nodes(x, conv, relu, operator)
    stages = [*ending]
    last = f"raw{len(stages)}" if stages else output
    if keep_axes:
        nodes.append(helper.make_node("Conv", ["pool", "w3", "b3"], [last], "classifier"))
    else:
        nodes.append(helper.make_node("Flatten", ["pool"], ["flat"]))
        nodes.append(helper.make_node("Gemm", ["flat", "w3", "b3"], [last], "classifier"))
    nodes += _ending_nodes(stages, last, output)
    shape = (batch, *size, channels) if channels_last else (batch, channels, *size)
    inputs = [helper.make_tensor_value_info(image, input_type or dtype, shape)]
    tensors = _weights(channels, keep_axes, dtype)
    if weights_as_inputs:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    outputs = [helper.make_tensor_value_info(output, dtype, None)]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def save(path, **options):
    """Write `classifier(**options)`; returns the path."""
    onnx.save(classifier(**options), path)
    return path
