"""The whole method as one graph: the masked passes run in a Loop over chunks of channels, to bound memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.gradient.tape import subgraph
from fusioncam.export.single.arithmetic import arithmetic_of
from fusioncam.export.single.nodes import constants_of, put_into
from fusioncam.export.single.parts import give, is_half, masked, of_class, of_one_picture
from fusioncam.export.single.subject import REGION, Subject, pick, subject_of
from fusioncam.manifest import Manifest

PREFIX, MODEL, EXACT = "fusioncam.passes", "fusioncam.masked", "fusioncam.exact"  # of names
LATE = 3  # turns of the Loop after those of channels: x * 0 and x * D at once, x * R, x * U


def loop_graph(
    graph: ir.Graph,
    score: ir.Model,
    manifest: Manifest,
    chunk: int,
    shared_weights: bool,
    exact: ir.Model | None = None,
) -> None:
    """Turn an explain graph into one from `image` and `class_index` to the three maps and `logits`.

    Args:
        graph: The bundle's explain graph.
        score: The score graph of the bundle; it is used up.
        manifest: The manifest of the bundle.
        chunk: Masked pictures per turn of the Loop.
        shared_weights: Whether the Loop reads the weights of the explain graph in place of its own. The passes are then
            slower: onnxruntime lays weights out anew only within the graph that holds them.
        exact: For an int8 score graph: the graph of the passes after those of channels, with the weights of the explain
            graph; it is used up.
    """
    known = constants_of(graph) if shared_weights or exact is not None else {}
    inputs = of_one_picture(graph)
    logits, *_ = outputs = list(graph.outputs)
    op = Ops(graph, "fusioncam.single")
    subject = subject_of(op, manifest, inputs, outputs)
    chances, kept = _passes(op, subject, _Networks(score, exact, known), chunk)
    maps = {
        "fusion_cam": subject.fuse(op, chances, kept),
        "grad_cam": subject.gradient_map,
        "score_cam": pick(op, kept, REGION),
    }
    graph.outputs.clear()
    single = {n: op.Cast(op.Unsqueeze(m, op.ints([0])), to=ir.DataType.FLOAT) for n, m in maps.items()}
    give(graph, single, [1, *manifest.preprocessing.size])
    graph.outputs.append(logits)


@dataclass(frozen=True)
class _Networks:
    """The graphs of the passes, see `loop_graph`, and the constants that both may share with the explain graph."""

    score: ir.Model
    exact: ir.Model | None
    known: Mapping[bytes, ir.Value]

    def logits(self, op: Ops, pictures: ir.Value, of_channels: ir.Value) -> ir.Value:
        """Return the logits of pictures, of channels or of full-size maps."""
        exact = self.exact
        if exact is None:
            return self._put(op, self.score, MODEL, pictures)
        (rows,) = op.either(
            of_channels,
            lambda op: [self._put(op, self.score, MODEL, pictures)],
            lambda op: [self._put(op, exact, EXACT, pictures)],
            count=1,
        )
        return rows

    def _put(self, op: Ops, model: ir.Model, prefix: str, pictures: ir.Value) -> ir.Value:
        return put_into(op.graph, model, prefix, {"image": pictures}, self.known)["logits"]


def _passes(op: Ops, subject: Subject, networks: _Networks, chunk: int) -> tuple[ir.Value, ir.Value]:
    """Return the results of all masked passes, those of the live channels first.

    Returns:
        The probabilities of c (n + 4,), and the full-size maps of the last four passes (4, H, W). Those of channels
        that are passed again come after the n.
    """
    size, half = subject.manifest.preprocessing.size, is_half(networks.score)
    chunks = _chunks(op, subject.count, chunk)
    early = chunks if subject.again is None else op.Add(chunks, _chunks(op, subject.again, chunk))
    turn, going, *states = inputs = [
        ir.Value(name=f"{PREFIX}/{name}", type=ir.TensorType(kind), shape=ir.Shape(shape))
        for name, kind, shape in (
            ("turn", ir.DataType.INT64, ()),
            ("going", ir.DataType.BOOL, ()),
            ("scores", ir.DataType.FLOAT, ("passes",)),
            ("chances", ir.DataType.DOUBLE, ("passes",)),
            ("kept", ir.DataType.DOUBLE, ("maps", *size)),
        )
    ]
    scores, chances, kept = states

    def body(op: Ops) -> Sequence[ir.Value]:
        def again(op: Ops) -> Sequence[ir.Value]:
            channels = op.Gather(subject.live, subject.heavy(op, scores))
            return _of_channels(op, subject, channels, op.Sub(turn, chunks), chunk), op.Identity(kept)

        def late(op: Ops) -> Sequence[ir.Value]:
            return _of_maps(op, subject, op.Sub(turn, early), scores, chances, kept)

        of_channels = op.Less(turn, chunks)
        masks, now_kept = op.either(
            of_channels,
            lambda op: (_of_channels(op, subject, subject.live, turn, chunk), op.Identity(kept)),
            late if subject.again is None else lambda op: op.either(op.Less(turn, early), again, late, count=2),
            count=2,
        )
        pictures = masked(op, subject.image, masks, half)
        rows = networks.logits(op, pictures, of_channels)
        chance = arithmetic_of(op, subject.manifest).chances(rows, subject.manifest.ending)
        more = (of_class(op, v, subject.chosen) for v in (rows, chance))
        longer = [op.Concat(old, new, axis=0) for old, new in zip((scores, chances), more, strict=True)]
        return op.Identity(going), *longer, now_kept

    empty = [op.constant(np.empty(s, t)) for s, t in ((0, np.float32), (0, np.float64), ((0, *size), np.float64))]
    graph = subgraph(PREFIX, body, inputs)
    turns = op.Add(early, op.constant(LATE, np.int64))
    _, every_chance, every_map = op.many("Loop", turns, op.constant(True), *empty, count=3, body=graph)
    return every_chance, every_map


def _chunks(op: Ops, count: ir.Value, chunk: int) -> ir.Value:
    """Return the number of chunks, a scalar, that hold `count` (1,) pictures."""
    return op.Squeeze(op.Div(op.Add(count, op.ints([chunk - 1])), op.ints([chunk])), op.ints([0]))


def _of_channels(op: Ops, subject: Subject, channels: ir.Value, turn: ir.Value, chunk: int) -> ir.Value:
    """Return M_k (at most `chunk`, 1, H, W) float32 of the channels of a turn."""
    start = op.Unsqueeze(op.Mul(turn, op.constant(chunk, np.int64)), op.ints([0]))
    channels = op.Slice(channels, start, op.Add(start, op.ints([chunk])), op.ints([0]))
    maps = arithmetic_of(op, subject.manifest)
    small = op.Cast(maps.scaled(op.Gather(subject.activations, channels)), to=ir.DataType.FLOAT)
    return maps.of_type(np.float32).up(op.Unsqueeze(small, op.ints([1])))


def _of_maps(
    op: Ops, subject: Subject, turn: ir.Value, scores: ir.Value, chances: ir.Value, kept: ir.Value
) -> Sequence[ir.Value]:
    """Return the full-size maps of a turn as masks (m, 1, H, W) float32, and all full-size maps so far."""

    def blank_and_denoised(op: Ops) -> Sequence[ir.Value]:
        denoised = op.Unsqueeze(subject.denoised, op.ints([0]))
        return [op.Concat(op.Mul(denoised, op.constant(0.0)), denoised, axis=0)]

    def one(op: Ops, value: ir.Value) -> Sequence[ir.Value]:
        return [op.Unsqueeze(value, op.ints([0]))]

    def is_turn(op: Ops, which: int) -> ir.Value:
        return op.Equal(turn, op.constant(which, np.int64))

    (maps,) = op.either(
        is_turn(op, 0),
        blank_and_denoised,
        lambda op: op.either(
            is_turn(op, 1),
            lambda op: one(op, subject.region(op, scores)),
            lambda op: one(op, subject.unite(op, chances, kept)),
            count=1,
        ),
        count=1,
    )
    masks = op.Unsqueeze(op.Cast(maps, to=ir.DataType.FLOAT), op.ints([1]))
    return masks, op.Concat(kept, maps, axis=0)
