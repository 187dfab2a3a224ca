"""Marks on nodes that the export adds to a model: how they are differentiated, where their rule would not do."""

import onnx_ir as ir

MARK = "fusioncam.gradient"  # in the `metadata_props` of a node
STRAIGHT, ZERO, HELD, BY_RULE = "straight", "zero", "held", "rule"


def mark(value: ir.Value, how: str) -> ir.Value:
    """Mark the node that computes a value, and return the value.

    Args:
        value: The first output of a node.
        how: `STRAIGHT` lets the gradient of the first input be that of the output (arXiv 1308.3432), `ZERO` lets none
            through, `HELD` lets none through, and stays as it is where a layer is changed, `BY_RULE` is for a node that
            only belongs to others.
    """
    node = value.producer()
    assert node is not None
    node.metadata_props[MARK] = how
    return value


def marked(node: ir.Node | None, *kinds: str) -> bool:
    """Return whether a node has one of these marks, or, where none are given, any."""
    found = None if node is None else node.metadata_props.get(MARK)
    return found is not None and (not kinds or found in kinds)
