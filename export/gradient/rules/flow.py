"""Rules of If, Loop and Scan: the gradient of a body is appended to a copy of it.

A branch is computed again in the gradient's If. Of a loop every turn's state is kept (a tape); the gradient is a Scan
from the last turn to the first, which computes each turn again and differentiates it.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.loops import Series, Turns, number_of_turns, turns_of
from fusioncam.export.gradient.paths import between, carries, release
from fusioncam.export.gradient.rules.table import BODY_RULES, BodyStep
from fusioncam.export.gradient.tape import Ops, subgraph

HOLDER = "holder"  # in the `meta` of a copied body: the node that holds it, in words
Pairs = Iterator[tuple[ir.Value, ir.Value]]


def _copy(node: ir.Node, body: ir.Graph, name: str) -> ir.Graph:
    """Return a copy of a body for the gradient of its node, whose tensors have names of their own."""
    copy = body.clone(allow_outer_scope_values=True)
    copy.name = name
    where = body.meta.get(HOLDER, "")
    for graph in (copy, *copy.subgraphs()):
        graph.meta[HOLDER] = f", in {node.op_type} {str(node.name or node.outputs[0].name)!r}{where}"
        for inner in graph:
            inner.name = inner.name or inner.outputs[0].name  # for errors, before the outputs are renamed
        for value in (*graph.inputs, *(o for n in graph for o in n.outputs)):
            value.name = f"{name}/{value.name}" if value.name else value.name
    return copy


def _finish(body: ir.Graph, op: Ops, outputs: Iterable[ir.Value]) -> None:
    """Give a body other outputs, each a tensor of its own, and drop what they do not need."""
    body.outputs.clear()
    for value in outputs:
        own = value.producer() is not None and value.graph is body and value not in body.outputs
        body.outputs.append(value if own else op.Identity(value))
    for node in reversed([*body]):
        if not any(o.uses() or o.is_graph_output() for o in node.outputs):
            release(node)
            body.remove(node, safe=True)


def _total(op: Ops, pairs: Iterable[tuple[ir.Value, ir.Value | None]]) -> dict[ir.Value, ir.Value]:
    """Return the sum of the gradients of each tensor."""
    total: dict[ir.Value, ir.Value] = {}
    for value, gradient in pairs:
        if gradient is not None:
            total[value] = op.Add(total[value], gradient) if value in total else gradient
    return total


def _if(s: BodyStep) -> Pairs:
    """Yield the outputs of an If on the same condition, whose branches give the gradients of the branches."""
    name = s.op.name("If")
    branches = {}
    for which in ("then_branch", "else_branch"):
        branch = _copy(s.node, s.node.attributes[which].as_graph(), f"{name}/{which}")
        op = Ops(branch, branch.name or name, s.op)
        found = s.walk(op, _total(op, zip(branch.outputs, s.received, strict=True)), s.wanted)
        _finish(branch, op, [found[v] if v in found else op.zeros_like(v) for v in s.wanted])
        branches[which] = branch
    outputs = s.op.many("If", s.input(0), count=len(s.wanted), **branches)
    yield from zip(s.wanted, outputs, strict=True)


def _turned(s: BodyStep) -> Pairs:
    """Yield the outputs of a Scan from the last turn to the first."""
    forward = s.node.attributes["body"].as_graph()
    name = s.op.name("Scan")
    body = _copy(s.node, forward, name)
    op = Ops(body, name, s.op)
    turns, inside = turns_of(s.node, forward), turns_of(s.node, body)
    if number_of_turns(s.node) is None and s.node.op_type == "Loop" and any(s.received[len(turns.last) :]):
        raise NotImplementedError("the picture decides how many rows it writes")
    active = _active(s, inside, body)
    for i in active:
        if inside.states[i].shape is None or inside.states[i].shape != inside.after[i].shape:
            raise NotImplementedError(f"its state {turns.states[i].name!r} changes its shape from turn to turn")

    def like(value: ir.Value) -> ir.Value:
        return ir.Value(name=op.name("of"), type=value.type)

    carried = {i: like(inside.states[i]) for i in active}
    slices = [
        (Series(dy, like(w.inner), w.axis, w.backward), w.inner)
        for w, dy in zip(inside.written, s.received[len(turns.last) :], strict=True)
        if dy is not None
    ]
    seeds = _total(op, [*((inside.after[i], g) for i, g in carried.items()), *((w, dy.inner) for dy, w in slices)])
    read = [r for r in inside.read if r.outer in s.wanted]
    around = _captured(body)
    captured = [v for v in s.wanted if v in around]
    states = [inside.states[i] for i in active]
    found = s.walk(op, seeds, [*states, *(r.inner for r in read), *captured])
    captured = [v for v in captured if v in found]
    sums = [like(v) for v in captured]
    of_states, of_read = (
        [found[v] if v in found else op.zeros_like(v) for v in some] for some in (states, [r.inner for r in read])
    )
    _finish(body, op, [*of_states, *(op.Add(t, found[v]) for t, v in zip(sums, captured, strict=True)), *of_read])
    series = [*_kept(s, body, forward, inside), *(dy for dy, _ in slices)]
    body.inputs.clear()
    body.inputs.extend([*carried.values(), *sums, *(x.inner for x in series)])
    start = [
        *(s.received[i] or s.op.zeros_like(turns.last[i]) for i in active),
        *(s.op.zeros_like(v) for v in captured),
    ]
    outputs = _scan(s, body, start, series, read)
    tensors = [*(turns.first[i] for i in active), *captured, *(r.outer for r in read)]
    yield from ((v, g) for v, g in zip(tensors, outputs, strict=True) if v in s.wanted)


def _scan(
    s: BodyStep, body: ir.Graph, start: Sequence[ir.Value], series: Sequence[Series], read: Sequence[Series]
) -> Sequence[ir.Value]:
    """Return the outputs of the Scan; what it starts with where the loop took no turn, which onnxruntime refuses.

    Args:
        s: The step at the loop.
        body: The body of the Scan.
        start: Its initial states.
        series: What it reads slice by slice.
        read: What the loop reads slice by slice, whose gradients the Scan writes.
    """

    def turns(op: Ops) -> Sequence[ir.Value]:
        outer, attributes = [x.outer for x in series], {**_reversed("input", series), **_reversed("output", read)}
        count = len(body.outputs)
        return op.many("Scan", *start, *outer, count=count, body=body, num_scan_inputs=len(series), **attributes)

    if s.node.op_type == "Scan" or (number_of_turns(s.node) or 0) > 0:
        return turns(s.op)
    name, some = s.op.name("If"), s.op.Greater(s.op.Size(series[0].outer), s.op.constant(0, np.int64))
    branches = {
        "then_branch": subgraph(f"{name}/turns", turns),
        "else_branch": subgraph(f"{name}/none", lambda op: [op.Identity(v) for v in start]),
    }
    return s.op.many("If", some, count=len(start), **branches)


def _kept(s: BodyStep, body: ir.Graph, forward: ir.Graph, inside: Turns) -> list[Series]:
    """Return what the copy of a body reads of each turn: of what a Scan reads slice by slice, or of a tape."""
    pairs = zip(body.inputs, forward.inputs, strict=True)
    read = {r.inner: r for r in inside.read}
    kept = [(mine, theirs) for mine, theirs in pairs if mine.uses()]
    if not kept and inside.read:
        return [inside.read[0]]  # for the number of turns
    if not kept:
        number = Ops(forward, s.op.name("number")).Cast(forward.inputs[0], to=ir.DataType.FLOAT)
        return [Series(_tape(s, number), ir.Value(name=s.op.name("number"), type=ir.TensorType(ir.DataType.FLOAT)))]
    return [read[mine] if mine in read else Series(_tape(s, theirs), mine) for mine, theirs in kept]


def _reversed(kind: str, series: Sequence[Series]) -> dict[str, list[int]]:
    """Return the attributes by which a Scan reads or writes in the other order."""
    if not series:
        return {}
    return {
        f"scan_{kind}_axes": [x.axis for x in series],
        f"scan_{kind}_directions": [1 - x.backward for x in series],
    }


def _captured(body: ir.Graph) -> set[ir.Value]:
    """Return the values of the graphs around a body that it reads."""
    within = {body, *body.subgraphs()}
    return {v for n in body.all_nodes() for v in n.inputs if v is not None and v.graph not in within}


def _active(s: BodyStep, inside: Turns, body: ir.Graph) -> list[int]:
    """Return the states through which the gradient flows, by number.

    Those that come from what is differentiated by, and reach what has a gradient; through other states, too.
    """
    count, states = len(inside.states), {i: v for i, v in enumerate(inside.states) if carries(v)}
    wanted = [v for v in s.wanted if v in _captured(body)] + [r.inner for r in inside.read if r.outer in s.wanted]
    ends = [w.inner for w, dy in zip(inside.written, s.received[count:], strict=True) if dy is not None]
    come = {i for i in states if inside.first[i] in s.wanted}
    reach = {i for i in states if s.received[i] is not None}
    for _ in states:
        sources, targets = [*wanted, *(states[i] for i in come)], [*ends, *(inside.after[i] for i in reach)]
        come |= {i for i in states if _flows(body, sources, [inside.after[i]])}
        reach |= {i for i in states if _flows(body, [states[i]], targets)}
    return sorted(come & reach)


def _flows(body: ir.Graph, sources: Sequence[ir.Value], targets: Sequence[ir.Value]) -> bool:
    return not set(sources).isdisjoint(targets) or bool(between(body, sources, targets))


def _tape(s: BodyStep, value: ir.Value) -> ir.Value:
    """Return a new output of the node: what `value` is in each turn, along axis 0."""
    if value.type is not None and not isinstance(value.type, ir.TensorType):
        raise NotImplementedError(f"it carries {value.name!r} from turn to turn, which is no tensor")
    body, name = s.node.attributes["body"].as_graph(), s.op.name("tape")
    body.outputs.append(Ops(body, name).Identity(value))
    for kind in ("scan_output_axes", "scan_output_directions"):
        if kind in s.node.attributes:
            s.node.attributes[kind] = ir.AttrInt64s(kind, [*s.node.attributes.get_ints(kind, []), 0])
    s.node.resize_outputs(len(s.node.outputs) + 1)
    tape = s.node.outputs[-1]
    tape.name, tape.type = name, value.type
    return tape


BODY_RULES.update({("", "If"): _if, ("", "Loop"): _turned, ("", "Scan"): _turned})
