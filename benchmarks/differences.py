"""Gradients measured by differences of the function itself, in float64 where anything computes it so."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from fusioncam.errors import first_line
from fusioncam.kernels.arrays import Array

Arrays = Mapping[str, Array]
Run = Callable[[Arrays], dict[str, Any]]
Function = Callable[[Arrays], Array]

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
STASHING = ("GroupNormalization", "LayerNormalization", "RMSNormalization")  # that round to float32 inside
TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
MOST_DIRECTIONS, FEWEST_DIRECTIONS = 32, 6
SECONDS, SLOWEST = 15, 1  # for all directions after the fewest; for one run
SAME_OUTPUT = 5e-3  # relative; float16 has 11 bits


@dataclass(frozen=True)
class Reference:
    """An engine that computes an output of a model.

    Attributes:
        name: What computes it, and in which type.
        function: Returns the output for the inputs by name.
        step: Size of the first step, relative to the input's.
        tolerance: Relative error that a gradient may have beside it.
    """

    name: str
    function: Function
    step: float
    tolerance: float


@dataclass(frozen=True)
class Slopes:
    """The directional derivatives that were measured.

    Attributes:
        directions: Unit vectors, (n, size of the input).
        values: The derivative along each, (n,).
        kinks: How many further directions were left out, as the function has no derivative along them.
        rounding: Error of each value by the rounding of the outputs.
    """

    directions: Array
    values: Array
    kinks: int
    rounding: float = 0.0

    def error(self, gradient: Array) -> float:
        """Return the relative L2 error of a gradient along all directions; the absolute one where all are zero."""
        norm = float(np.linalg.norm(self.values))
        asked = np.where(self.directions.any(0), gradient.ravel(), 0)  # at the end of a domain it may be infinite
        difference = float(np.linalg.norm(self.directions @ asked - self.values))
        difference = max(difference - self.rounding * len(self.values) ** 0.5, 0.0)
        return difference / (norm if norm > 1e-6 else 1.0)


def by_onnxruntime(model: onnx.ModelProto) -> Run:
    """Return the function that runs a model with onnxruntime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs, outputs = {i.name for i in session.get_inputs()}, [o.name for o in session.get_outputs()]
    return lambda arrays: dict(
        zip(outputs, session.run(outputs, {k: v for k, v in arrays.items() if k in inputs}), strict=True)
    )


def by_onnx(model: onnx.ModelProto) -> Run:
    """Return the function that runs a model with ONNX's own implementation in NumPy."""
    evaluator = ReferenceEvaluator(model)
    inputs, outputs = {i.name for i in model.graph.input}, [o.name for o in model.graph.output]
    return lambda arrays: dict(
        zip(outputs, evaluator.run(outputs, {k: v for k, v in arrays.items() if k in inputs}), strict=True)
    )


ENGINES: dict[str, Callable[[onnx.ModelProto], Run]] = {"onnxruntime": by_onnxruntime, "onnx.reference": by_onnx}


def engine_for(model: onnx.ModelProto, inputs: Arrays) -> str:
    """Return the name of the first engine that runs a model.

    Raises:
        ValueError: None does.
    """
    errors = []
    for name, engine in ENGINES.items():
        try:
            engine(model)(inputs)
        except Exception as error:  # onnxruntime's share no base class
            errors.append(f"{name}: {first_line(error)}")
        else:
            return name
    raise ValueError("; ".join(errors))


def references(model: onnx.ModelProto, output: str, inputs: Arrays, engine: str) -> tuple[list[Reference], list[str]]:
    """Return the engines that compute an output, the most exact first, and the names of those that compute another one.

    The engine that runs the gradient is believed, in float32 or float16 as a bundle runs: what gives another output
    is left out.

    Args:
        model: The model.
        output: Name of the output.
        inputs: All inputs by name.
        engine: What runs the gradient.
    """
    kept: list[Reference] = []
    differing = []
    plain = ENGINES[engine](model)
    found = masked(plain(inputs)[output])
    wide = in_float64(model)
    for name, build in ENGINES.items():
        try:
            run, start = build(wide), time.perf_counter()
            other = masked(run(as_float64(inputs))[output])
        except Exception:  # no kernel for float64, or none at all
            continue
        if time.perf_counter() - start > SLOWEST:
            continue
        if other.dtype != np.float64:
            continue
        if other.shape == found.shape and alike(found, other):
            tolerance = 2e-3 if found.dtype == np.float32 else 2e-2
            kept.append(Reference(f"{name}, float64", _only(run, output), 1e-5, tolerance))
        else:
            differing.append(name)
    if found.dtype == np.float32:
        kept.append(Reference(f"{engine}, float32", _only(plain, output), 4e-3, 2e-2))
    return kept, differing


def _only(run: Run, output: str) -> Function:
    return lambda arrays: masked(run(arrays)[output])


def masked(output: npt.ArrayLike) -> Array:
    """Return an output with minus infinity for the lowest number, which onnxruntime writes for masked scores."""
    y = np.asarray(output)
    return np.where(y <= np.finfo(y.dtype).min, -np.inf, y).astype(y.dtype) if y.dtype.kind == "f" else y


def alike(a: Array, b: Array) -> bool:
    """Return whether two outputs are the same but for rounding."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    scale = float(np.abs(b[np.isfinite(b)]).max(initial=0))
    return bool(np.allclose(a, b, rtol=SAME_OUTPUT, atol=SAME_OUTPUT * scale, equal_nan=True))


def as_float64(arrays: Arrays) -> dict[str, Array]:
    """Return the arrays with all floating-point numbers as float64."""
    return {k: v.astype(np.float64) if v.dtype in (np.float32, np.float16) else v for k, v in arrays.items()}


def in_float64(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of a model in which every float32 and float16 is a float64."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    for function in wide.functions:
        for node in function.node:
            _widen_node(node)
    return wide


def _widen_graph(graph: onnx.GraphProto) -> None:
    del graph.value_info[:]
    for value in [*graph.input, *graph.output]:
        for tensor in (value.type.tensor_type, value.type.sequence_type.elem_type.tensor_type):
            if tensor.elem_type in FLOATS:
                tensor.elem_type = TensorProto.DOUBLE
    for initializer in graph.initializer:
        _widen_tensor(initializer)
    for node in graph.node:
        _widen_node(node)


def _widen_node(node: onnx.NodeProto) -> None:
    if node.op_type in STASHING:
        kept = [a for a in node.attribute if a.name != "stash_type"]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute("stash_type", TensorProto.DOUBLE)])
    for attribute in node.attribute:
        if attribute.name in TYPE_ATTRIBUTES and attribute.i in FLOATS:
            attribute.i = TensorProto.DOUBLE
        if attribute.HasField("t"):
            _widen_tensor(attribute.t)
        for graph in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            _widen_graph(graph)
    if node.op_type == "Constant":
        for attribute in node.attribute:
            if attribute.name in ("value_float", "value_floats"):
                one = attribute.name == "value_float"
                array = np.asarray(attribute.f if one else list(attribute.floats), np.float64)
                attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(array)))


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type in FLOATS:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def slopes(reference: Reference, inputs: Arrays, name: str, weights: Array, seed: int = 0) -> Slopes:
    """Measure derivatives of sum(output * weights) by an input, along single elements, or some if there are many.

    A direction counts as a kink where the derivatives to both sides differ and a smaller step brings them no closer.

    Args:
        reference: What computes the output.
        inputs: All inputs by name.
        name: The input to differentiate by.
        weights: Of the shape of the output; zero where that is not finite.
        seed: Chooses the directions.
    """
    wide = reference.step < 1e-4
    arrays = as_float64(inputs) if wide else dict(inputs)
    x = arrays[name].astype(np.float64)
    rng = np.random.default_rng(seed)
    chosen = np.flatnonzero(np.isfinite(x.ravel()))
    if len(chosen) > MOST_DIRECTIONS:
        chosen = rng.choice(chosen, MOST_DIRECTIONS, replace=False)

    def value(moved: Array) -> float:
        try:
            y = reference.function({**arrays, name: moved.astype(arrays[name].dtype)}).astype(np.float64)
        except Exception:  # there the engine refuses the input; onnxruntime's errors share no base class
            return math.nan
        if y.shape != weights.shape:  # a kink: the number of outputs jumps
            return math.nan
        return float((np.where(weights == 0, 0, y) * weights).sum())

    here, directions, values, kinks = value(x), [], [], 0
    start = time.perf_counter()
    for count, i in enumerate(chosen):
        if count >= FEWEST_DIRECTIONS and time.perf_counter() - start > SECONDS:
            break
        step = reference.step * max(1.0, abs(float(x.ravel()[i])))
        sides = []
        for h in (step, step / 4):
            there = [x.copy(), x.copy()]
            there[0].ravel()[i] += h
            there[1].ravel()[i] -= h
            ahead, behind = (value(t) for t in there)
            sides.append(((ahead - here) / h, (here - behind) / h))
        if not weights.all() and not np.any(sides):  # it may move nothing but outputs that are not finite
            kinks += 1
            continue
        (far, near), central = (abs(a - b) for a, b in sides), sum(sides[0]) / 2
        noise = (1e-4 if wide else 2e-2) * max(1.0, abs(central), float(np.abs(weights).max(initial=0)))
        if not np.isfinite(central) or (near > noise and near > far / 2) or abs(sum(sides[1]) / 2 - central) > noise:
            kinks += 1
            continue
        direction = np.zeros(x.size)
        direction[i] = 1
        directions.append(direction)
        values.append(central)
    rounding = float(np.finfo(np.float64 if wide else np.float32).eps) * abs(here) / reference.step
    return Slopes(np.array(directions).reshape(-1, x.size), np.array(values), kinks, rounding)
