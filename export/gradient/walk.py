"""Reverse-mode differentiation of an ONNX graph, written in ONNX operators."""

import math
from collections import deque
from collections.abc import Collection, Iterable

import onnx_ir as ir

from fusioncam.errors import UnsupportedOperatorError
from fusioncam.export.gradient.rules import RULES
from fusioncam.export.gradient.rules.table import Step, unbroadcast
from fusioncam.export.gradient.tape import Ops, dims

# Conditions, indices and shapes. Integers of 8 bits are not among them: those are quantised numbers.
CARRY_NO_GRADIENT = {
    *(ir.DataType.BOOL, ir.DataType.STRING),
    *(ir.DataType.INT32, ir.DataType.INT64, ir.DataType.UINT32, ir.DataType.UINT64),
}

# Operators that integer pixels pass before they become real numbers.
OF_PIXELS = (
    *("Add", "Cast", "Clip", "Concat", "Expand", "Flatten", "Gather", "Identity", "Max", "Min", "Mul", "Pad"),
    *("Reshape", "Resize", "Round", "Slice", "Split", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
)

# Operators whose integers of 32 bits are sums of products, no indices.
INTEGER_PRODUCTS = ("ConvInteger", "MatMulInteger")

WAY_OUT = (
    "choose a layer after that operator with --layer (`fusioncam inspect` lists them), "
    "or export with --no-gradient: Score-CAM and Recipro-CAM still work"
)


def carries(value: ir.Value) -> bool:
    """Return whether a value can hold scores: it has no conditions, indices or shapes."""
    node = value.producer()
    return value.dtype not in CARRY_NO_GRADIENT or (node is not None and node.op_type in INTEGER_PRODUCTS)


def reads(node: ir.Node) -> list[ir.Value]:
    """Return the values of its graph that a node reads, also those read only within a branch or a loop."""
    values = [*node.inputs]
    for attribute in node.attributes.values():
        bodies = {ir.AttributeType.GRAPH: [attribute.value], ir.AttributeType.GRAPHS: attribute.value}
        for body in bodies.get(attribute.type, ()):
            values += [*body.outputs, *(v for n in ir.traversal.RecursiveGraphIterator(body) for v in n.inputs)]
    return [v for v in values if v is not None and v.graph is node.graph]


def ancestors(value: ir.Value, ends: Collection[str] = (), most: float = math.inf) -> set[ir.Node]:
    """Return the nodes that `value` is computed from, the nearest where there are more than `most`.

    Args:
        value: A tensor.
        ends: Operators whose inputs are not followed.
        most: The number of nodes at which the search ends.
    """
    nodes: set[ir.Node] = set()
    todo = deque([value])
    while todo and len(nodes) < most:
        node = todo.popleft().producer()
        if node is not None and node not in nodes:
            nodes.add(node)
            todo += reads(node) if node.op_type not in ends else []
    return nodes


def path(source: ir.Value, target: ir.Value) -> list[ir.Node]:
    """Return the nodes through which a gradient flows from `target` back to `source`, in the order of the graph."""
    assert target.graph is not None
    carrying, after_source = {source}, []
    pixels = {source} if source.is_graph_input() else set()
    for node in target.graph:
        if node.op_type in OF_PIXELS and not pixels.isdisjoint(node.inputs):
            pixels.update(node.outputs)
        outputs = [o for o in node.outputs if carries(o) or o in pixels]
        if outputs and not carrying.isdisjoint(reads(node)):
            carrying.update(outputs)
            after_source.append(node)
    reaching, between = {target}, []
    for node in reversed(after_source):
        if not reaching.isdisjoint(node.outputs):
            reaching.update(carrying.intersection(reads(node)))
            between.append(node)
    return between[::-1]


def decides_for_batch(nodes: Iterable[ir.Node]) -> str | None:
    """Return the name of the first node that chooses what is computed, once for all pictures of a batch, or None."""
    return next((str(n.name or n.outputs[0].name) for n in nodes if n.op_type in ("If", "Loop")), None)


def unsupported(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Return those of `nodes` whose operator has no gradient rule."""
    return [n for n in nodes if (n.domain, n.op_type) not in RULES]


def operator_name(node: ir.Node) -> str:
    """Return the name of the operator as a user writes it: with its domain, where that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def no_rule(node: ir.Node, why: str = "") -> UnsupportedOperatorError:
    """Return the error for a node that cannot be differentiated."""
    return UnsupportedOperatorError(
        f"operator {operator_name(node)} (node {node.name or node.outputs[0].name!r}) has no gradient rule"
        f"{': ' + why if why else ''}; {WAY_OUT}"
    )


def backpropagate(op: Ops, output: ir.Value, seed: ir.Value, target: ir.Value) -> ir.Value:
    """Append d sum(seed * output) / d target to the graph, and return it, of the shape of `target`.

    Only the nodes between `target` and `output` are visited, in reverse. The gradients of a tensor that feeds several
    nodes add up.

    Args:
        op: Appends the new nodes.
        output: The tensor to differentiate.
        seed: Gradient of `output`, of the same shape.
        target: The tensor to differentiate by.

    Raises:
        UnsupportedOperatorError: A node on the way has no rule, or none for this use of it.
    """
    nodes = path(target, output)
    gradients = {output: seed}
    reaching = {target, *(o for node in nodes for o in node.outputs if carries(o))}
    for node in reversed(nodes):
        received = [gradients.get(o) for o in node.outputs]
        if not any(received):
            continue
        if unsupported([node]):
            raise no_rule(node)
        for i, x in enumerate(node.inputs):
            gradient = _gradient(op, node, received, i) if x in reaching else None
            if x is not None and gradient is not None:
                gradients[x] = op.Add(gradients[x], gradient) if x in gradients else gradient
    return gradients[target] if target in gradients else op.zeros_like(target)


def _gradient(op: Ops, node: ir.Node, received: list[ir.Value | None], index: int) -> ir.Value | None:
    """Return the gradient that input `index` of `node` receives through it."""
    rule = RULES[node.domain, node.op_type]
    step = Step(op, node, received, index)
    if index and not rule.every_input:
        raise no_rule(node, f"its input {index} ({step.x.name!r}) depends on the layer")
    try:
        gradient = rule.gradient(step)
    except NotImplementedError as error:
        raise no_rule(node, str(error)) from error
    return unbroadcast(op, gradient, dims(step.y), step.x) if gradient is not None and rule.broadcasts else gradient
