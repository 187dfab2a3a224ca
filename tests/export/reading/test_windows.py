"""Nodes whose output has another shape than is inferred: the bundle's graphs load, and their gradient is right."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as fn

from fusioncam.errors import ModelError
from fusioncam.export.gradient import Ops, backpropagate
from fusioncam.export.reading.shapes import measure
from fusioncam.export.reading.windows import write_out_windows


def measured(op, attributes, shape=(2, 10), opset=18, weights=None):
    """The graph of y = f(v) + v with v = tanh(op(x)), whose gradient reads v, shapes measured."""
    inputs = ["x"] if weights is None else ["x", "w"]
    nodes = [
        onnx.helper.make_node(op, inputs, ["u"], "node", **attributes),
        onnx.helper.make_node("Tanh", ["u"], ["v"]),
        onnx.helper.make_node("ThresholdedRelu", ["v"], ["t"], alpha=-0.2),
        onnx.helper.make_node("Add", ["t", "v"], ["y"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "model",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", *shape])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [] if weights is None else [onnx.numpy_helper.from_array(weights, "w")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10)
    model = ir.from_proto(model)
    measure(model)
    return model


def gradient(model, x, seed):
    """The output and its gradient, by onnxruntime with all optimisations."""
    graph = model.graph
    image, y = graph.inputs[0], graph.outputs[0]
    given = ir.Value(name="seed", shape=y.shape, type=y.type)
    graph.inputs.append(given)
    dx = Ops(graph, "gradient").Identity(backpropagate(Ops(graph, "gradient"), y, given, image))
    dx.name, dx.shape, dx.type = "dx", image.shape, image.type
    graph.outputs.append(dx)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    return session.run([y.name, "dx"], {"x": x, "seed": seed})


def padded(pool, begin, end, value=-torch.inf):
    return lambda x: pool(fn.pad(x, (begin, end), value=value))


def largest(begin, end, kernel, stride=1, dilation=1):
    return padded(lambda x: fn.max_pool1d(x, kernel, stride, 0, dilation), begin, end)


def mean_inside(begin, end, kernel, stride):
    pool = lambda x: fn.avg_pool1d(fn.pad(x, (begin, end)), kernel, stride)  # noqa: E731
    return lambda x: pool(x) / pool(torch.ones_like(x))


SAME = {"auto_pad": "SAME_LOWER", "strides": [1]}
KERNEL = np.random.default_rng(3).normal(size=(2, 3, 3)).astype(np.float32)
TRANSPOSED = torch.from_numpy(KERNEL).double()
CASES = {
    # Windows that begin in the padding: the last one is not computed.
    "max-ceil": ("MaxPool", {"kernel_shape": [2], "strides": [4], "ceil_mode": 1, "pads": [1, 1]}, largest(1, 0, 2, 4)),
    "max-ceil-small": ("MaxPool", {"kernel_shape": [1], "strides": [3], "ceil_mode": 1}, largest(0, 0, 1, 3), (2, 9)),
    "max-ceil-2": ("MaxPool", {"kernel_shape": [2], "strides": [3], "ceil_mode": 1}, largest(0, 0, 2, 3), (2, 9)),
    "mean-ceil": (
        *("AveragePool", {"kernel_shape": [2], "strides": [4], "ceil_mode": 1, "pads": [1, 1]}),
        mean_inside(1, 0, 2, 4),
    ),
    "mean-ceil-counted": (
        *("AveragePool", {"kernel_shape": [3], "strides": [3], "ceil_mode": 1, "pads": [2, 2], "count_include_pad": 1}),
        *(padded(lambda x: fn.avg_pool1d(x, 3, 3), 2, 0, 0), (2, 4)),
    ),
    # onnxruntime computes the padding of SAME as if there were no dilations.
    "max-same": ("MaxPool", {"kernel_shape": [2], "dilations": [3], **SAME}, largest(1, 0, 2, dilation=3)),
    "max-same-3": ("MaxPool", {"kernel_shape": [3], "dilations": [2], **SAME}, largest(1, 1, 3, dilation=2)),
    "max-same-upper": (
        *("MaxPool", {"kernel_shape": [3], "dilations": [2], "strides": [3], "auto_pad": "SAME_UPPER"}),
        *(largest(1, 1, 3, 3, 2), (2, 7)),
    ),
    "max-ceil-dilated": (
        *("MaxPool", {"kernel_shape": [2], "strides": [3], "dilations": [3], "ceil_mode": 1, "pads": [1, 1]}),
        *(largest(1, 2, 2, 3, 3), (2, 7)),
    ),
    # Less than the input is inferred not at all.
    "transposed-crop": (
        *("ConvTranspose", {"output_shape": [8], "strides": [1]}),
        *(lambda x: fn.conv_transpose1d(x, TRANSPOSED)[..., 2:-2], (2, 10), 18, KERNEL),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_gradient(case):
    op, attributes, function, *more = case
    model = measured(op, attributes, *more)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, *(more[0] if more else (2, 10)))).astype(np.float32)
    wide = torch.from_numpy(x).double().requires_grad_()
    v = function(wide).tanh()
    y = torch.where(v > -0.2, v, 0) + v
    seed = rng.normal(size=y.shape).astype(np.float32)
    (expected,) = torch.autograd.grad(y, wide, torch.from_numpy(seed).double())
    got = gradient(model, x, seed)
    np.testing.assert_allclose(got[0], y.detach(), atol=1e-5)
    np.testing.assert_allclose(got[1], expected, atol=1e-5)


def test_what_is_inferred_right_stays_as_it_is():
    model = measured("MaxPool", {"kernel_shape": [3], "strides": [2], "auto_pad": "SAME_UPPER"})
    node = model.graph[0]
    assert node.attributes["auto_pad"].value == "SAME_UPPER"
    assert "pads" not in node.attributes


def test_windows_that_plain_pads_cannot_say_are_refused():
    attributes = {"kernel_shape": [3], "strides": [4], "dilations": [5], "auto_pad": "SAME_LOWER"}
    with pytest.raises(ModelError, match=r"the windows of AveragePool \(node 'node'\) lie where"):
        measured("AveragePool", attributes, (2, 8), 22)


def test_measuring_twice_changes_nothing_more():
    model = measured("MaxPool", {"kernel_shape": [2], "strides": [3], "ceil_mode": 1}, (2, 9))
    before = len(model.graph)
    write_out_windows(model)
    assert len(model.graph) == before
