"""Any batch for any model: a batch axis that is fixed, openly or only within the graph, is freed.

The result is compared with the model itself: a batch of images must give the outputs that each image gives alone.
"""

import re

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.batch.batch_axis import REMEDY
from fusioncam.export.batch.dynamic import quantise_by_image
from fusioncam.export.batch.one_picture import leave_axis_on
from fusioncam.export.batch.search import LostBatchError, free_batch
from fusioncam.export.gradient import dims
from fusioncam.export.reading.load import fold
from fusioncam.export.reading.shapes import feeds_of, measure
from fusioncam.export.row_order import in_order_of
from fusioncam.export.sessions import CannotRunError, run
from fusioncam.kernels.arrays import Array, Float64Array

# The most that the outputs for an image may differ between batches, relative to the largest: the order of sums changes,
# and a number that is rounded to few digits may fall on the other side.
EXACT, ROUNDED = 1e-3, 2e-2
# Relative to the difference of two images, so that the output of another image does not pass for rounding.
SAME_IMAGE = 0.25
QUERIES = 3  # axes of an output that may hold queries: pictures, queries, numbers
NODE = re.compile(r"(\w+) node\.? Name:'([^']+)'")


def with_any_batch(model: ir.Model, batch: int | None) -> ir.Model:
    """Return a model with a free batch axis, its tensors measured.

    Args:
        model: A model whose inputs all have a row for each picture, its only output the class scores; it is changed.
        batch: The size of the batch that its inputs declare, or None for any.

    Returns:
        The model, or one that computes the same, which takes any batch; see `measure`.

    Raises:
        ModelError: The model does not run or mixes the images of a batch, or the batch cannot be followed through it.
    """
    if batch is not None:
        _free(model, batch)
        return model
    fixed = model.clone()  # for a model whose input alone is free
    failure, mixed = None, 0.0
    try:
        rows = [_rows(o) for o in measure(model)]
        if dims(model.graph.outputs[0])[:1] == (None,):
            mixed = _off(model, rows[1][1 : len(rows[0]) + 1], rows[0])
            if mixed <= _tolerance(model) or _rounds_together(model):
                return model
    except CannotRunError as error:
        failure = error
    for value in fixed.graph.inputs:
        value.shape = ir.Shape([1, *list(value.shape or ())[1:]])
    try:
        _free(fixed, 1)
    except LostBatchError as error:
        raise _explained(error, mixed) from error
    except ModelError as error:
        raise failure or error from error
    return fixed


def _explained(error: LostBatchError, mixed: float) -> ModelError:
    """Return the error for a model that declares any batch, but takes one image at a time or mixes images."""
    if mixed:
        what = f"the model's scores of an image depend on the others of its batch (by {mixed:.1e})"
        remedy = error.remedy if error.remedy != REMEDY else "export it so that each image is scored by itself"
        return ModelError(f"{what}: {error.complaint}; {remedy}")
    return ModelError(
        f"the model takes one image at a time, whatever its input says: {error.complaint}; {error.remedy}"
    )


def _free(model: ir.Model, batch: int) -> None:
    """Free the batch axis, and compare the outputs with those before.

    Raises:
        LostBatchError: The batch cannot be followed through the graph.
        ModelError: The model does not run, before or afterwards, or its outputs change.
    """
    measure(model, batches=(batch,))
    reference = _each_alone(model, batch)
    if batch == 1 and leave_axis_on(model.graph):
        fold(model)
        measure(model, batches=(batch,))
    free_batch(model)
    try:
        measure(model)
        held = model.clone()
        quantise_by_image(held)  # as the bundle's graphs will
        freed = _rows(run(held, feeds_of(held, len(reference)))[0])
    except ModelError as error:
        named = NODE.search(str(error))
        where = f" at node {named[2]!r} ({named[1]})" if named else ""
        raise ModelError(f"with its batch axis freed the model does not run: it fails{where}; {REMEDY}") from error
    off = _off(model, freed, reference)
    others = [_difference(reference[i : i + 1], reference[:1]) for i in range(1, len(reference))]
    tolerance = _tolerance(model)
    if not off <= tolerance or (max(others) > tolerance and off > SAME_IMAGE * max(others)):
        raise ModelError(f"with its batch axis freed the model gives other logits (off by {off:.1e}); {REMEDY}")


def _each_alone(model: ir.Model, batch: int) -> Float64Array:
    """Return the outputs of the model of fixed batch for noise pictures, a row for each."""
    feeds = feeds_of(model, 2 * batch)
    halves = [run(model, {n: rows[i : i + batch] for n, rows in feeds.items()})[0] for i in (0, batch)]
    if halves[0].shape[:1] != (batch,):
        raise ModelError(f"the model makes {halves[0].shape} of a batch of {batch}; {REMEDY}")
    return np.concatenate([_rows(h) for h in halves])


def _rows(output: Array) -> Float64Array:
    return output.reshape(len(output) if output.ndim else 1, -1).astype(np.float64)


def _off(model: ir.Model, outputs: Float64Array, reference: Float64Array) -> float:
    """Return the largest difference as `_difference`; the queries of a picture that a TopK chose may change places."""
    off, shape = _difference(outputs, reference), model.graph.outputs[0].shape
    columns = shape[-1] if shape is not None and len(shape) == QUERIES else None
    if off <= _tolerance(model) or not isinstance(columns, int) or outputs.shape != reference.shape:
        return off
    if not any(node.op_type == "TopK" for node in model.graph):
        return off
    pairs = zip(*(a.reshape(len(a), -1, columns) for a in (outputs, reference)), strict=True)
    ordered = np.stack([in_order_of(rows, there).ravel() for rows, there in pairs])
    return min(off, _difference(ordered, reference))


def _difference(outputs: Float64Array, reference: Float64Array) -> float:
    """Return the largest difference, relative to the largest value; infinite where shapes differ."""
    if outputs.shape != reference.shape:
        return float("inf")
    return float(np.abs(outputs - reference).max(initial=0)) / (float(np.abs(reference).max(initial=0)) or 1.0)


def _tolerance(model: ir.Model) -> float:
    graph = model.graph
    quantised = any("QuantizeLinear" in node.op_type or "QLinear" in node.op_type for node in graph)
    half = any(v.dtype == ir.DataType.FLOAT16 for v in graph.initializers.values())
    return ROUNDED if quantised or half else EXACT


def _rounds_together(model: ir.Model) -> bool:
    """Return whether the model rounds by the range of a batch: dynamic quantisation mixes images, by design."""
    return any(node.op_type == "DynamicQuantizeLinear" for node in model.graph)
