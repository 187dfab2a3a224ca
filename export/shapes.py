"""Shapes of every tensor, measured by running the model: what is measured needs no inference to be trusted."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import onnxruntime

from fusioncam.errors import ModelError
from fusioncam.export.load import fold, one_line

Array = npt.NDArray[Any]


def session(model: ir.Model, optimize: bool = True) -> onnxruntime.InferenceSession:
    """An onnxruntime session on the CPU.

    Raises:
        ModelError: onnxruntime cannot load the model.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        data = ir.to_proto(model).SerializeToString()
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise ModelError(f"onnxruntime cannot load the model: {one_line(error)}") from error


def run(model: ir.Model, feeds: dict[str, Array]) -> list[Array]:
    """Run a model once on the CPU.

    Raises:
        ModelError: onnxruntime cannot load or run the model.
    """
    try:
        return list(session(model).run(None, feeds))
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"onnxruntime cannot run the model: {one_line(error)}") from error


def noise(model: ir.Model, batch: int, seed: int = 0) -> Array:
    """A batch of noise for the model's one input, in 0..1."""
    shape = [d if isinstance(d, int) else batch for d in model.graph.inputs[0].shape or ()]
    return np.random.default_rng(seed).random([batch, *shape[1:]], np.float32)


def record(model: ir.Model, batch: int) -> dict[ir.Value, Array]:
    """Run the model on noise and keep every tensor."""
    graph = model.graph
    values = [o for node in graph for o in node.outputs if o.name]
    kept = list(graph.outputs)
    graph.outputs.clear()
    graph.outputs.extend(values)
    try:
        feeds = {str(graph.inputs[0].name): noise(model, batch, seed=batch)}
        results = session(model, optimize=False).run(None, feeds)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"onnxruntime cannot run the model on a batch of {batch}: {one_line(error)}") from error
    finally:
        graph.outputs.clear()
        graph.outputs.extend(kept)
    return {v: r for v, r in zip(values, results, strict=True) if isinstance(r, np.ndarray)}


def measure(model: ir.Model, batches: tuple[int, ...] = (2, 3)) -> None:
    """Set shape and type of every tensor, and replace shape arithmetic by its results.

    Dimensions that grow with the batch become `N` or a multiple of it. A shape computation whose result does not
    depend on the batch becomes a constant, and so does the target of every Reshape (with -1 for the batch).

    Args:
        model: The model, with one input.
        batches: Batch sizes to run: two different ones, or the only one a fixed model takes.

    Raises:
        ModelError: onnxruntime cannot run the model on these batches.
    """
    runs = [record(model, b) for b in batches]
    for value, first in runs[0].items():
        value.shape = ir.Shape(_growing(first.shape, runs[-1][value].shape, batches))
        value.dtype = ir.DataType.from_numpy(first.dtype)
    _replace_shape_arithmetic(model, runs)
    fold(model)


def _growing(first: tuple[int, ...], last: tuple[int, ...], batches: tuple[int, ...]) -> list[int | str]:
    if len(batches) == 1:
        return list(first)
    if len(first) != len(last):
        raise ModelError(f"a tensor's rank changes with the batch ({first}, {last}); export a fixed-batch model")
    step = batches[-1] - batches[0]
    return [a if a == b else "N" if b - a == step else f"{(b - a) // step}*N" for a, b in zip(first, last, strict=True)]


def _replace_shape_arithmetic(model: ir.Model, runs: list[dict[ir.Value, Array]]) -> None:
    graph = model.graph
    of_shapes: set[ir.Value] = set()
    constants: dict[ir.Value, ir.Value] = {}

    def constant(name: str, array: Array) -> ir.Value:
        value = ir.Value(name=name, const_value=ir.tensor(array, name=name), shape=ir.Shape(array.shape))
        value.dtype = ir.DataType.from_numpy(array.dtype)
        graph.register_initializer(value)
        return value

    for node in list(graph):
        varying = [v for v in node.inputs if v is not None and v.const_value is None]
        if node.op_type in ("Shape", "Size") or (varying and all(v in of_shapes for v in varying)):
            of_shapes.update(node.outputs)
        for value in node.outputs:
            if value in of_shapes and value in runs[0] and all(_same(r[value], runs[0][value]) for r in runs):
                constants[value] = constant(f"{value.name}/measured", runs[0][value])
                value.replace_all_uses_with(constants[value])
        if node.op_type == "Reshape":
            shape = node.outputs[0].shape
            assert shape is not None
            if sum(not isinstance(d, int) for d in shape) <= 1:
                target = np.array([d if isinstance(d, int) else -1 for d in shape], np.int64)
                node.replace_input_with(1, constant(f"{node.outputs[0].name}/target", target))
                node.attributes.pop("allowzero", None)


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b))
