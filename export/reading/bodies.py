"""Shapes within branches and loops, measured by running every turn of them beside the graph that holds them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count

import numpy as np
import onnx
import onnx_ir as ir

from fusioncam.export.gradient import Ops, bodies, is_chosen, reads
from fusioncam.export.gradient.loops import number_of_turns, turns_of
from fusioncam.export.gradient.reader import constant_of
from fusioncam.export.sessions import open_session, run_session
from fusioncam.kernels.arrays import Array

Known = Mapping[ir.Value, Array]
Run = Callable[[dict[str, Array]], Mapping[str, Array]]
Engine = Callable[[onnx.ModelProto], Run]
Growing = Callable[[Sequence[int], Sequence[int]], Sequence[int | str]]


def by_onnxruntime(model: onnx.ModelProto) -> Run:
    """Return the function that runs a model with onnxruntime."""
    session = open_session(model.SerializeToString(), optimize=False, threads=1)
    names = [o.name for o in session.get_outputs()]
    return lambda feeds: dict(zip(names, run_session(session, names, feeds), strict=True))


def measure_bodies(model: ir.Model, runs: Sequence[Known], growing: Growing, engine: Engine = by_onnxruntime) -> bool:
    """Set shape and type of the tensors within branches and loops, and the number of turns that a loop always takes.

    What has another shape in another turn, or lies in a branch that does not run, is left unknown.

    Args:
        model: The model.
        runs: The tensors of the main graph, for one or two batches.
        growing: Returns the dimensions of a tensor by its shapes for the first and the last batch.
        engine: Runs a body.

    Returns:
        Whether a loop got a number of turns, which may be written out now.
    """
    counts = _measure(model, model.graph, [[known] for known in runs], growing, engine)
    varying = set(model.graph.inputs)
    for node in model.graph:
        if not varying.isdisjoint(reads(node)):
            varying.update(node.outputs)
    fixed = [n for n in counts if n.op_type == "Loop" and number_of_turns(n) is None and not is_chosen(n, varying)]
    op = Ops(model.graph, "counted")
    for node in fixed:
        _set_turns(node, op.constant(counts[node], np.int64))
    return bool(fixed)


def _set_turns(node: ir.Node, number: ir.Value) -> None:
    """Let a Loop end by a number of turns alone."""
    body = node.attributes["body"].as_graph()
    node.replace_input_with(0, number)
    node.replace_input_with(1, None)
    old, goes_on = body.outputs[0], ir.node("Identity", [body.inputs[1]])
    body.append(goes_on)
    goes_on.outputs[0].name, goes_on.outputs[0].type = f"{old.name}/always", old.type
    body.outputs[0] = goes_on.outputs[0]


def _measure(
    model: ir.Model, graph: ir.Graph, runs: Sequence[Sequence[Known]], growing: Growing, engine: Engine
) -> dict[ir.Node, int]:
    """Return the number of turns of the loops of a graph that take the same in all runs, one at least."""
    counts = {}
    for node in graph:
        for body in bodies(node):
            run = _Body(model, body, engine)
            turns = [[_turns(node, run, known) for known in of_batch] for of_batch in runs]
            numbers = {len(each) for of_batch in turns for each in of_batch}
            if len(numbers) == 1 and numbers != {0}:
                counts[node] = numbers.pop()
            flat = [[turn for each in of_batch for turn in each] for of_batch in turns]
            for value in (*body.inputs, *(o for inner in body for o in inner.outputs)):
                seen = [{(t[value].shape, t[value].dtype) for t in of_batch if value in t} for of_batch in flat]
                value.shape = None
                if all(len(kinds) == 1 for kinds in seen):
                    (first, dtype), (last, _) = (next(iter(kinds)) for kinds in (seen[0], seen[-1]))
                    value.shape, value.dtype = ir.Shape(growing(first, last)), ir.DataType.from_numpy(dtype)
            _measure(model, body, flat, growing, engine)
    return counts


class _Body:
    """A body, as a model of its own."""

    def __init__(self, model: ir.Model, body: ir.Graph, engine: Engine) -> None:
        self.model, self.body, self.engine = model, body, engine
        self.run: Run | None = None
        self.values = {str(o.name): o for node in body for o in node.outputs if o.name}
        self.fed: dict[ir.Value, str] = {}

    def __call__(self, known: Known) -> dict[ir.Value, Array]:
        """Return the tensors of one turn, also those of the inputs, by what is known around it and of the inputs."""
        if self.run is None:
            self.run = self.engine(self._model(known))
        found = self.run({name: known[v] for v, name in self.fed.items()})
        return {v: known[v] for v in self.body.inputs if v in known} | {self.values[n]: a for n, a in found.items()}

    def _model(self, known: Known) -> onnx.ModelProto:
        copy = self.body.clone(allow_outer_scope_values=True)
        inner = {copy, *copy.subgraphs()}
        own = dict(zip(copy.inputs, self.body.inputs, strict=True))
        inputs: dict[ir.Value, ir.Value] = {}
        for node in copy.all_nodes():
            for i, value in enumerate(node.inputs):
                if value is None or (value.graph in inner and value not in own):
                    continue
                outer = own.get(value, value)
                if outer not in inputs:
                    inputs[outer] = self._input(outer, known, f"around_{len(inputs)}")
                node.replace_input_with(i, inputs[outer])
        copy.inputs.clear()
        copy.inputs.extend(v for v in inputs.values() if v.const_value is None)
        for value in inputs.values():
            if value.const_value is not None:
                copy.register_initializer(value)
        self.fed = {outer: str(v.name) for outer, v in inputs.items() if v.const_value is None}
        copy.outputs.clear()
        copy.outputs.extend(o for node in copy for o in node.outputs if o.name)
        copy.opset_imports.update(self.model.opset_imports)
        return ir.to_proto(ir.Model(copy, ir_version=self.model.ir_version))

    def _input(self, outer: ir.Value, known: Known, name: str) -> ir.Value:
        constant = constant_of(outer)
        if constant is not None:
            return ir.Value(name=name, const_value=ir.tensor(constant, name=name))
        return ir.Value(name=name, type=ir.TensorType(ir.DataType.from_numpy(known[outer].dtype)))


def _turns(node: ir.Node, body: _Body, known: Known) -> list[Known]:
    """Return the tensors of every turn, and those around it; none where the body does not run by itself."""
    try:
        if node.op_type == "If":
            return [{**known, **body({**known})}]
        return [*_of_loop(node, body, known)] if node.op_type in ("Loop", "Scan") else []
    except Exception:  # those of onnxruntime share no base class; a branch need not fit these inputs
        return []


def _of_loop(node: ir.Node, body: _Body, known: Known) -> Iterator[Known]:
    def value(outer: ir.Value) -> Array:
        constant = constant_of(outer)
        return known[outer] if constant is None else constant

    turns = turns_of(node, body.body)
    states = [value(v) for v in turns.first]
    if node.op_type == "Loop":
        most, goes_on = (None if v is None else value(v) for v in node.inputs[:2])
        numbers = count() if most is None else range(int(most.item()))
    else:
        first = turns.read[0]
        numbers, goes_on = range(value(first.outer).shape[first.axis]), None
    for i in numbers:
        if goes_on is not None and not goes_on.item():
            return
        given = dict(zip(turns.states, states, strict=True))
        if turns.counters:
            given |= dict(zip(turns.counters, (np.asarray(i), np.asarray(True)), strict=True))
        for r in turns.read:
            given[r.inner] = np.take(value(r.outer), -1 - i if r.backward else i, axis=r.axis)
        turn = {**known, **body({**known, **given})}
        yield turn
        states = [turn[v] for v in turns.after]
        if node.op_type == "Loop":
            goes_on = turn[body.body.outputs[0]]
