"""Models of one picture that take the axis of pictures off for a while: it is left on, so that it can be freed."""

from collections.abc import Mapping, Sequence
from typing import Any

import onnx_ir as ir

from fusioncam.export.gradient import Ops, dims
from fusioncam.export.gradient.reader import constant_of

# Operators whose operands meet number by number.
ELEMENTWISE = (
    *("Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Where", "Equal", "Greater", "Less", "And", "Or"),
    *("Identity", "Cast", "Neg", "Abs", "Exp", "Log", "Sqrt", "Floor", "Ceil", "Round", "Not", "Clip"),
    *("Sigmoid", "Tanh", "Relu", "LeakyRelu", "HardSigmoid", "HardSwish", "Softplus", "Erf"),
)
ALONG = {"Softmax": -1, "LogSoftmax": -1, "Concat": 0, "Split": 0, "Gather": 0, "ArgMax": 0}  # by `axis`, with defaults
AXES_AT = {"Squeeze": 1, "Unsqueeze": 1, "ReduceMax": 1, "ReduceSum": 1, "ReduceMean": 1, "Slice": 3}


def leave_axis_on(graph: ir.Graph) -> bool:
    """Let operators behind one that takes the axis of pictures off work with this axis in front.

    What is unknown stays as it is. The shapes of all tensors must be known, for one picture.

    Returns:
        Whether there was such an operator.
    """
    whole: dict[ir.Value, ir.Value] = {}  # tensors without the axis, with those that have it
    op, varying = Ops(graph, "one_picture"), set(graph.inputs)
    for node in list(graph):
        if varying.isdisjoint(v for v in node.inputs if v is not None):
            continue
        varying.update(node.outputs)
        within = any(v in whole for v in node.inputs)
        made = _with_axis(op, node, whole, varying) if within else _taken_off(op, node)
        for value, other in zip(node.outputs, made, strict=False):
            varying.add(other)
            if other.shape is None:
                other.shape, other.type = ir.Shape([1, *dims(value)]), value.type
            if dims(other) == dims(value):
                value.replace_all_uses_with(other, replace_graph_outputs=True)
            else:
                whole[value] = other
    graph.sort()
    return bool(whole)


def _taken_off(op: Ops, node: ir.Node) -> Sequence[ir.Value]:
    """Return what a node gives of the only picture, with its axis still in front; nothing where it does not take it."""
    x = node.inputs[0]
    if x is None or not dims(x) or dims(x)[0] != 1:
        return []
    axis, numbers = node.attributes.get_int("axis", 0), constant_of(node.inputs[1] if len(node.inputs) > 1 else None)
    if node.op_type == "Split" and axis == 0 and len(node.outputs) == 1:
        return [x]
    if numbers is None:
        return []
    if node.op_type == "Gather" and axis == 0 and numbers.ndim == 0 and int(numbers) in (0, -1):
        return [x]
    if node.op_type == "Reshape" and dims(node.outputs[0]) == dims(x)[1:]:
        return [x]
    if node.op_type == "Squeeze" and 0 in numbers % len(dims(x)):
        others = [int(a) for a in numbers % len(dims(x)) if a]
        return [op.Squeeze(x, op.ints(others)) if others else x]
    return []


def _with_axis(
    op: Ops, node: ir.Node, whole: Mapping[ir.Value, ir.Value], varying: set[ir.Value]
) -> Sequence[ir.Value]:
    """Return the outputs of a node with the axis of pictures in front; nothing where it is unknown how."""
    kind, after = node.op_type, dims(node.outputs[0])
    inputs: list[ir.Value | None] = [v if v is None else whole.get(v, v) for v in node.inputs]
    attributes: dict[str, Any] = {name: a.value for name, a in node.attributes.items()}
    first = inputs[0]
    others = [v for v in node.inputs if v is not None and v not in whole]
    met = kind in (*ELEMENTWISE, "Concat")
    if any(v in varying for v in others) or first is None or (not met and any(v in whole for v in node.inputs[1:])):
        return []
    constant = constant_of(node.inputs[1]) if len(node.inputs) > 1 else None
    in_front = kind == "Unsqueeze" and constant is not None and not constant.any()
    if after == dims(first) and (in_front or kind == "Reshape"):
        return [first]
    if kind in ELEMENTWISE:
        if any(len(dims(v)) > len(after) for v in others) or any(
            len(dims(v)) != len(after) for v in node.inputs if v is not None and v in whole
        ):
            return []
    elif kind in ALONG:
        axis = node.attributes.get_int("axis", ALONG[kind])
        attributes["axis"] = axis + (axis >= 0)
        if kind == "Concat":
            inputs = [
                v if v is None or n in whole else op.Unsqueeze(v, op.ints([0]))
                for v, n in zip(inputs, node.inputs, strict=True)
            ]
    elif kind in AXES_AT:
        axes = constant_of(node.inputs[AXES_AT[kind]]) if len(node.inputs) > AXES_AT[kind] else None
        if axes is None:
            return []
        inputs[AXES_AT[kind]] = op.ints([int(a) + (int(a) >= 0) for a in axes])
    elif kind in ("Reshape", "Flatten", "Expand"):
        kind, attributes = ("Expand" if kind == "Expand" else "Reshape"), {}
        inputs[1:] = [op.ints([1, *(d or 0 for d in after)])]
    elif kind == "Transpose":
        attributes["perm"] = [0, *(p + 1 for p in attributes["perm"])]
    elif kind == "Pad" and constant is not None and len(node.inputs) < 4:
        low, high = constant.reshape(2, -1).tolist()
        inputs[1] = op.ints([0, *low, 0, *high])
    else:
        return []
    if len(node.outputs) > 1:
        return op.many(kind, *inputs, count=len(node.outputs), **attributes)
    return [getattr(op, kind)(*inputs, **attributes)]
