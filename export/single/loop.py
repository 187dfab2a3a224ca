"""The whole method as one graph: the passes of the channels run in a Loop over chunks, to bound memory.

The Loop is such as onnxruntime and TensorRT both take: no branches, no outputs that grow with the turns, and only the
number of turns depends on the picture.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.gradient.tape import subgraph
from fusioncam.export.single.fusion import fused
from fusioncam.export.single.levels import largest
from fusioncam.export.single.network import Network
from fusioncam.export.single.parts import give, kind_of, of_one_picture
from fusioncam.export.single.subject import Subject, subject_of
from fusioncam.forms import CONFIDENCES, SCORES
from fusioncam.manifest import Manifest

Uses = Iterable[tuple[ir.Node, int]]
PREFIX, MODEL, EXACT = "fusioncam.passes", "fusioncam.masked", "fusioncam.exact"  # of names
# Outputs: a target with its defaults.
EXPLAINED = {
    **{"class_index": "explained_class", "region": "explained_region"},
    **{"box": "explained_box", "anchor": "explained_anchor"},
}


def loop_graph(
    graph: ir.Graph, score: ir.Model, exact: ir.Model, manifest: Manifest, chunk: int, shared_weights: bool
) -> None:
    """Turn an explain graph into one from `image` and a target to the three maps, the normal form and the score.

    Args:
        graph: The bundle's explain graph.
        score: The score graph of the bundle, for the passes of channels.
        exact: The part of the explain graph that scores, for the other passes.
        manifest: The manifest of the bundle.
        chunk: Masked pictures per turn of the Loop, at most.
        shared_weights: Whether the Loop reads the weights of the explain graph in place of its own. The passes are then
            slower: onnxruntime lays weights out anew only within the graph that holds them.
    """
    values, form = of_one_picture(graph), manifest.form
    readers = {t.name: list(values[t.name].uses()) for t in form.targets}
    op = Ops(graph, "fusioncam.single")
    subject = subject_of(op, manifest, values)
    if form.scored:
        _redirect(graph, readers, subject.readout.target)
    scores = _scores(op, subject, score, graph if shared_weights else None, _even(largest(manifest)[0], chunk))
    maps = fused(op, subject, scores, Network(exact, graph, EXACT))
    graph.outputs.clear()
    give(graph, {n: op.Unsqueeze(m, op.ints([0])) for n, m in maps.items()}, [1, *manifest.preprocessing.size])
    graph.outputs.append(values[form.output.name])
    for name in (SCORES, CONFIDENCES) * form.scored:
        values[name].name = op.name(name)
        give(graph, {name: op.Identity(subject.readout.sound(op, values[name]))}, [1])
    for t in form.targets:
        if form.scored and t.name in EXPLAINED:
            give(graph, {EXPLAINED[t.name]: op.Identity(subject.readout.target[t.name])}, [1, *t.shape], kind_of(t))


def _redirect(graph: ir.Graph, readers: Mapping[str, Uses], target: Mapping[str, ir.Value]) -> None:
    """Let those who read a target as it is given read it with its defaults filled in, and bring all nodes in order."""
    for name, uses in readers.items():
        for node, place in uses:
            node.replace_input_with(place, target[name])
    graph.sort()


def _even(channels: int, chunk: int) -> int:
    """Return the smallest chunk of as many turns, so that the last turn is full where all channels vary."""
    turns = -(-channels // chunk)
    return -(-channels // turns)


def _scores(op: Ops, subject: Subject, score: ir.Model, weights: ir.Graph | None, chunk: int) -> ir.Value:
    """Return the scores (K,) of the target under the masks of all channels. The mask of a constant channel is zero.

    Args:
        op: Appends to the graph.
        subject: The picture.
        score: The network of these passes.
        weights: The graph that holds its weights; by default the body of the Loop.
        chunk: Masked pictures per turn.
    """
    channels, *grid = largest(subject.manifest)
    maps = subject.layer.arithmetic(op)
    # One channel more, of zeros, fills the last turn: x * 0, whose score is that of the constant channels.
    small = op.Concat(maps.scaled(subject.activations), op.constant(np.zeros((1, *grid), np.float32)), axis=0)
    channel_at, place, length = _queue(op, subject)
    turns = op.Squeeze(op.Div(op.Add(length, op.ints([chunk - 1])), op.ints([chunk])), op.ints([0]))
    every = -(-channels // chunk)
    inputs = [
        ir.Value(name=f"{PREFIX}/{name}", type=ir.TensorType(kind), shape=ir.Shape(shape))
        for name, kind, shape in (
            ("turn", ir.DataType.INT64, ()),
            ("going", ir.DataType.BOOL, ()),
            ("scores", ir.DataType.FLOAT, (every, chunk)),
        )
    ]
    turn, going, known = inputs

    def body(op: Ops) -> list[ir.Value]:
        maps = subject.layer.arithmetic(op)
        first = op.Mul(turn, op.constant(chunk, np.int64))
        some = op.Min(op.Add(first, op.constant(np.arange(chunk))), op.ints([channels]))
        masks = maps.up(op.Unsqueeze(op.Gather(small, op.Gather(channel_at, some)), op.ints([1])))
        network, readout = Network(score, weights or op.graph, MODEL), subject.readout
        outputs = network.run(op, subject.image, masks, readout.target)
        now = op.Equal(op.constant(np.arange(every)[:, None]), turn)
        return [op.Identity(going), op.Where(now, readout.scores(op, outputs), known)]

    nothing = op.constant(np.zeros((every, chunk), np.float32))
    (scores,) = op.many("Loop", turns, op.constant(True), nothing, count=1, body=subgraph(PREFIX, body, inputs))
    return op.Gather(op.Reshape(scores, op.ints([-1])), place)


def _queue(op: Ops, subject: Subject) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Return the channel (K + 2,) of each place in the row of passes, the place (K,) of each channel, the length (1,).

    Channels that vary come first. All others share the place after them, that of the channel K of zeros. It has a pass
    if one of them is not zero, or if there would be no pass at all: a Loop always has a turn.
    """
    # Numbers of channels are floats until the end: TensorRT computes integers that lead to a number of turns on the
    # host, and refuses to do so for more than 64 of them.
    channels = largest(subject.manifest)[0]
    vary = op.Cast(subject.varies, to=ir.DataType.FLOAT)
    live = op.ReduceSum(vary, op.ints([0]), keepdims=1)
    before = op.CumSum(vary, op.constant(0, np.int64), exclusive=1)
    constant = op.Cast(op.Not(op.Or(subject.varies, subject.zero)), to=ir.DataType.FLOAT)
    one = op.constant(1, np.float32)
    blank = op.Max(op.ReduceMax(constant, op.ints([0]), keepdims=1), op.Sub(one, live))
    length = op.Add(live, blank)
    place = op.Min(op.Where(subject.varies, before, live), op.Sub(length, one))
    nobody = op.constant(np.full(channels + 2, channels))
    last = op.constant(channels + 1, np.float32)  # which is never read
    slot = op.Cast(op.Where(subject.varies, before, last), to=ir.DataType.INT64)
    channel_at = op.ScatterElements(nobody, slot, op.constant(np.arange(channels)), axis=0)
    return channel_at, op.Cast(place, to=ir.DataType.INT64), op.Cast(length, to=ir.DataType.INT64)
