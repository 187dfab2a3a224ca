"""The table of lowerings, and the call that a lowering works with."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from fusioncam.export.gradient.paths import bodies
from fusioncam.export.gradient.reader import NodeReader
from fusioncam.export.gradient.tape import Ops

Lowering = Callable[["Call"], ir.Value | Sequence[ir.Value | None] | None]

LOWERINGS: dict[tuple[str, str], Lowering] = {}


@dataclass(frozen=True)
class Call(NodeReader):
    """A node that is lowered.

    Attributes:
        op: Appends the new nodes to the graph of the node.
        node: The node. Types and shapes of its inputs may be unknown.
    """

    op: Ops
    node: ir.Node

    def others(self, *names: str) -> dict[str, Any]:
        """Return the values of the node's attributes, by name, but for some."""
        return {k: a.value for k, a in self.node.attributes.items() if k not in names}

    def known_rank(self, i: int) -> int | None:
        """Return the number of axes of input `i`, or None where it is unknown."""
        shape = self.input(i).shape
        return None if shape is None else len(shape)

    def used(self, i: int) -> bool:
        """Return whether something reads output `i`."""
        outputs = self.node.outputs
        return len(outputs) > i and (bool(outputs[i].uses()) or outputs[i].is_graph_output())


def lowering(*op_types: str, domain: str = "") -> Callable[[Lowering], Lowering]:
    """Return a decorator that enters a function into the table as the lowering of `op_types` in a domain.

    The function appends nodes and returns the new outputs in order, None for one that is not used; or None instead of
    them all, where the node stays as it is.
    """

    def enter(function: Lowering) -> Lowering:
        for op_type in op_types:
            LOWERINGS[domain, op_type] = function
        return function

    return enter


def apply(model: ir.Model, only: Collection[str] | None = None) -> list[str]:
    """Lower the nodes that have a row in the table; returns names of the tensors of the main graph that are new.

    Args:
        model: The model.
        only: Types of the operators to lower; by default all.
    """
    writers: dict[int, Ops] = {}
    names: list[str] = []
    computed = main_outputs(model)
    for node in [*model.graph.all_nodes()]:
        graph = node.graph
        if only is not None and node.op_type not in only:
            continue
        if (node.domain, node.op_type) not in LOWERINGS or not isinstance(graph, ir.Graph):
            continue
        op = writers.setdefault(id(graph), Ops(graph, f"lowered_{len(writers)}" if writers else "lowered"))
        found = LOWERINGS[node.domain, node.op_type](Call(op, node))
        if found is None:
            continue
        replace(node, [found] if isinstance(found, ir.Value) else found)
        names += computed[node]
    for op in writers.values():
        op.graph.sort()
    return names


def main_outputs(model: ir.Model) -> dict[ir.Node, list[str]]:
    """Return the names of the tensors of the main graph that each node computes: within a branch, those of its If."""
    found: dict[ir.Node, list[str]] = {}
    for node in model.graph:
        names = [str(o.name) for o in node.outputs if o.name]
        found |= dict.fromkeys([node, *(inner for body in bodies(node) for inner in body.all_nodes())], names)
    return found


def replace(node: ir.Node, outputs: Sequence[ir.Value | None]) -> None:
    """Let new values take the place of a node's outputs, by their names, and remove the node."""
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    for old, new in zip(node.outputs, outputs, strict=False):
        if new is None:
            continue
        if new.producer() is None or new in node.inputs:  # a graph's input or constant keeps its name
            copy = ir.node("Identity", [new])
            graph.append(copy)
            new = copy.outputs[0]
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, new.shape, new.type = old.name, new.shape or old.shape, new.type or old.type
        old.name = None
    graph.remove(node, safe=True)
