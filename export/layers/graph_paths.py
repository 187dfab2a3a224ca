"""The paths from the image to the logits: tensors that all of them pass, operators before and after, forks."""

from dataclasses import dataclass

import onnx_ir as ir

from fusioncam.export.gradient import carries, operator_name, path, reads, unsupported
from fusioncam.export.layers.trace import Trace
from fusioncam.export.operators import MOVEMENT, POINTWISE, VIEWS, WEIGHTED

FORKS = 64  # joins behind which the layers of branches are sought


@dataclass(frozen=True)
class After:
    """The part of a graph between a tensor and the logits.

    Attributes:
        weighted: Whether there is a weighted operator.
        missing: The operators without a gradient rule.
        last: Place and name of the last of their nodes.
    """

    weighted: bool = False
    missing: frozenset[str] = frozenset()
    last: tuple[int, str] = (-1, "")

    def __or__(self, other: "After") -> "After":
        return After(self.weighted or other.weighted, self.missing | other.missing, max(self.last, other.last))


def after(nodes: list[ir.Node]) -> dict[ir.Value, After]:
    """Return the part of the graph after every tensor on the way to the logits; in one sweep from the end."""
    parts: dict[ir.Value, After] = {}
    for i in range(len(nodes) - 1, -1, -1):
        node = nodes[i]
        here = After(weighted=node.op_type in WEIGHTED)
        for missing in unsupported([node]):
            place = (i, str(missing.name or missing.outputs[0].name))
            here |= After(False, frozenset({operator_name(missing)}), place)
        for output in node.outputs:
            if output in parts and carries(output):
                here |= parts[output]
        for value in set(reads(node)):
            parts[value] = parts[value] | here if value in parts else here
    return parts


def depths(nodes: list[ir.Node]) -> dict[ir.Value, float]:
    """Return the share of the weighted operators that come before each tensor, 0..1."""
    order = {node: 1 << i for i, node in enumerate(n for n in nodes if n.op_type in WEIGHTED)}
    before: dict[ir.Value, int] = {}  # one bit per operator
    for node in nodes:
        bits = order.get(node, 0)
        for value in reads(node):
            bits |= before.get(value, 0)
        before.update(dict.fromkeys(node.outputs, bits))
    return {value: bits.bit_count() / max(len(order), 1) for value, bits in before.items()}


def bottlenecks(nodes: list[ir.Node], image: ir.Value, target: ir.Value) -> set[ir.Value]:
    """Return the tensors that everything on its way from image to target must pass."""
    last_use = {value: i for i, node in enumerate(nodes) for value in reads(node)}
    last_use[target] = len(nodes)
    passed, reach = set(), last_use.get(image, 0)
    for i, node in enumerate(nodes):
        alive = [o for o in node.outputs if o in last_use]
        if reach <= i and len(alive) == 1:
            passed.add(alive[0])
        reach = max(reach, *(last_use[o] for o in alive)) if alive else reach
    return passed


def narrow(nodes: list[ir.Node], trace: Trace, logits: ir.Value) -> set[ir.Value]:
    """Return the tensors of which only the class token reaches the logits, nothing that has a position."""
    users: dict[ir.Value, list[ir.Node]] = {}
    for node in nodes:
        for value in reads(node):
            users.setdefault(value, []).append(node)
    thin: set[ir.Value] = set()
    for node in reversed(nodes):
        for value in node.outputs:
            placed = value in users and value is not logits and trace.somewhere(value)
            if placed and all(_narrows(user, trace, thin) for user in users[value]):
                thin.add(value)
    return thin


def _narrows(user: ir.Node, trace: Trace, thin: set[ir.Value]) -> bool:
    moved = user.op_type in MOVEMENT or user.op_type in VIEWS
    if user in trace.mixing or not (moved or user.op_type in POINTWISE or user.op_type in WEIGHTED
                                    or user.op_type.startswith("Reduce")):  # fmt: skip
        return False
    outputs = user.outputs[:1] if user.op_type == "DynamicQuantizeLinear" else user.outputs  # its scale shows nothing
    return all(o in thin or (moved and o in trace.positions and not trace.somewhere(o)) for o in outputs if o.uses())


def branches(image: ir.Value, logits: ir.Value, usable: set[ir.Value]) -> list[ir.Value]:
    """Return the last usable tensors that together see everything: one for each way into the joins before the logits.

    Args:
        image: Where the ways begin.
        logits: Where they end.
        usable: The tensors to choose among.
    """
    layers: dict[ir.Value, None] = {}
    seen: set[ir.Value] = set()
    todo = [logits]
    while todo and len(seen) < FORKS:
        target = todo.pop()
        if target in seen or target is image:
            continue
        seen.add(target)
        nodes = path(image, target)
        passed = bottlenecks(nodes, image, target)
        last = [o for node in nodes for o in node.outputs if o in passed and o in usable]
        if last:
            layers[last[-1]] = None
        else:
            todo += _ways_in(target, image, {o for node in nodes for o in node.outputs})
    return list(layers)


def _ways_in(target: ir.Value, image: ir.Value, on_path: set[ir.Value]) -> list[ir.Value]:
    """Return the tensors that meet in the last join before `target`."""
    ways = [target]
    while len(ways) == 1 and ways[0] is not image:
        node = ways[0].producer()
        ways = [] if node is None else [v for v in dict.fromkeys(reads(node)) if v in on_path or v is image]
    return ways
