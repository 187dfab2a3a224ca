"""Holds the gradient of an ONNX model against torch's autograd in float64, on the same values.

Loaded by `conftest.py`, which hands its functions out as fixtures.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from fusioncam.export.gradient import Ops, backpropagate

PREFIX = "gradient"
ONNX_TYPE = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float16): TensorProto.FLOAT16}
Tensors = dict[str, np.ndarray]
At = Callable[[np.ndarray], np.ndarray]


def parse(body: str, opset: int = 18) -> onnx.ModelProto:
    """A model written in ONNX's text form; the shape that it gives its output does not matter."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}, "custom": 1]> {body}')
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    return model


def model_of(
    op: str,
    attributes: dict[str, Any],
    inputs: Sequence[Any],
    opset: int = 18,
    dtype: Any = np.float32,
    at: At = lambda x: x,
) -> onnx.ModelProto:
    """A model of one node, its inputs called x0, x1, ....

    An input is given as a tuple with "N" in it (the shape of what is fed), a tuple of ints (the shape of a random
    constant), an array, list or number (a constant), or None (left out).
    """
    rng = np.random.default_rng(0)
    dtype = np.dtype(dtype)
    fed, constants = {}, {}
    for i, given in enumerate(inputs):
        if isinstance(given, tuple) and "N" in given:
            fed[f"x{i}"] = given
        elif given is not None:
            array = at(rng.normal(size=given)) if isinstance(given, tuple) else np.asarray(given)
            array = array.astype(dtype) if array.dtype == np.float64 else array
            constants[f"x{i}"] = array
    graph = helper.make_graph(
        [
            helper.make_node(
                op, ["" if x is None else f"x{i}" for i, x in enumerate(inputs)], ["y"], "node", **attributes
            )
        ],
        "model",
        [helper.make_tensor_value_info(k, ONNX_TYPE[dtype], v) for k, v in fed.items()],
        [helper.make_tensor_value_info("y", ONNX_TYPE[dtype], None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def differentiate(model: onnx.ModelProto, target: str, checked: bool = True) -> onnx.ModelProto:
    """The model with a further input `seed` and output `dx`, the gradient of sum(seed * first output) by `target`."""
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
    graph = inferred.graph
    output = graph.outputs[0]
    if output.shape is None:  # inference knows nothing about GroupNormalization
        output.shape = graph.inputs[0].shape
    seed = ir.Value(name="seed", shape=output.shape, type=output.type)
    graph.inputs.append(seed)
    x = {v.name: v for v in [*graph.inputs, *(o for node in graph for o in node.outputs)]}[target]
    op = Ops(graph, PREFIX)
    gradient = op.Identity(backpropagate(op, output, seed, x))
    gradient.name, gradient.shape, gradient.type = "dx", x.shape, x.type
    graph.outputs.append(gradient)
    proto = ir.to_proto(inferred)
    if checked:
        onnx.checker.check_model(proto, full_check=True)
    return proto


def emitted(model: onnx.ModelProto) -> list[str]:
    """Types of the nodes that the gradient is made of, in order (without the Identity that names it)."""
    return [n.op_type for n in model.graph.node if n.name.startswith(PREFIX + "/")][:-1]


def run(model: onnx.ModelProto, feeds: Tensors) -> Tensors:
    """The outputs of the model on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    used = {i.name for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    return dict(zip(names, session.run(names, {k: v for k, v in feeds.items() if k in used}), strict=True))


def torch_gradient(
    function: Callable[..., Any], arrays: Tensors, target: str, seed: np.ndarray, dtype: torch.dtype
) -> Any:
    """Output and gradient by autograd, as arrays."""

    def tensor(array: np.ndarray) -> torch.Tensor:
        t = torch.from_numpy(np.array(array))
        return t.to(dtype) if t.is_floating_point() else t

    tensors = {k: tensor(v) for k, v in arrays.items()}
    tensors[target].requires_grad_()
    y = function(*tensors.values())
    (gradient,) = torch.autograd.grad(y, tensors[target], tensor(seed), allow_unused=True)
    return y.detach().numpy(), (torch.zeros_like(tensors[target]) if gradient is None else gradient).numpy()


def measured_gradient(model: onnx.ModelProto, arrays: Tensors, target: str, seed: np.ndarray) -> Any:
    """The same for an operator that is affine in its one input, from its response to every unit vector."""
    x = arrays[target].astype(np.float64)
    size = x[0].size
    units = np.concatenate([np.zeros((1, size)), np.eye(size)]).astype(np.float32).reshape(-1, *x.shape[1:])
    response = run(model, {target: units})["y"].astype(np.float64).reshape(size + 1, -1)
    matrix = response[1:] - response[0]
    y = (x.reshape(len(x), -1) @ matrix + response[0]).reshape(seed.shape)
    return y, (seed.astype(np.float64).reshape(len(x), -1) @ matrix.T).reshape(x.shape)


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Relative L2 distance; the absolute one from zero."""
    assert actual.shape == expected.shape
    norm = np.linalg.norm(expected)
    return float(np.linalg.norm(actual.astype(np.float64) - expected) / (norm if norm else 1))


def feed(shapes: dict[str, Any], batch: int, dtype: Any, at: At) -> Tensors:
    """Random values for the inputs of a model."""
    rng = np.random.default_rng(batch)
    sizes = {k: [batch if d == "N" else d for d in shape] for k, shape in shapes.items()}
    return {k: np.asarray(at(rng.normal(size=size))).astype(dtype) for k, size in sizes.items()}


def check(
    op: str,
    attributes: dict[str, Any],
    inputs: Sequence[Any] | None,
    function: Callable[..., Any] | None,
    *,
    wrt: int = 0,
    opset: int = 18,
    dtype: Any = np.float32,
    at: At = lambda x: x,
    checked: bool = True,
) -> onnx.ModelProto:
    """Compare a gradient with that of the torch function (None: measure it), for batches of 1 and 3.

    Args:
        op: The operator, or a whole model in text form; then the function takes its inputs alone.
        attributes: Attributes of the operator.
        inputs: Inputs of the operator, as `model_of` takes them; the function takes all of them but None.
        function: The same in torch.
        wrt: The input to differentiate by.
        opset: Version of the operator.
        dtype: Type of the numbers; float16 is held to 2 percent.
        at: Maps normally distributed numbers to where the operator is to be differentiated.
        checked: Whether ONNX's checker has to accept the result.

    Returns:
        The model with its gradient.
    """
    model = parse(op, opset) if inputs is None else model_of(op, attributes, inputs, opset, dtype, at)
    shapes = {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in model.graph.input}
    constants = {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}
    names = list(shapes) if inputs is None else [n for n in model.graph.node[0].input if n]
    target = list(shapes)[wrt] if inputs is None else f"x{wrt}"
    both = differentiate(model, target, checked)
    half = np.dtype(dtype) == np.float16
    for batch in (1, 3):
        feeds = feed(shapes, batch, dtype, at)
        values = feeds | constants
        seed = np.random.default_rng(7).normal(size=run(model, feeds)["y"].shape).astype(dtype)
        got = run(both, {**feeds, "seed": seed})
        allowed = 2e-2 if half else 1e-5
        if function is None:
            y, expected = measured_gradient(model, feeds, target, seed)
        else:
            arrays = {n: values[n] for n in names}
            y, expected = torch_gradient(function, arrays, target, seed, torch.float64)
            allowed = max(
                allowed, 3 * error(torch_gradient(function, arrays, target, seed, torch.float32)[1], expected)
            )
        assert error(got["y"], y) < (2e-2 if half else 1e-4), "the torch function is not the operator's"
        assert got["dx"].dtype == dtype
        assert np.isfinite(got["dx"]).all()
        assert error(got["dx"], expected) <= allowed, emitted(both)
    return both
