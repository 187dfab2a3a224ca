"""The Sigmoid that closes some columns of a tensor: found through what only moves them, and taken off."""

import onnx_ir as ir

from fusioncam.export.gradient import dims

KEEPING = ("Identity", "Cast")


def take_off_sigmoid(value: ir.Value, axis: int, start: int, stop: int) -> bool:
    """Take off the Sigmoid that makes the columns `start` to `stop` of a tensor along an axis, and no others.

    Returns:
        Whether there was one; else the graph is as before.
    """
    found = _source(value, axis, start, stop)
    node = found.producer() if found is not None else None
    if found is None or node is None or node.op_type != "Sigmoid" or len(found.uses()) != 1:
        return False
    (x,) = node.inputs
    assert x is not None
    if found.is_graph_output():
        return False
    found.replace_all_uses_with(x)
    return True


def _source(value: ir.Value, axis: int, start: int, stop: int) -> ir.Value | None:
    """Return the tensor whose columns are these and no others; None where they are made of several tensors."""
    while (node := value.producer()) is not None:
        kind = node.op_type
        if kind in KEEPING and node.inputs[0] is not None:
            value = node.inputs[0]
        elif kind == "Transpose" and node.inputs[0] is not None:
            axis, value = node.attributes["perm"].as_ints()[axis], node.inputs[0]
        elif kind == "Concat" and node.attributes["axis"].as_int() % len(dims(value)) == axis:
            part = _part(node, axis, start, stop)
            if part is None:
                return None
            value, start, stop = part
        else:
            break
    return value if start == 0 and stop == dims(value)[axis] else None


def _part(concat: ir.Node, axis: int, start: int, stop: int) -> tuple[ir.Value, int, int] | None:
    """Return the input of a Concat that holds columns, and their place in it; None where several hold them."""
    first = 0
    for each in concat.inputs:
        assert each is not None
        size = dims(each)[axis]
        if size is None:
            return None
        if first <= start and stop <= first + size:
            return each, start - first, stop - first
        first += size
    return None
