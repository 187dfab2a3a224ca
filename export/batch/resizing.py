"""A Resize by the sizes of some axes becomes one by those of all, which TensorRT takes while the batch is free."""

import onnx_ir as ir

from fusioncam.export.gradient import Ops, dims

SIZES = 3  # among the inputs of Resize


def name_every_size(graph: ir.Graph) -> None:
    """Give every Resize to constant sizes of some `axes` the sizes of all axes; the batch takes its own from the shape.

    TensorRT's parser computes a negative batch of the short form. What a Resize computes does not change.
    """
    op = Ops(graph, "sizes")
    short = [node for node in graph if node.op_type == "Resize" and _by_axes(node)]
    for node in short:
        node.replace_input_with(SIZES, _every_size(op, node))
        node.attributes.pop("axes")
    if short:
        graph.sort()


def _by_axes(node: ir.Node) -> bool:
    """Return whether a Resize has constant sizes of some axes, and a batch that is free and not among them."""
    sizes = node.inputs[SIZES] if len(node.inputs) > SIZES else None
    if sizes is None or sizes.const_value is None or "axes" not in node.attributes or node.inputs[0] is None:
        return False
    stretched = node.attributes.get_string("keep_aspect_ratio_policy", "stretch") == "stretch"
    cropped = node.attributes.get_string("coordinate_transformation_mode", "") == "tf_crop_and_resize"
    free = [i for i, d in enumerate(dims(node.inputs[0])) if d is None]
    return stretched and not cropped and len(free) == 1 and free[0] not in _axes(node)


def _axes(node: ir.Node) -> list[int]:
    assert node.inputs[0] is not None
    rank = len(dims(node.inputs[0]))
    return [axis % rank for axis in node.attributes["axes"].as_ints()]


def _every_size(op: Ops, node: ir.Node) -> ir.Value:
    """Return the sizes of all axes."""
    x, sizes = node.inputs[0], node.inputs[SIZES]
    assert x is not None
    assert sizes is not None
    assert sizes.const_value is not None
    every = list(dims(x))
    batch = every.index(None)
    for axis, size in zip(_axes(node), sizes.const_value.numpy().tolist(), strict=True):
        every[axis] = size
    parts = [op.ints([d for d in some if d is not None]) for some in (every[:batch], every[batch + 1 :]) if some]
    parts.insert(1 if batch else 0, _integers(op.Shape(x, start=batch, end=batch + 1), 1))
    return _integers(op.Concat(*parts, axis=0), len(every))


def _integers(value: ir.Value, count: int) -> ir.Value:
    value.type, value.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([count])
    return value
