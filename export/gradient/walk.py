"""Reverse-mode differentiation of an ONNX graph, written in ONNX operators."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import onnx_ir as ir

from fusioncam.errors import UnsupportedOperatorError
from fusioncam.export.gradient.marks import STRAIGHT, marked
from fusioncam.export.gradient.paths import between, bodies, carries, reads
from fusioncam.export.gradient.rules import BODY_RULES, RULES
from fusioncam.export.gradient.rules.flow import HOLDER
from fusioncam.export.gradient.rules.table import BodyStep, Step, unbroadcast
from fusioncam.export.gradient.tape import Ops, dims

WAY_OUT = (
    "choose a layer after that operator with --layer (`fusioncam inspect` lists them), "
    "or export with --no-gradient: Score-CAM and Recipro-CAM still work"
)


def unsupported(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Return those of `nodes`, or of the nodes in their bodies, whose operator has no gradient rule."""
    found = []
    for node in nodes:
        if (node.domain, node.op_type) in BODY_RULES:
            read = [v for v in reads(node) if carries(v) and ir.convenience.get_const_tensor(v) is None]
            for body in bodies(node):
                sources = [v for v in (*body.inputs, *read) if carries(v)]
                found += unsupported(between(body, sources, [o for o in body.outputs if carries(o)]))
        elif (node.domain, node.op_type) not in RULES:
            found.append(node)
    return found


def operator_name(node: ir.Node) -> str:
    """Return the name of the operator as a user writes it: with its domain, where that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def no_rule(node: ir.Node, why: str = "") -> UnsupportedOperatorError:
    """Return the error for a node that cannot be differentiated."""
    within = node.graph.meta.get(HOLDER, "") if node.graph is not None else ""
    return UnsupportedOperatorError(
        f"operator {operator_name(node)} (node {node.name or node.outputs[0].name!r}{within}) has no gradient rule"
        f"{': ' + why if why else ''}; {WAY_OUT}",
        operator_name(node),
    )


def backpropagate(op: Ops, output: ir.Value, seed: ir.Value, target: ir.Value) -> ir.Value:
    """Append d sum(seed * output) / d target to the graph, and return it, of the shape of `target`.

    Args:
        op: Appends the new nodes.
        output: The tensor to differentiate.
        seed: Gradient of `output`, of the same shape.
        target: The tensor to differentiate by.

    Raises:
        UnsupportedOperatorError: A node on the way has no rule, or none for this use of it.
    """
    found = gradients(op, {output: seed}, [target])
    return found[target] if target in found else op.zeros_like(target)


def gradients(op: Ops, seeds: Mapping[ir.Value, ir.Value], targets: Sequence[ir.Value]) -> dict[ir.Value, ir.Value]:
    """Append the gradients of the sum of all seed * output by some tensors, and return those that are not zero.

    Only the nodes between targets and outputs are visited, in reverse. The gradients of a tensor that feeds several
    nodes add up.

    Args:
        op: Appends the new nodes, to the graph that holds the outputs.
        seeds: The gradient of each output, of the same shape.
        targets: The tensors to differentiate by, of this graph or of those around it.

    Raises:
        UnsupportedOperatorError: As `backpropagate`.
    """
    nodes = between(op.graph, targets, seeds)
    found = dict(seeds)
    reaching = {*targets, *(o for node in nodes for o in node.outputs if carries(o))}
    for node in reversed(nodes):
        received = [found.get(o) for o in node.outputs]
        if not any(received):
            continue
        for x, gradient in _gradients(op, node, received, reaching):
            found[x] = op.Add(found[x], gradient) if x in found else gradient
    return {x: found[x] for x in targets if x in found}


def _gradients(
    op: Ops, node: ir.Node, received: list[ir.Value | None], reaching: Collection[ir.Value]
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Yield what the tensors in `reaching` that `node` reads receive through it."""
    if (rule := BODY_RULES.get((node.domain, node.op_type))) is not None:
        wanted = [v for v in dict.fromkeys(reads(node)) if v in reaching]
        try:
            yield from rule(BodyStep(op, node, received, wanted, gradients))
        except (NotImplementedError, ValueError) as error:
            raise no_rule(node, str(error)) from error
        return
    if unsupported([node]):
        raise no_rule(node)
    for i, x in enumerate(node.inputs):
        if x is not None and x in reaching and (gradient := _gradient(op, node, received, i)) is not None:
            yield x, gradient


def _gradient(op: Ops, node: ir.Node, received: list[ir.Value | None], index: int) -> ir.Value | None:
    """Return the gradient that input `index` of `node` receives through it."""
    if marked(node, STRAIGHT):
        return None if index else received[0]
    rule = RULES[node.domain, node.op_type]
    step = Step(op, node, received, index)
    if index and not rule.every_input:
        raise no_rule(node, f"its input {index} ({step.x.name!r}) depends on the layer")
    try:
        gradient = rule.gradient(step)
    except NotImplementedError as error:
        raise no_rule(node, str(error)) from error
    return unbroadcast(op, gradient, dims(step.y), step.x) if gradient is not None and rule.broadcasts else gradient
