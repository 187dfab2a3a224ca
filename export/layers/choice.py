"""The choice of a layer: every tensor that could explain a model, and the one that is taken by default."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import onnx_ir as ir

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.gradient import WAY_OUT, dims, operator_name, path
from fusioncam.export.gradient.marks import marked
from fusioncam.export.layers.graph_paths import After, after, bottlenecks, branches, depths, narrow
from fusioncam.export.layers.layout import Layout, layouts
from fusioncam.export.layers.trace import trace
from fusioncam.export.model import CanonicalModel
from fusioncam.export.operators import ACTIVATIONS, NORMALIZATIONS, WEIGHTED
from fusioncam.layer_names import short_layer_names
from fusioncam.manifest import Layer

NO_RULE = "no gradient rule for"
INTEGERS = (
    "it holds 8-bit integers, made by {}; quantise the model with QuantizeLinear / DequantizeLinear pairs instead"
)
NO_GRID = "none has height and width that cover the picture in order, neither mirrored nor padded nor cut out of it"
EARLY = 1 / 3  # share of the weighted operators: a default with no more of them before it gets a remark
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
BYTES = (ir.DataType.UINT8, ir.DataType.INT8)


@dataclass(frozen=True)
class Candidate:
    """A tensor that could explain the model.

    Attributes:
        value: The tensor.
        layout: The meaning of its axes.
        refused: The reason why it is not offered, or None.
        bypassed: Whether some of the evidence reaches the logits past it.
        depth: Share of the model's weighted operators that come before it, 0..1.
    """

    value: ir.Value
    layout: Layout
    refused: str | None
    bypassed: bool
    depth: float = 0.0

    @property
    def name(self) -> str:
        """Return the name of the tensor."""
        return str(self.value.name)

    @property
    def without_rule(self) -> bool:
        """Return whether only a missing gradient rule refuses it, so that it serves without the gradient."""
        return self.refused is not None and self.refused.startswith(NO_RULE)

    @property
    def node_name(self) -> str | None:
        """Return the name of the node that computes it."""
        node = self.value.producer()
        return node.name if node is not None else None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape (K, h, w) of its activations."""
        channels = dims(self.value)[self.layout.roles.index("C")]
        assert channels is not None
        return channels, *self.layout.grid


@dataclass
class Survey:
    """The layers that could explain a model.

    Attributes:
        candidates: All candidates, in the order of the graph.
        names: Names of all tensors, to tell a wrong name from a tensor that cannot serve.
        branches: Names of the layers that together see everything, where no single late one does.
        lost: The first operator behind which height and width could not be followed, with its node, or None.
        unread: Names of tensors that everything passes, and of whose axes some have places, but cannot be read.
    """

    candidates: list[Candidate]
    names: frozenset[str]
    branches: tuple[str, ...] = ()
    lost: str | None = None
    unread: tuple[str, ...] = ()

    def choose(self, name: str | None = None) -> Candidate:
        """Return the candidate called `name`, by default the last one that is neither refused nor bypassed.

        Where all are bypassed, the deepest of `branches` is taken.

        Args:
            name: Name of a tensor, its short form as `fusioncam inspect` shows it, or the name of the node that
                computes it.

        Raises:
            UsageError: No candidate is called `name`, or it was refused.
            ModelError: No candidate can serve.
        """
        return self._default() if name is None else self._named(name)

    def choose_live(self, why_dead: Callable[[Candidate], str | None], name: str | None = None) -> Candidate:
        """Return the same, but by default the last one through which evidence was seen to flow.

        Args:
            why_dead: Runs the model, and returns why a candidate explains nothing, or None; such a one is refused.
            name: As for `choose`.

        Raises:
            UsageError, ModelError: As `choose`.
        """
        while True:
            chosen = self.choose(name)
            reason = why_dead(chosen) if name is None else None
            if reason is None:
                return chosen
            self.candidates[self.candidates.index(chosen)] = replace(chosen, refused=reason)

    def _default(self) -> Candidate:
        usable = [c for c in self.candidates if c.refused is None]
        best = [c for c in usable if not c.bypassed]
        if not best and usable:
            deepest = [c for c in usable if c.name in self.branches]
            best = [max(enumerate(deepest), key=lambda at: (at[1].depth, at[0]))[1]] if deepest else usable
        if not best:
            raise ModelError(f"no layer can explain the model: {self._why_none()}")
        return best[-1]

    def _named(self, name: str) -> Candidate:
        short = short_layer_names(c.name for c in self.candidates)
        named = {short[c.name]: c for c in self.candidates}
        named |= {n: c for c in self.candidates for n in (c.node_name, c.name) if n}
        if name not in named:
            if name in self.names:
                raise UsageError(f"layer {name!r} cannot explain the model (`fusioncam inspect` lists those that can)")
            close = difflib.get_close_matches(name, named, n=1, cutoff=0.0)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise UsageError(f"the model has no layer {name!r}{hint} (`fusioncam inspect` lists them)")
        if named[name].refused:
            raise UsageError(f"layer {name!r} cannot explain the model: {_why_not(named[name])}")
        return named[name]

    def _why_none(self) -> str:
        """Return the reason a user can act on: a missing rule before an operator that could not be followed."""
        without = [c for c in self.candidates if c.without_rule]
        best = [c for c in without if not c.bypassed] or without
        if not best and self.lost:
            return f"none has height and width that could be followed: they are lost at operator {self.lost}"
        best = best or self.candidates
        return f"{best[-1].name!r}: {_why_not(best[-1])}" if best else NO_GRID

    def describe(self, chosen: Candidate, by_default: bool) -> Layer:
        """Return a layer as the manifest describes it, with remarks on one that does not see everything.

        Args:
            chosen: One of the candidates.
            by_default: Whether it was taken because the user named none.
        """
        late = [c.name for c in self.candidates if not (c.refused or c.bypassed) and c.depth > EARLY]
        branches = self.branches if len(self.branches) > 1 else ()
        has_more = bool(self.lost or self.unread or branches)  # evidence has places further on
        return Layer(
            name=chosen.name,
            shape=chosen.shape,
            roles=chosen.layout.roles,
            offset=chosen.layout.offset,
            bypassed=chosen.bypassed,
            early=by_default and has_more and not (chosen.depth > EARLY or chosen.bypassed),
            join=late[-1] if chosen.bypassed and late else None,
            branches=tuple(b for b in branches if b != chosen.name),
        )


def survey(canonical: CanonicalModel, gradient: bool = True) -> Survey:
    """List all tensors of h * w > 1 between image and logits.

    A tensor is refused where it comes after the last weighted operator (its channels are the classes themselves) or
    before the first (it is the picture itself), where nothing but its class token reaches the logits, and, if the
    gradient is wanted, where an operator between it and the logits has no gradient rule. It is not taken by default
    where part of the evidence goes past it and there is a better one; the normalised form of a tensor that everything
    passes counts as that tensor itself.
    """
    image, logits = canonical.image, canonical.output
    made = trace(canonical.model.graph)
    known, nodes = layouts(made), path(image, logits)
    passed = bottlenecks(nodes, image, logits)
    thin, behind, before = narrow(nodes, made, logits), after(nodes), depths(nodes)
    listed, detects = [], canonical.detector is not None
    for node in nodes:
        value = node.outputs[0]
        layout = known.get(value)
        if layout is None or math.prod(layout.grid) == 1 or not value.uses() or not _listed(value, node):
            continue
        normalized = node.op_type in NORMALIZATIONS and node.inputs[0] in passed
        listed.append(
            Candidate(
                value=value,
                layout=layout,
                refused=INTEGERS.format(operator_name(node))
                if value.dtype in BYTES
                else _refusal(behind.get(value, After()), before[value], value in thin, gradient, detects),
                bypassed=not (value in passed or normalized),
                depth=before[value],
            )
        )
    usable = {c.value: c for c in listed if c.refused is None}
    lost = next((n for n in nodes if n in set(made.lost)), None)
    unread = [v for v in passed if v not in known and v not in thin and made.somewhere(v) and v is not logits]
    late = {v for v, c in usable.items() if c.depth > EARLY}
    joined = any(not c.bypassed for v, c in usable.items() if v in late)
    parts = () if joined else tuple(usable[v].name for v in branches(image, logits, late or set(usable)))
    lost_at = None if lost is None else f"{operator_name(lost)} (node {lost.name or lost.outputs[0].name!r})"
    names = frozenset(str(o.name) for node in canonical.model.graph for o in node.outputs)
    return Survey(listed, names, parts, lost_at, tuple(str(v.name) for v in unread))


def _listed(value: ir.Value, node: ir.Node) -> bool:
    """Return whether a tensor holds numbers of its own, and is not better left to the activation that follows it."""
    if marked(node):
        return False
    if value.dtype in BYTES:
        return node.op_type in WEIGHTED
    activated = len(value.uses()) == 1 and next(iter(value.uses())).node.op_type in ACTIVATIONS
    return value.dtype in FLOATS and not activated


def _refusal(behind: After, depth: float, thin: bool, gradient: bool, detects: bool) -> str | None:
    if not behind.weighted and detects:
        return "no weighted operator between it and the scores: its channels are boxes and classes"
    if not behind.weighted:
        return "no weighted operator between it and the logits: its channels are the classes"
    if not depth:
        return "no weighted operator between the image and it: it is the picture itself"
    if thin:
        return "behind it, places are a list of anchors" if detects else "only its class token reaches the logits"
    if behind.missing and gradient:
        return f"{NO_RULE} {', '.join(sorted(behind.missing))} (node {behind.last[1]!r})"
    return None


def _why_not(candidate: Candidate) -> str:
    """Return why a candidate is refused, and the way out where it lacks a gradient rule."""
    return f"{candidate.refused}; {WAY_OUT}" if candidate.without_rule else str(candidate.refused)
