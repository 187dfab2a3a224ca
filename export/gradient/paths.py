"""The paths of a graph: what a node reads, what comes before, and where a gradient flows."""

import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator

import onnx_ir as ir

from fusioncam.export.gradient.loops import LOOPS, turns_of
from fusioncam.export.gradient.marks import HELD, ZERO, marked

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


def carries(value: ir.Value) -> bool:
    """Return whether a value can hold scores: it has no conditions, indices or shapes."""
    node = value.producer()
    if marked(node, ZERO, HELD):
        return False
    return value.dtype not in CARRY_NO_GRADIENT or (node is not None and node.op_type in INTEGER_PRODUCTS)


def bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs that a node holds: the branches of an If, the body of a loop."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def reads(node: ir.Node) -> list[ir.Value]:
    """Return the values that a node reads, also those of the graphs around it that are read only in its bodies."""
    values: list[ir.Value | None] = [*node.inputs]
    for body in bodies(node):
        within = {body, *body.subgraphs()}
        read = [*body.outputs, *(v for n in body.all_nodes() for v in n.inputs)]
        values += [v for v in read if v is not None and v.graph not in within]
    return [v for v in values if v is not None]


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
    return between(target.graph, [source], [target])


def between(graph: Iterable[ir.Node], sources: Collection[ir.Value], targets: Collection[ir.Value]) -> list[ir.Node]:
    """Return the nodes of a graph through which a gradient flows from any of `targets` back to any of `sources`."""
    carrying, after_source = set(sources), []
    pixels = {source for source in sources if source.is_graph_input()}
    for node in graph:
        # The bits of a real number may become one again.
        if node.op_type == "BitCast" or (node.op_type in OF_PIXELS and not pixels.isdisjoint(node.inputs)):
            pixels.update(node.outputs)
        outputs = [o for o in node.outputs if carries(o) or o in pixels]
        if outputs and not carrying.isdisjoint(reads(node)):
            carrying.update(outputs)
            after_source.append(node)
    reaching, found = set(targets), []
    for node in reversed(after_source):
        if not reaching.isdisjoint(node.outputs):
            reaching.update(carrying.intersection(reads(node)))
            found.append(node)
    return found[::-1]


def decides_for_batch(source: ir.Value, target: ir.Value) -> str | None:
    """Return the name of the first node that chooses what is computed, once for all pictures of a batch, or None.

    An If, or a Loop that ends, by what comes from the picture: other pictures of the batch would change the choice. A
    search for boxes: what is computed of them has no axis of pictures.

    Args:
        source: The picture.
        target: The output.
    """
    assert target.graph is not None
    wanted = ancestors(target)
    return next((name for name in _choices(target.graph, {source}, wanted)), None)


def _choices(
    graph: Iterable[ir.Node], varying: set[ir.Value], wanted: Collection[ir.Node] | None = None
) -> Iterator[str]:
    """Yield the names of the nodes of a graph whose condition or number of turns varies."""
    for node in graph:
        if varying.isdisjoint(reads(node)) or (wanted is not None and node not in wanted):
            continue
        varying.update(node.outputs)
        if node.op_type == "NonMaxSuppression" or is_chosen(node, varying):
            yield str(node.name or node.outputs[0].name)
        for body in bodies(node):
            yield from _choices(body, _varying_within(node, body, varying))


def is_chosen(node: ir.Node, varying: set[ir.Value]) -> bool:
    """Return whether the branch that an If takes, or the number of turns of a Loop, depends on what varies."""
    asked = {"If": node.inputs[:1], "Loop": node.inputs[:2]}.get(node.op_type, ())
    if not varying.isdisjoint(asked):
        return True
    return node.op_type == "Loop" and any(b.outputs[0] in _varying_within(node, b, varying) for b in bodies(node))


def _varying_within(node: ir.Node, body: ir.Graph, varying: set[ir.Value]) -> set[ir.Value]:
    """Return what varies in a body: what is computed from what varies, in this turn or in one before."""
    within, before = set(varying), -1
    turns = turns_of(node, body) if node.op_type in LOOPS else None
    if turns is not None:
        within.update(r.inner for r in turns.read if r.outer in varying)
    elif node.op_type != "If":
        within.update(body.inputs)
    while before != len(within):
        before = len(within)
        for inner in body:
            if not within.isdisjoint(reads(inner)):
                within.update(inner.outputs)
        if turns is not None:
            whole = zip(turns.first, turns.after, turns.states, strict=True)
            within.update(state for first, after, state in whole if first in within or after in within)
    return within


def release(node: ir.Node) -> None:
    """Let the bodies of a node that is removed read nothing: they would count as readers."""
    for within in [n for graph in bodies(node) for n in graph.all_nodes()]:
        for i in range(len(within.inputs)):
            within.replace_input_with(i, None)
