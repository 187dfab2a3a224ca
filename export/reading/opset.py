"""The way of a graph from an older opset to a newer one: a table of changes, operator by operator.

An operator that is not in the table means the same from opset 7 on, or takes only more than before. onnx's own
converter is not used: it makes other pictures of Upsample 9 and Resize 10, drops local functions, and crashes on
damaged files.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.gradient.paths import bodies

Rule = Callable[[ir.Node], None]


def convert(graph: ir.Graph, version: int, target: int) -> list[str]:
    """Rewrite the nodes of a graph, and of the graphs within it, to opset `target`.

    Types and ranks should be known where they can be: what is made of a node whose input has none is longer.

    Args:
        graph: The graph.
        version: The opset of the nodes that do not say their own.
        target: The opset they shall be of.

    Returns:
        Names of the outputs of the nodes of this graph that were rewritten, or hold a graph with such nodes.

    Raises:
        ModelError: A node has no counterpart in the newer opset.
    """
    changed = []
    for node in list(graph):
        own = node.version or version
        node.version = None
        rules = [r for since, r in RULES.get(node.op_type, ()) if own < since <= target and node.domain == ""]
        names = [o.name for o in node.outputs if o.name]
        for rule in rules:
            rule(node)
        within = [name for graph in bodies(node) for name in convert(graph, version, target)]
        if rules or within:
            changed += names
    return changed


def _before(node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
    """Put a node before `node`; returns its output."""
    made = ir.node(op_type, inputs, attributes=attributes)
    assert node.graph is not None
    node.graph.insert_before(node, made)
    return made.outputs[0]


def _constant(node: ir.Node, array: Any, dtype: Any = np.int64) -> ir.Value:
    """Put a constant before `node`; returns it."""
    return _before(node, "Constant", [], value=ir.tensor(np.asarray(array, dtype)))


def _set_input(node: ir.Node, position: int, value: ir.Value | None) -> None:
    if len(node.inputs) <= position:
        node.resize_inputs(position + 1)
    node.replace_input_with(position, value)


def _to_inputs(
    node: ir.Node, *, names: Sequence[str], shape: Sequence[int] | None = None, like_data: Sequence[str] = ()
) -> None:
    """Turn attributes into inputs, in this order, after the first.

    Args:
        node: The node.
        names: The attributes.
        shape: The shape that a single number has as an input.
        like_data: Those of the attributes that have the element type of the first input.
    """
    for position, name in enumerate(names, 1):
        if (attribute := node.attributes.pop(name, None)) is None:
            continue
        if name not in like_data:
            made = _constant(node, attribute.value if shape is None else np.reshape(attribute.value, shape))
        else:
            made = _typed(node, attribute.value)
        _set_input(node, position, made)


def _typed(node: ir.Node, value: Any) -> ir.Value:
    """Return a scalar of the element type of the node's first input."""
    data = node.inputs[0]
    assert data is not None
    if data.dtype is not None:
        return _constant(node, value, data.dtype.numpy())
    return _before(node, "CastLike", [_constant(node, value, np.float32), data])


def _number_outputs(node: ir.Node) -> None:
    """Say of a Split into equal parts how many there are."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _along_last_axis(node: ir.Node) -> None:
    """Rewrite Softmax and its like: up to opset 12 over all axes from `axis` on together, since then over one."""
    axis = node.attributes.get_int("axis", 1)
    data, old = node.inputs[0], node.outputs[0]
    assert data is not None
    assert node.graph is not None
    shape = data.shape
    if shape is not None:
        axis %= max(len(shape), 1)
        if all(d == 1 for d in shape[axis + 1 :]):
            node.attributes["axis"] = ir.AttrInt64("axis", axis)
            return
    elif axis == -1:
        return
    flat = _before(node, "Flatten", [data], axis=axis)
    node.replace_input_with(0, flat)
    node.attributes["axis"] = ir.AttrInt64("axis", -1)
    whole = _before(node, "Shape", [data])
    back = ir.node("Reshape", [old, whole])
    node.graph.insert_after(node, back)
    _take_place(old, back.outputs[0], back)


def _take_place(old: ir.Value, new: ir.Value, reader: ir.Node) -> None:
    """Let what reads `old` read `new`, by the name of `old`; `reader` goes on as it is."""
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    reader.replace_input_with(0, old)
    old.name, new.name = None, old.name
    new.type, new.shape, old.shape = old.type, old.shape, None


def _asymmetric(node: ir.Node) -> None:
    """Rewrite Upsample and Resize 10: output pixel i is input pixel i / scale, rounded towards zero.

    Where an axis shrinks onnxruntime rounds up. An axis that grows is resized by itself then.
    """
    scales = node.inputs[1]
    node.op_type = "Resize"
    mode = node.attributes.get_string("mode", "nearest")
    node.attributes["mode"] = ir.AttrString("mode", "linear" if mode in ("linear", "bilinear") else mode)
    node.attributes["coordinate_transformation_mode"] = ir.AttrString("coordinate_transformation_mode", "asymmetric")
    tensor = None if scales is None else ir.convenience.get_const_tensor(scales)
    factors = None if tensor is None else tensor.numpy()
    if mode == "nearest":
        shrinks = factors is not None and bool((factors < 1).any())
        if factors is not None and shrinks and (factors > 1).any():
            grown = _constant(node, np.maximum(factors, 1), np.float32)
            attributes = {k: a.value for k, a in node.attributes.items()}
            larger = _before(node, "Resize", [node.inputs[0], None, grown], **attributes, nearest_mode="floor")
            node.replace_input_with(0, larger)
            scales = _constant(node, np.minimum(factors, 1), np.float32)
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", "ceil" if shrinks else "floor")
    _set_input(node, 1, None)
    _set_input(node, 2, scales)


def _scales_to_input(node: ir.Node) -> None:
    scales = node.attributes.pop("scales", None)
    if scales is None:
        _refuse(node, "has no scales")
    _set_input(node, 1, _constant(node, scales.value, np.float32))


def _drop_ratio(node: ir.Node) -> None:
    """Drop an attribute that has no effect any more."""
    node.attributes.pop("ratio", None)


def _inference_outputs(node: ir.Node) -> None:
    """Drop the other outputs of BatchNormalization, which before opset 14 were those of training."""
    used = [o for o in node.outputs[1:] if o.uses() or o.is_graph_output()]
    if used:
        _refuse(node, "is in training mode; export the model in evaluation mode")
    node.resize_outputs(1)


def _spatial_only(node: ir.Node) -> None:
    """Write out a BatchNormalization that has a scale, bias, mean and variance for each pixel (spatial = 0)."""
    spatial = node.attributes.pop("spatial", None)
    if spatial is None or spatial.as_int() == 1:
        return
    x, scale, bias, mean, variance = node.inputs
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    assert variance is not None
    constant = _constant(node, epsilon, np.float32 if variance.dtype is None else variance.dtype.numpy())
    slope = _before(node, "Div", [scale, _before(node, "Sqrt", [_before(node, "Add", [variance, constant])])])
    scaled = _before(node, "Mul", [_before(node, "Sub", [x, mean]), slope])
    _inference_outputs(node)
    node.op_type = "Add"
    node.attributes.clear()
    node.resize_inputs(2)
    _set_input(node, 0, scaled)
    _set_input(node, 1, bias)


def _scales_by_channel(node: ir.Node) -> None:
    """Repeat the scales and biases of GroupNormalization 18, of which each group has one, for each channel."""
    groups = node.attributes.get_int("num_groups")
    channels = _before(node, "Shape", [node.inputs[0]], start=1, end=2)
    each = _before(node, "Div", [channels, _constant(node, [groups])])
    shape = _before(node, "Concat", [_constant(node, [groups]), each], axis=0)
    for position in (1, 2):
        column = _before(node, "Unsqueeze", [node.inputs[position], _constant(node, [1])])
        spread = _before(node, "Expand", [column, shape])
        _set_input(node, position, _before(node, "Reshape", [spread, _constant(node, [-1])]))


def _rename(node: ir.Node, op_type: str) -> None:
    """Give an operator the name that it has now."""
    node.op_type = op_type


def _spell_out(node: ir.Node, name: str, usual: str, renamed: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write an attribute whose default or whose values changed."""
    value = node.attributes.get_string(name, usual)
    node.attributes[name] = ir.AttrString(name, renamed.get(value, value))


def _refuse(node: ir.Node, why: str) -> NoReturn:
    """Refuse a node that cannot be rewritten."""
    raise ModelError(f"node {node.name or node.outputs[0].name!r} ({node.op_type}) {why}")


def _dft_axis(node: ir.Node) -> None:
    _set_input(node, 2, _constant(node, node.attributes.pop("axis").as_int() if "axis" in node.attributes else 1))


def _scan_rows(node: ir.Node) -> None:
    """Write Scan 8, which runs for each row of the batch by itself, as a Scan over the rows of a newer Scan."""
    if node.inputs[0] is not None:
        _refuse(node, _LENGTHS)
    body, given = node.attributes["body"].as_graph(), [*node.inputs[1:]]
    attributes: dict[str, Any] = {"num_scan_inputs": node.attributes["num_scan_inputs"].as_int(), "body": body}
    if "directions" in node.attributes:
        attributes["scan_input_directions"] = node.attributes.pop("directions").as_ints()
    name = node.name or node.outputs[0].name
    rows = [ir.Value(name=f"{name}/row_{i}", type=v.type) for i, v in enumerate(body.inputs)]
    inner = ir.node("Scan", rows, attributes=attributes, num_outputs=len(node.outputs), name=f"{name}/row", version=9)
    for i, output in enumerate(inner.outputs):
        output.name, output.type = f"{name}/of_row_{i}", body.outputs[i].type
    for i, value in enumerate(given):
        node.replace_input_with(i, value)
    node.resize_inputs(len(given))
    node.attributes["body"] = ir.AttrGraph("body", ir.Graph(rows, inner.outputs, nodes=[inner], name=f"{name}/rows"))
    node.attributes["num_scan_inputs"] = ir.AttrInt64("num_scan_inputs", len(given))


_LENGTHS = "takes sequence lengths, which newer opsets do not have; export the model again"
_AXES = partial(_to_inputs, names=("axes",))
_GRID_MODES = partial(_spell_out, name="mode", usual="bilinear", renamed={"bilinear": "linear", "bicubic": "cubic"})
_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

# The changes of each operator, in order: the opset that brought a change, and the rule that rewrites a node.
RULES: dict[str, tuple[tuple[int, Rule], ...]] = {
    "BatchNormalization": ((9, _spatial_only), (14, _inference_outputs)),
    "Clip": ((11, partial(_to_inputs, names=("min", "max"), like_data=("min", "max"))),),
    "DFT": ((20, _dft_axis),),
    "Dropout": ((12, _drop_ratio),),
    "GridSample": ((20, _GRID_MODES),),
    "GroupNormalization": ((21, _scales_by_channel),),
    "Hardmax": ((13, _along_last_axis),),
    "LogSoftmax": ((13, _along_last_axis),),
    "Pad": ((11, partial(_to_inputs, names=("pads", "value"), like_data=("value",))),),
    "ReduceSum": ((13, _AXES),),
    **{f"Reduce{kind}": ((18, _AXES),) for kind in _REDUCTIONS},
    "Resize": ((11, _asymmetric),),
    "RoiAlign": ((16, partial(_spell_out, name="coordinate_transformation_mode", usual="output_half_pixel")),),
    "Scan": ((9, _scan_rows),),
    "Scatter": ((11, partial(_rename, op_type="ScatterElements")),),
    "Slice": ((10, partial(_to_inputs, names=("starts", "ends", "axes"))),),
    "Softmax": ((13, _along_last_axis),),
    "Split": ((13, partial(_to_inputs, names=("split",))), (18, _number_outputs)),
    "Squeeze": ((13, _AXES),),
    "TopK": ((10, partial(_to_inputs, names=("k",), shape=(1,))),),
    "Unsqueeze": ((13, _AXES),),
    "Upsample": ((9, _scales_to_input), (10, _asymmetric)),
}
