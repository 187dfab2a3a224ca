"""The shape of every tensor, measured by running the model, so that no inference needs to be trusted."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime

from fusioncam.errors import ModelError
from fusioncam.export.gradient import Ops, bodies
from fusioncam.export.lowering import straighten
from fusioncam.export.reading.bodies import Engine, by_onnxruntime, measure_bodies
from fusioncam.export.reading.further_inputs import further_inputs
from fusioncam.export.reading.load import fold
from fusioncam.export.reading.windows import write_out_windows
from fusioncam.export.sessions import running, session
from fusioncam.further_inputs import drawn
from fusioncam.kernels.arrays import Array

BRIGHTEST = "brightest"  # in the `meta` of a model's input
QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
# Element types that onnxruntime hands to NumPy as they are.
NUMPY_TYPES = (
    *(ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BOOL, ir.DataType.STRING),
    *(ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
    *(ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64),
)
IS_RANDOM = "is random: a second run on the same picture gives other numbers; export the model in evaluation mode"
REPEATED = 1e-4  # the largest difference of two runs, relative to the largest number


def noise(model: ir.Model, batch: int, seed: int = 0) -> Array:
    """Return a batch of noise for the model's input, in 0..1; with one seed all batches begin with the same pictures.

    Every picture is darker than the one before it: outputs for even noise would hardly differ. For whole numbers they
    are as bright as the input's `meta` says.
    """
    image = model.graph.inputs[0]
    shape = [d if isinstance(d, int) else batch for d in image.shape or ()]
    brightness = image.meta.get(BRIGHTEST, 1.0) / np.arange(1, batch + 1).reshape(-1, *[1] * (len(shape) - 1))
    values = np.random.default_rng(seed).random([batch, *shape[1:]], np.float32)
    return np.asarray(values * brightness, np.float32)


def feeds_of(model: ir.Model, batch: int, seed: int = 0) -> dict[str, Array]:
    """Return noise for the picture of a model, and values for its further inputs, by the name of the input."""
    image = str(model.graph.inputs[0].name)
    return {image: noise(model, batch, seed), **drawn(further_inputs(model), batch, seed)}


def arrays(results: dict[ir.Value, onnxruntime.OrtValue]) -> dict[ir.Value, Array]:
    """Move tensors to NumPy; those of 4 bits or of 8 bits with a point, which it lacks, are dropped."""
    arrays = {}
    for value in list(results):
        result = results.pop(value)  # big tensors need not be there twice
        if element_type(result.data_type()) in NUMPY_TYPES:
            arrays[value] = result.numpy()
    return arrays


def element_type(name: str) -> ir.DataType:
    """Return the element type of a tensor by onnxruntime's name of it, such as `tensor(float8e4m3fn)`."""
    return ir.DataType[name.removeprefix("tensor(").removesuffix(")").upper()]


def run_all(model: ir.Model, feeds: Mapping[str, Array]) -> dict[ir.Value, onnxruntime.OrtValue]:
    """Run the model on a batch and keep every tensor as onnxruntime holds it."""
    graph = model.graph
    values = [o for node in graph for o in node.outputs if o.name]
    kept = list(graph.outputs)
    graph.outputs.clear()
    graph.outputs.extend(values)
    try:
        held = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in feeds.items()}
        opened = session(model, optimize=False)
        with running(len(feeds[str(graph.inputs[0].name)])):
            results = opened.run_with_ort_values(None, held)
            again = opened.run_with_ort_values([str(o.name) for o in kept if o in values], held)
    finally:
        graph.outputs.clear()
        graph.outputs.extend(kept)
    tensors = {v: r for v, r in zip(values, results, strict=True) if r.is_tensor()}
    for output, second in zip((o for o in kept if o in values), again, strict=True):
        if (
            output in tensors
            and element_type(second.data_type()) in NUMPY_TYPES
            and not repeats(tensors[output].numpy(), second.numpy())
        ):
            raise ModelError(f"output {output.name!r} {IS_RANDOM}")
    return tensors


def repeats(first: Array, second: Array, tolerance: float = REPEATED) -> bool:
    """Return whether two runs on the same input agree, up to the order of sums.

    Args:
        first: The output of one run.
        second: The output of the other, of the same shape.
        tolerance: The largest difference, relative to the largest finite one of `first`.
    """
    if first.dtype.kind not in "fc":
        return bool(np.array_equal(first, second))
    scale = float(np.abs(first[np.isfinite(first)]).max(initial=0)) or 1.0
    return bool(np.allclose(first, second, rtol=0, atol=tolerance * scale, equal_nan=True))


def measure(model: ir.Model, batches: tuple[int, ...] = (2, 3)) -> list[Array]:
    """Set shape and type of every tensor, and replace shape arithmetic by its results (see `settle`).

    Dimensions that grow with the batch become `N` or a multiple of it.

    Args:
        model: The model, whose first input is the picture.
        batches: Batch sizes to run: two different ones, or the only one a fixed model takes.

    Returns:
        The first output for batches of `noise`: the first as it is, the second with its last picture in front.

    Raises:
        ModelError: onnxruntime cannot run the model on these batches, or the output is not finite.
    """
    # Each batch has the pictures of the one before it, but in other places.
    turned = [{n: np.roll(rows, i, axis=0) for n, rows in feeds_of(model, b).items()} for i, b in enumerate(batches)]
    results = [run_all(model, feeds) for feeds in turned]
    first_output = model.graph.outputs[0]
    for value, first in results[0].items():
        value.shape = ir.Shape(_growing(first.shape(), results[-1][value].shape(), batches))
        value.dtype = element_type(first.data_type())
    for output in model.graph.outputs:
        if output.producer() is not None and output not in results[0]:
            raise ModelError(f"output {output.name!r} is no tensor (a sequence or a map); cut the graph before it")
    given = {v: str(v.name) for v in model.graph.inputs}
    runs = [
        arrays(r) | {v: f[name] for v, name in given.items() if name in f} for r, f in zip(results, turned, strict=True)
    ]
    outputs = [r.get(first_output, np.zeros(0, np.float32)) for r in runs]
    return outputs if settle(model, runs) else measure(model, batches)


def settle(model: ir.Model, runs: Sequence[dict[ir.Value, Array]], engine: Engine = by_onnxruntime) -> bool:
    """Replace shape arithmetic by its results, and write out what shape inference gets wrong.

    A shape computation whose result does not depend on the batch becomes a constant, and so does the target of every
    Reshape (with -1 for the batch).

    Args:
        model: The model; all shapes are known.
        runs: Every tensor of one or two runs, also the inputs.
        engine: Runs the bodies of branches and loops.

    Returns:
        Whether all shapes are known still: not where a branch or a loop was written out, or will be.

    Raises:
        ModelError: The output is not finite, or the windows of a pool or convolution cannot be written out.
    """
    if not all(np.isfinite(r[o]).all() for r in runs for o in model.graph.outputs if o in r):
        raise ModelError(
            "the model's output for a picture of noise is not finite; its weights are damaged, or too large"
        )
    _replace_shape_arithmetic(model, runs)
    held = _holding(model)
    fold(model)
    if straighten(model) or _holding(model) != held:
        fold(model)
        return False
    write_out_windows(model)
    if held:
        batches = tuple((*np.shape(r[model.graph.inputs[0]])[:1], 1)[0] for r in runs)
        return not measure_bodies(model, runs, lambda first, last: _growing(first, last, batches), engine)
    return True


def _holding(model: ir.Model) -> list[ir.Node]:
    """Return the nodes that hold branches or a loop's body."""
    return [node for node in model.graph if any(bodies(node))]


def _growing(first: Sequence[int], last: Sequence[int], batches: tuple[int, ...]) -> list[int | str]:
    if len(batches) == 1:
        return list(first)
    if len(first) != len(last):
        raise ModelError(f"a tensor's rank changes with the batch ({first}, {last}); export a fixed-batch model")
    step = batches[-1] - batches[0]
    return [a if a == b else "N" if b - a == step else f"{(b - a) // step}*N" for a, b in zip(first, last, strict=True)]


def _replace_shape_arithmetic(model: ir.Model, runs: Sequence[dict[ir.Value, Array]]) -> None:
    graph = model.graph
    of_shapes: set[ir.Value] = set()
    op = Ops(graph, "measured")
    for node in list(graph):
        varying = [v for v in node.inputs if v is not None and v.const_value is None]
        # Weights stay quantised: what else is made of constants alone becomes one.
        if node.op_type in ("Shape", "Size") or (
            all(v in of_shapes for v in varying) and (varying or node.op_type not in QUANTISERS)
        ):
            of_shapes.update(node.outputs)
        for value in node.outputs:
            if value in of_shapes and value in runs[0] and all(_same(r[value], runs[0][value]) for r in runs):
                value.replace_all_uses_with(op.constant(runs[0][value]), replace_graph_outputs=True)
        if node.op_type == "Gather" and _takes_all_in_order(node, runs):
            # torch writes as_strided so where it only restores the order in memory.
            node.op_type = "Reshape"
            node.attributes.pop("axis", None)
        if node.op_type == "Reshape":
            shape = node.outputs[0].shape
            assert shape is not None
            target = [d if isinstance(d, int) else -1 for d in shape]
            if target.count(-1) <= 1:
                node.replace_input_with(1, op.ints(target))
                node.attributes.pop("allowzero", None)


def _takes_all_in_order(node: ir.Node, runs: Sequence[dict[ir.Value, Array]]) -> bool:
    data, indices = node.inputs
    assert indices is not None
    for results in runs:
        picked = indices.const_value.numpy() if indices.const_value is not None else results.get(indices)
        if data not in results or picked is None:
            return False
        if not np.array_equal(picked.ravel(), np.arange(results[data].shape[node.attributes.get_int("axis", 0)])):
            return False
    return True


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.array_equal(a, b))
