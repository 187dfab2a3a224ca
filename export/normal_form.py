"""The normal form of a model's output: its logits or values, maps of them, or an embedding."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.batch import of_one_picture, with_any_batch
from fusioncam.export.batch.resizing import name_every_size
from fusioncam.export.class_vectors import append_classes
from fusioncam.export.endings import Make, ModelEnding, find_ending
from fusioncam.export.gradient import Ops, dims, path
from fusioncam.export.layers.layout import layouts
from fusioncam.export.layers.trace import trace
from fusioncam.export.readers import Reading, by_roles, find_map_ending, probable
from fusioncam.export.readers.boxes import (
    BoxReading,
    arrange_boxes,
    filled_up,
    join_nodes,
    refuse_inverted,
    refuse_no_scores,
)
from fusioncam.export.reading.image_input import ImageInput, free_names
from fusioncam.export.reading.load import fold
from fusioncam.export.reading.shapes import element_type, feeds_of, measure, run_all
from fusioncam.export.sessions import run
from fusioncam.export.targets.shapes import infer_shapes
from fusioncam.forms import CONFIDENCES, OF_BOX, PROTOTYPES, SCORES, SIDES
from fusioncam.kernels.arrays import Float32Array
from fusioncam.manifest import Ending

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def make_normal_form(
    model: ir.Model, reading: Reading, taken: ImageInput, wanted: Ending | None, vectors: Float32Array | None = None
) -> tuple[ir.Model, Reading, ModelEnding, int]:
    """Bring the output of a model into the normal form, free of its ending, with a free batch.

    Args:
        model: A model whose outputs are those to read, one but for detectors; it is changed.
        reading: The way to read it.
        taken: The image input.
        wanted: The ending that the user names.
        vectors: Vectors of classes, by which an embedding becomes logits, see `append_classes`.

    Returns:
        The model, the reading with the task and the order of axes that was found, the ending, and how many numbers the
        output had for a picture, or for a place of it. One becomes two classes, unless it is the value of a map.

    Raises:
        ModelError: The output holds no real numbers of the shape that the reader takes, or does not run.
    """
    batch = taken.batch
    if reading.boxes is not None:
        ending = _arrange(model, reading.boxes, taken)
    if reading.is_vector:
        ending = find_ending(model, batch or 1, wanted)
        model.graph.outputs[:] = [_batch_first(model, ending)]
        fold(model)
    in_stages = reading.boxes is not None and reading.boxes.in_stages
    model = of_one_picture(model, batch) if in_stages else with_any_batch(model, batch)
    name_every_size(model.graph)
    if reading.is_vector:
        return model, reading, ending, _set_logits(model, ending.make, reading.name)
    if reading.boxes is not None:
        _name_boxes(model, reading)
        return model, reading, ending, reading.boxes.classes
    layout = None if reading.reader.roles is None else layouts(trace(model.graph)).get(model.graph.outputs[0])
    if layout is not None:
        reading = by_roles(reading, layout.roles)
    ending = _take_off_ending(model, reading, wanted)
    numbers = _read(model, reading, ending.make)
    if vectors is not None:
        append_classes(model, vectors)
        reading = replace(reading, task="classify")
    return model, reading, ending, numbers


def _arrange(model: ir.Model, boxes: BoxReading, taken: ImageInput) -> ModelEnding:
    """Bring the tensors of a detector together in the normal form, in place of the outputs; return its ending."""
    graph = model.graph
    op, before = Ops(graph, "reader"), {v: v.shape for node in graph for v in node.outputs}
    # Each has a reader of its own, also where the source ends in it: an ending may be taken off.
    raw = [op.Cast(v, to=ir.DataType.FLOAT) if v.dtype != ir.DataType.FLOAT else op.Identity(v) for v in graph.outputs]
    prototypes = [] if boxes.prototypes is None else [raw.pop()]
    if boxes.own is not None:
        raw = [op.Identity(v) for v in boxes.own[0].nodes(op, dict(zip(boxes.names, raw, strict=True)), taken.size)[0]]
    valid = raw[len(raw) - len(boxes.cut.cut.valid) :] if boxes.cut is not None else []
    raw = raw[: len(raw) - len(valid)]
    graph.outputs[:] = raw if boxes.cut is None else [join_nodes(op, raw, boxes.cut.joint, not boxes.in_stages)]
    measured = run_all(model, feeds_of(model, taken.batch or 1))
    for value, held in measured.items():
        value.shape, value.dtype = ir.Shape(held.shape()), element_type(held.data_type())
    raw = list(graph.outputs)
    of_noise = [measured[v].numpy() for v in raw]
    refuse_no_scores(boxes, of_noise)
    refuse_inverted(boxes, of_noise, taken.size)
    detections, ending = arrange_boxes(op, raw, boxes.reader.coding, boxes.numbers, taken.size)
    if boxes.in_stages:
        coding, columns = boxes.reader.coding, SIDES + boxes.numbers
        detections = filled_up(op, detections, boxes.anchors, columns, coding, ending, valid)
    graph.outputs[:] = [detections, *prototypes]
    for value, shape in before.items():
        value.shape = shape  # that of a batch of one would hold onnxruntime to it
    fold(model)
    return ModelEnding(detections, ending, "boxes")


def _take_off_ending(model: ir.Model, reading: Reading, wanted: Ending | None) -> ModelEnding:
    """Take off what the model does after the logits of its maps; values and embeddings stay as they are."""
    output = model.graph.outputs[0]
    if reading.task != "segment":
        return ModelEnding(output, "logits", "values" if reading.task == "value" else "an embedding")
    ending = find_map_ending(output, reading.reader.classes_at, reading.argmax)
    model.graph.outputs[:] = [ending.value]
    fold(model)
    maps = run(model, feeds_of(model, 2))[0]
    return probable(ending, reading.reader.compute(maps), wanted) if maps.dtype.kind == "f" else ending


def _read(model: ir.Model, reading: Reading, make: Make | None) -> int:
    """Append the nodes of the reader, and those that make logits; return how many numbers a picture or a place has."""
    graph = model.graph
    name = "embedding" if reading.task == "embed" else "logits"
    raw = _named_output(model, reading, name)
    op, before = Ops(graph, "reader"), len(graph)
    value = raw if raw.dtype == ir.DataType.FLOAT else op.Cast(raw, to=ir.DataType.FLOAT)
    infer_shapes([*graph][before:])
    value = op.Identity(reading.reader.arrange(op, value))
    if make is not None:
        value = make(op, value)
    infer_shapes([*graph][before:])
    numbers = dims(value)[1]
    assert numbers is not None
    if numbers == 1 and reading.task == "segment":
        value = _both_ways(op, value)
        infer_shapes([*graph][-1:])
    value.name, graph.outputs[0] = name, value
    return numbers


def _named_output(model: ir.Model, reading: Reading, name: str) -> ir.Value:
    """Return the output to read, once the names of the normal form and of all tensors of targets are free."""
    raw = model.graph.outputs[0]
    _refuse_unreadable(model.graph, raw, reading.name)
    if dims(raw)[:1] != (None,) or None in dims(raw)[1:]:
        shape = ", ".join(str(d or "N") for d in dims(raw))
        raise ModelError(f"output {reading.name!r} comes from a tensor of shape ({shape}), whose batch is not in front")
    free_names(model, {name, SCORES, CONFIDENCES, "region", "peak", "reference", *(t.name for t in OF_BOX)})
    return raw


def _name_boxes(model: ir.Model, reading: Reading) -> None:
    """Give the outputs of a detector, of which the second are prototypes of masks, names of their own."""
    _named_output(model, reading, "detections")
    free_names(model, {PROTOTYPES})
    op = Ops(model.graph, "reader")
    for n, (raw, name) in enumerate(zip(list(model.graph.outputs), ("detections", PROTOTYPES), strict=False)):
        value = op.Identity(raw)
        value.name, value.type, value.shape = name, raw.type, raw.shape
        model.graph.outputs[n] = value


def _both_ways(op: Ops, z: ir.Value) -> ir.Value:
    """Return the logits -z and z of two classes, along axis 1, of which z has one."""
    signs = np.reshape([-1, 1], (1, 2, *[1] * (len(dims(z)) - 2)))
    return op.Mul(z, op.constant(signs, np.float32))


def _set_logits(model: ir.Model, make: Make | None, output_name: str) -> int:
    """Make logits of the output, two of a single one, and return the number of outputs."""
    _finish_logits(model, output_name)
    if make is not None:
        _change_logits(model, make)
    outputs = dims(model.graph.outputs[0])[1]
    assert outputs is not None
    if outputs == 1:
        _change_logits(model, _both_ways)
    return outputs


def _batch_first(model: ir.Model, ending: ModelEnding) -> ir.Value:
    """Return the tensor of the logits with its batch in front, and without -infinity."""
    value = ending.value
    if ending.floor is not None:
        op = Ops(model.graph, "floor")
        value = op.Max(value, op.constant(ending.floor))
    return value if ending.order is None else Ops(model.graph, "turned").Transpose(value, perm=ending.order)


def _finish_logits(model: ir.Model, output_name: str) -> None:
    """Give the output the shape (N, classes), the type float32 and the name `logits`."""
    graph = model.graph
    op, raw = Ops(graph, "output"), graph.outputs[0]
    sizes = [d for d in dims(raw)[1:] if d != 1]
    if dims(raw)[:1] != (None,) or len(sizes) > 1 or None in sizes:
        shape = ", ".join(str(d or "N") for d in dims(raw))
        raise ModelError(
            f"output {output_name!r} comes from a tensor of shape ({shape}), not (N, classes): no classifier"
        )
    if 0 in sizes:
        raise ModelError(f"output {output_name!r} holds no class scores: its shape is (N, 0); export the model again")
    _refuse_unreadable(graph, raw, output_name)
    classes = sizes[0] if sizes else 1
    logits = raw
    if raw.dtype != ir.DataType.FLOAT:
        logits = op.Cast(raw, to=ir.DataType.FLOAT)
        logits.shape, logits.dtype = raw.shape, ir.DataType.FLOAT
    logits = op.Identity(logits) if len(dims(raw)) == 2 else op.Reshape(logits, op.ints([-1, int(classes or 1)]))
    logits.name, logits.dtype, logits.shape = "logits", ir.DataType.FLOAT, ir.Shape(["N", classes])
    graph.outputs[0] = logits


def _refuse_unreadable(graph: ir.Graph, raw: ir.Value, output_name: str) -> None:
    """Make sure that an output is made of real numbers, all the way from the image."""
    if raw.dtype not in FLOATS:
        last = raw.producer()
        ending = last.op_type if last is not None else "a constant"
        raise ModelError(f"the model ends in {ending}: it gives integers, not scores; cut the graph before it")
    if not path(graph.inputs[0], raw):
        raise ModelError(f"output {output_name!r} has no gradient: integers or conditions lie between it and the image")


def _change_logits(model: ir.Model, make: Make) -> None:
    """Replace the output by what `make` computes from it."""
    graph = model.graph
    old, op = graph.outputs[0], Ops(graph, "ending")
    new = make(op, old)
    old.name, new.name = new.name, old.name
    graph.outputs[0] = new
    measure(model)
