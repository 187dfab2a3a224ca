"""Reverse-mode differentiation of an ONNX graph, written in ONNX operators."""

from collections.abc import Iterable

import onnx_ir as ir

from fusioncam.errors import UnsupportedOperatorError
from fusioncam.export.gradient.rules import RULES
from fusioncam.export.gradient.rules.table import Step
from fusioncam.export.gradient.tape import Ops, dims


def ancestors(value: ir.Value) -> set[ir.Node]:
    """The nodes that `value` is computed from."""
    seen: set[ir.Node] = set()
    todo = [value.producer()]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [v.producer() for v in node.inputs if v is not None]
    return seen


def path(source: ir.Value, target: ir.Value) -> list[ir.Node]:
    """The nodes on some way from `source` to `target`, in the order of the graph."""
    assert target.graph is not None
    reaching = ancestors(target)
    carrying = {source}
    nodes = []
    for node in target.graph:
        if isinstance(node, ir.Node) and node in reaching and carrying.intersection(v for v in node.inputs if v):
            carrying.update(node.outputs)
            nodes.append(node)
    return nodes


def unsupported(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Those of `nodes` whose operator has no gradient rule."""
    return [n for n in nodes if (n.domain or "", n.op_type) not in RULES]


def no_rule(node: ir.Node, why: str = "") -> UnsupportedOperatorError:
    """The error for a node that cannot be differentiated."""
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return UnsupportedOperatorError(
        f"operator {operator} (node {node.name or node.outputs[0].name!r}) has no gradient rule"
        f"{': ' + why if why else ''}; choose a later layer with --layer (`fusioncam inspect` lists them)"
    )


def unbroadcast(op: Ops, gradient: ir.Value, output: ir.Value, x: ir.Value) -> ir.Value:
    """Sum `gradient`, of the shape of `output`, over the axes along which `x` was broadcast."""
    wide, narrow = dims(output), dims(x)
    if wide == narrow:
        return gradient
    missing = len(wide) - len(narrow)
    axes = [i for i, d in enumerate(wide) if i < missing or (narrow[i - missing] == 1 and d != 1)]
    if axes:
        gradient = op.ReduceSum(gradient, op.ints(axes), keepdims=1)
    return op.reshape_as(gradient, x) if missing else gradient


def backpropagate(op: Ops, output: ir.Value, seed: ir.Value, target: ir.Value) -> ir.Value:
    """Append d sum(seed * output) / d target to the graph.

    Only the nodes between `target` and `output` are visited, in reverse; where a tensor feeds several of them its
    gradients add up.

    Args:
        op: Where the new nodes go.
        output: The tensor to differentiate.
        seed: Gradient of `output`, of the same shape.
        target: The tensor to differentiate by.

    Returns:
        The gradient, of the shape of `target`.

    Raises:
        UnsupportedOperatorError: A node on the way has no rule, or none for this use of it.
    """
    nodes = path(target, output)
    gradients = {output: seed}
    wanted = {target, *(o for node in nodes for o in node.outputs)}
    for node in reversed(nodes):
        received = [gradients.get(o) for o in node.outputs]
        rule = RULES.get((node.domain or "", node.op_type))
        if not any(received):
            continue
        if rule is None:
            raise no_rule(node)
        for i, x in enumerate(node.inputs):
            if x is None or x not in wanted:
                continue
            try:
                gradient = rule.gradient(Step(op, node, received, i))
            except NotImplementedError as error:
                raise no_rule(node, str(error)) from error
            if gradient is None:
                continue
            if rule.broadcasts:
                gradient = unbroadcast(op, gradient, node.outputs[0], x)
            gradients[x] = op.Add(gradients[x], gradient) if x in gradients else gradient
    return gradients[target] if target in gradients else op.zeros_like(target)
