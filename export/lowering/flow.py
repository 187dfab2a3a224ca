"""Control flow whose course is known: short loops are written out, sequences and optionals followed to their parts."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.loops import number_of_turns, turns_of
from fusioncam.export.gradient.paths import release
from fusioncam.export.gradient.reader import constant_of
from fusioncam.export.gradient.tape import Ops
from fusioncam.export.lowering.table import Call, lowering, main_outputs, replace

# Written out is a loop of at most so many turns, and so many nodes in all of them together.
MOST_TURNS, MOST_NODES = 16, 512
LONGEST = 64  # parts of a sequence
SEQUENCE_OPERATORS = (
    *("SequenceAt", "SequenceLength", "ConcatFromSequence", "SplitToSequence"),
    *("OptionalGetElement", "OptionalHasElement"),
)


def state_conditions(model: ir.Model) -> None:
    """Give Loops without a condition the one that always holds: TensorRT's parser wants what their bodies read."""
    op = Ops(model.graph, "always")
    for node in [*model.graph.all_nodes()]:
        if not node.domain and node.op_type == "Loop" and node.inputs[1] is None:
            node.replace_input_with(1, op.constant(True))


def unroll(model: ir.Model) -> list[str]:
    """Write out the Loops and Scans of a few turns or none, also those within bodies.

    Args:
        model: A model whose constants are initializers of the main graph. It is changed, and wants to be folded.

    Returns:
        Names of the tensors of the main graph that are computed in another way now.
    """
    names: list[str] = []
    computed = main_outputs(model)
    for node in [*model.graph.all_nodes()]:
        graph, count = node.graph, number_of_turns(node)
        if not isinstance(graph, ir.Graph) or count is None or count > MOST_TURNS:
            continue
        if count < 1 and any(_is_used(w.outer) for w in turns_of(node, node.attributes["body"].as_graph()).written):
            continue  # of rows that nobody wrote, the shape is not known
        size = sum(1 for _ in node.attributes["body"].as_graph().all_nodes())
        if size * count <= MOST_NODES:
            names += computed[node]
            _write_out(node, graph, count)
            graph.sort()
            return names + unroll(model)  # what its body held is new
    return names


def _is_used(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _write_out(node: ir.Node, graph: ir.Graph, count: int) -> None:
    """Put the turns of a loop in its place, one after the other."""
    body = node.attributes["body"].as_graph()
    op = Ops(graph, f"{node.name}/turns")
    outside = turns_of(node, body)
    states, rows = [*outside.first], [[] for _ in outside.written]  # type: list[ir.Value], list[list[ir.Value]]
    slices = [_slices(op, r.outer, r.axis, count)[:: -1 if r.backward else 1] for r in outside.read]
    counters = [op.constant(np.arange(count, dtype=np.int64)[i]) for i in range(count)]
    for i in range(count):
        turn = body.clone(allow_outer_scope_values=True)
        for inner in (turn, *turn.subgraphs()):
            _rename(inner, f"{node.name}/turn_{i}")
        known = [counters[i], op.constant(True)] if outside.counters else []
        for value in [*turn.initializers.values()]:
            own = op.constant(value.const_value.numpy()) if value.const_value is not None else value
            value.replace_all_uses_with(own, replace_graph_outputs=True)
        for old, new in zip(turn.inputs, [*known, *states, *(s[i] for s in slices)], strict=True):
            old.replace_all_uses_with(new, replace_graph_outputs=True)
        inside = turns_of(node, turn)
        states = [*inside.after]
        for row, written in zip(rows, inside.written, strict=True):
            row.append(written.inner)
        turn.outputs.clear()
        nodes = [*turn]
        turn.remove(nodes)
        graph.insert_before(node, nodes)
    joined = [
        _joined(op, row[:: -1 if w.backward else 1], w.axis) if row else None
        for row, w in zip(rows, outside.written, strict=True)
    ]
    release(node)
    replace(node, [v and op.Identity(v) for v in (*states, *joined)])


def _rename(graph: ir.Graph, prefix: str) -> None:
    for node in graph:
        node.name = f"{prefix}/{node.name}"
        for value in node.outputs:
            value.name = f"{prefix}/{value.name}" if value.name else value.name


def _slices(op: Ops, value: ir.Value, axis: int, count: int) -> list[ir.Value]:
    parts = op.many("Split", value, op.ints([1] * count), count=count, axis=axis) if count > 1 else [value]
    return [op.Squeeze(part, op.ints([axis])) for part in parts]


def _joined(op: Ops, parts: Sequence[ir.Value], axis: int) -> ir.Value:
    return op.Concat(*(op.Unsqueeze(part, op.ints([axis])) for part in parts), axis=axis)


def parts_of(value: ir.Value | None) -> list[ir.Value] | None:
    """Return the tensors of a sequence, or None where they are not known."""
    node = None if value is None else value.producer()
    if node is None or node.domain or node.op_type not in SEQUENCES:
        return None
    return SEQUENCES[node.op_type](node)


def _inserted(node: ir.Node) -> list[ir.Value] | None:
    parts, new = parts_of(node.inputs[0]), node.inputs[1]
    at = _position(node, 2, parts, len(parts or ()), 1)
    if parts is None or at is None or new is None:
        return None
    return [*parts[:at], new, *parts[at:]]


def _erased(node: ir.Node) -> list[ir.Value] | None:
    parts = parts_of(node.inputs[0])
    at = _position(node, 1, parts, -1)
    return None if parts is None or at is None else [*parts[:at], *parts[at + 1 :]]


def _position(node: ir.Node, i: int, parts: Sequence[ir.Value] | None, usual: int, more: int = 0) -> int | None:
    """Return the place in a sequence that input `i` names, counted from the front, or None where it is not known."""
    if parts is None:
        return None
    given = len(node.inputs) > i and node.inputs[i] is not None
    known = constant_of(node.inputs[i]) if given else np.asarray(usual)
    if known is None:
        return None
    at = int(known.item())
    at += len(parts) if at < 0 else 0
    return at if 0 <= at < len(parts) + more else None


SEQUENCES: dict[str, Callable[[ir.Node], list[ir.Value] | None]] = {
    "SequenceConstruct": lambda node: [v for v in node.inputs if v is not None],
    "SequenceEmpty": lambda node: [],
    "SequenceInsert": _inserted,
    "SequenceErase": _erased,
    **dict.fromkeys(("Identity", "Optional", "OptionalGetElement"), lambda node: parts_of(node.inputs[0])),
}


@lowering("SequenceAt")
def _at(call: Call) -> ir.Value | None:
    parts = parts_of(call.input(0))
    at = _position(call.node, 1, parts, 0)
    return None if parts is None or at is None else call.op.Identity(parts[at])


@lowering("SequenceLength")
def _length(call: Call) -> ir.Value | None:
    parts = parts_of(call.input(0))
    return None if parts is None else call.op.Identity(call.op.constant(len(parts), np.int64))


@lowering("ConcatFromSequence")
def _concat(call: Call) -> ir.Value | None:
    parts, axis = parts_of(call.input(0)), int(call.attribute("axis"))
    if not parts:
        return None
    return _joined(call.op, parts, axis) if call.attribute("new_axis", 0) else call.op.Concat(*parts, axis=axis)


@lowering("SplitToSequence")
def _split(call: Call) -> ir.Value | None:
    """Return a SequenceConstruct of the parts, where their number is known."""
    op, data, axis = call.op, call.input(0), int(call.attribute("axis", 0))
    size = data.shape[axis] if data.shape is not None else None
    one_by_one = not call.has(1)
    sizes = np.asarray(1) if one_by_one else call.constant(1)
    if sizes is not None and sizes.ndim == 0 and isinstance(size, int):
        step = int(sizes)
        sizes = np.asarray([min(step, size - i) for i in range(0, size, step)])
    if sizes is None or sizes.ndim == 0 or not 1 <= len(sizes) <= LONGEST:
        return None
    several = len(sizes) > 1
    parts = op.many("Split", data, op.ints(sizes.tolist()), count=len(sizes), axis=axis) if several else [data]
    if one_by_one and not call.attribute("keepdims", 1):
        parts = [op.Squeeze(part, op.ints([axis])) for part in parts]
    return op.SequenceConstruct(*parts)


@lowering("OptionalGetElement")
def _element(call: Call) -> ir.Value | None:
    """Return what an optional holds; from opset 18 on a tensor or a sequence is one that holds itself."""
    source = call.input(0).producer()
    if source is not None and source.op_type == "Optional" and source.inputs and source.inputs[0] is not None:
        return call.op.Identity(source.inputs[0])
    return None if _optional(call.input(0)) else call.op.Identity(call.input(0))


@lowering("OptionalHasElement")
def _has_element(call: Call) -> ir.Value | None:
    source = call.input(0).producer() if call.has(0) else None
    if source is not None and source.op_type == "Optional":
        return call.op.Identity(call.op.constant(bool(source.inputs)))
    if call.has(0) and _optional(call.input(0)):
        return None
    return call.op.Identity(call.op.constant(call.has(0)))


def _optional(value: ir.Value) -> bool:
    """Return whether a value may be an optional, as far as is known."""
    return value.type is None or isinstance(value.type, ir.OptionalType)
