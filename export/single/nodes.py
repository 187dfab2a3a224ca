"""Whole graphs put into another."""

import hashlib
from collections.abc import Mapping

import onnx_ir as ir


def put_into(
    graph: ir.Graph,
    model: ir.Model,
    prefix: str,
    inputs: Mapping[str, ir.Value],
    known: Mapping[bytes, ir.Value] | None = None,
) -> dict[str, ir.Value]:
    """Move the nodes of a model to the end of a graph, and return the outputs of the model by name.

    Args:
        graph: The graph that the nodes are moved to.
        model: The model; it is used up.
        prefix: The first part of every new name, so that none collides with another.
        inputs: Values in place of the inputs of the model, by name.
        known: Constants of this graph or one around it, by `content`, in place of equal constants of the model.
    """
    source = model.graph
    outputs = {str(v.name): v for v in source.outputs}
    source.outputs.clear()
    for value in source.inputs:
        value.replace_all_uses_with(inputs[str(value.name)])
    source.inputs.clear()
    forget_shapes(source)
    _rename(source, prefix)
    constants, nodes = list(source.initializers.values()), list(source)
    source.initializers.clear()
    source.remove(nodes)
    graph.extend(nodes)
    for value in constants:
        if known and (same := known.get(content(value))) is not None:
            value.replace_all_uses_with(same)
        else:
            graph.register_initializer(value)
    return outputs


def forget_shapes(graph: ir.Graph) -> None:
    """Drop the shapes of all results of nodes: they are for another batch."""
    for value in (o for node in graph.all_nodes() for o in node.outputs):
        value.shape = value.type = None


def _rename(graph: ir.Graph, prefix: str) -> None:
    """Put a prefix before all names of nodes and values."""
    values = [v for g in (graph, *graph.subgraphs()) for v in (*g.inputs, *g.initializers.values())]
    for node in graph.all_nodes():
        values += node.outputs
        if node.name:
            node.name = f"{prefix}/{node.name}"
    for value in values:
        if value.name:
            value.name = f"{prefix}/{value.name}"


def content(value: ir.Value) -> bytes:
    """Return a digest of the type, shape and numbers of a constant."""
    tensor = value.const_value
    assert tensor is not None
    digest = hashlib.sha256(b"%d %s " % (tensor.dtype, repr(tuple(tensor.shape)).encode()))
    digest.update(tensor.tobytes())
    return digest.digest()


def constants_of(graph: ir.Graph) -> dict[bytes, ir.Value]:
    """Return the constants of a graph by `content`."""
    return {content(v): v for v in graph.initializers.values()}
