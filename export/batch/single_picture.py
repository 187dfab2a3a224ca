"""Models whose tensors are as long as a picture decides, as detectors of two stages: they take one picture at a time.

Axes that the picture decides on are told apart by a second run on the same picture, in which every search finds more or
fewer places.
"""

import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.gradient import Ops, dims
from fusioncam.export.readers.boxes.cuts.walking import after, searches
from fusioncam.export.reading.shapes import arrays, element_type, feeds_of, run_all, settle

FINDS = {"NonZero": 1, "Compress": 0, "NonMaxSuppression": 0}  # the axis of what an operator finds
FEW = 3  # places that the first search finds in the second run


def of_one_picture(model: ir.Model, batch: int | None) -> ir.Model:
    """Return a model that takes one picture, its tensors measured.

    Each axis that the picture decides on has a name of its own: onnxruntime takes axes of one name to be equally long.
    The first axis of a tensor of one picture is `N`.

    Args:
        model: A model, which is changed.
        batch: The size of the batch that its input declares, or None for any.

    Raises:
        ModelError: The model takes several pictures only, or does not run.
    """
    graph = model.graph
    if batch not in (None, 1):
        raise ModelError(f"the model takes {batch} pictures at once, and proposes boxes of each; export it for one")
    image = graph.inputs[0]
    image.shape = ir.Shape([1, *list(image.shape or ())[1:]])
    while not _measured(model):
        pass
    for value in after(graph, [image]) - {image}:
        if value.shape is not None and len(value.shape) > 2 and value.shape[0] == 1 and value.shape.is_static():
            value.shape = ir.Shape(["N", *list(value.shape)[1:]])
    output = graph.outputs[0]
    output.shape = ir.Shape(["N", *list(output.shape or ())[1:]])
    return model


def _measured(model: ir.Model) -> bool:
    """Set shapes and types of all tensors; return whether all are known, see `settle`."""
    feeds = feeds_of(model, 1)
    first = run_all(model, feeds)
    for value, held in first.items():
        value.shape, value.dtype = ir.Shape(held.shape()), element_type(held.data_type())
    others = {v.name: held for v, held in run_all(_with_others_found(model), feeds).items()}
    second = {value: others[value.name] for value in first}
    for value, held in first.items():
        pairs = enumerate(zip(held.shape(), second[value].shape(), strict=True))
        value.shape = ir.Shape([a if a == b else f"{value.name}/{axis}" for axis, (a, b) in pairs])
    image = model.graph.inputs[0]
    runs = [arrays(found) | {image: feeds[str(image.name)]} for found in (first, second)]
    return settle(model, runs)


def _with_others_found(model: ir.Model) -> ir.Model:
    """Return a copy of a model in which each search finds another number of places than the shape of its result says.

    All numbers differ: `FEW`, and one more for each further search. Where a search finds less, the first place is
    repeated.
    """
    model = model.clone()
    graph = model.graph
    op, within = Ops(graph, "others_found"), {outer: None for inner, outer in searches(graph) if inner is not outer}
    found = [(node.outputs[0], FINDS[node.op_type]) for node in graph if node.op_type in FINDS]
    for n, (value, axis) in enumerate((*found, *((o, 0) for node in within for o in node.outputs))):
        readers = [(use.node, use.idx) for use in value.uses()]
        shape = dims(value)
        count = FEW + n + len(found) * (shape[axis] == FEW + n)
        sizes = [op.ints([count]) if i == axis else op.Shape(value, start=i, end=i + 1) for i in range(len(shape))]
        zeros = op.Expand(op.CastLike(op.ints([0]), value), op.Concat(*sizes, axis=0))
        other = op.Slice(op.Concat(value, zeros, axis=axis), op.ints([0]), op.ints([count]), op.ints([axis]))
        for node, i in readers:
            node.replace_input_with(i, other)
        value.name, other.name = other.name, value.name
    graph.sort()
    return model
