"""Which tensor to explain by: every candidate of a model, and the one that is taken by default."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.canonical import Classifier
from fusioncam.export.gradient import CARRY_NO_GRADIENT, WAY_OUT, dims, operator_name, path, reads, unsupported
from fusioncam.export.layout import Layout, layouts

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul")
NO_RULE = "no gradient rule for"
NORMALIZATIONS = ("LayerNormalization", "RMSNormalization")
# What acts on each position by itself, and is better left to the tensor after it.
ACTIVATIONS = (
    *("Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh"),
    *("Gelu", "Swish", "Mish", "Softplus", "BatchNormalization", "InstanceNormalization", "GroupNormalization"),
)
PER_TOKEN = (*ACTIVATIONS, *NORMALIZATIONS, "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Erf", "Exp", "Neg", "Cast")


@dataclass(frozen=True)
class Candidate:
    """A tensor the model could be explained by.

    Attributes:
        value: The tensor.
        layout: The meaning of its axes.
        refused: Why it is not offered, or None.
        bypassed: Whether some of the evidence reaches the logits past it; such a tensor is never the default.
    """

    value: ir.Value
    layout: Layout
    refused: str | None
    bypassed: bool

    @property
    def name(self) -> str:
        """Name of the tensor."""
        return str(self.value.name)

    @property
    def without_rule(self) -> bool:
        """Whether it is refused for want of a gradient rule only: it can be had without the gradient."""
        return self.refused is not None and self.refused.startswith(NO_RULE)

    @property
    def node_name(self) -> str | None:
        """Name of the node that makes it."""
        node = self.value.producer()
        return node.name if node is not None else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(K, h, w) of its activations."""
        channels = dims(self.value)[self.layout.roles.index("C")]
        assert channels is not None
        return channels, *self.layout.grid


def candidates(classifier: Classifier, gradient: bool = True) -> list[Candidate]:
    """All tensors of h * w > 1 between image and logits, in the order of the graph.

    A tensor is refused where it comes after the last weighted operator (its channels are the classes themselves),
    where nothing but its class token reaches the logits, and, if the gradient is wanted, where an operator between it
    and the logits has no gradient rule. It is listed but never taken by default where part of the evidence goes past
    it; the normalised form of such a bottleneck counts as the bottleneck itself.
    """
    logits, known = classifier.logits, layouts(classifier.model.graph)
    nodes = path(classifier.image, logits)
    bottlenecks = _bottlenecks(nodes, classifier.image, logits)
    narrow, after = _narrow(nodes, known, logits), _after(nodes)
    found = []
    for node in nodes:
        value = node.outputs[0]
        layout = known.get(value)
        if (
            layout is None
            or layout.grid == (1, 1)
            or "C" not in layout.roles
            or "c" in layout.roles
            or not value.uses()
        ):
            continue
        if not _float(value) or (len(value.uses()) == 1 and _activated(value)):
            continue
        normalized = node.op_type in NORMALIZATIONS and node.inputs[0] in bottlenecks
        found.append(
            Candidate(
                value=value,
                layout=layout,
                refused=_refusal(after.get(value, _After()), value in narrow, gradient),
                bypassed=not (value in bottlenecks or normalized),
            )
        )
    return found


def _float(value: ir.Value) -> bool:
    return value.dtype in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def _activated(value: ir.Value) -> bool:
    return next(iter(value.uses())).node.op_type in ACTIVATIONS


@dataclass(frozen=True)
class _After:
    """What is between a tensor and the logits.

    Attributes:
        weighted: Whether there is a weighted operator.
        missing: The operators without a gradient rule.
        last: Place and name of the last of their nodes.
    """

    weighted: bool = False
    missing: frozenset[str] = frozenset()
    last: tuple[int, str] = (-1, "")

    def __or__(self, other: "_After") -> "_After":
        return _After(self.weighted or other.weighted, self.missing | other.missing, max(self.last, other.last))


def _after(nodes: list[ir.Node]) -> dict[ir.Value, _After]:
    """For every tensor on the way to the logits, what comes after it; in one sweep from the end."""
    after: dict[ir.Value, _After] = {}
    for i in range(len(nodes) - 1, -1, -1):
        node = nodes[i]
        here = _After(weighted=node.op_type in WEIGHTED)
        if unsupported([node]):
            here |= _After(False, frozenset({operator_name(node)}), (i, str(node.name or node.outputs[0].name)))
        for output in node.outputs:
            if output in after and output.dtype not in CARRY_NO_GRADIENT:
                here |= after[output]
        for value in set(reads(node)):
            after[value] = after[value] | here if value in after else here
    return after


def _refusal(after: _After, narrow: bool, gradient: bool) -> str | None:
    if not after.weighted:
        return "no weighted operator between it and the logits: its channels are the classes"
    if narrow:
        return "only its class token reaches the logits"
    if after.missing and gradient:
        return f"{NO_RULE} {', '.join(sorted(after.missing))} (node {after.last[1]!r})"
    return None


def _bottlenecks(nodes: list[ir.Node], image: ir.Value, logits: ir.Value) -> set[ir.Value]:
    """The tensors that everything on its way from image to logits must pass."""
    last_use = {value: i for i, node in enumerate(nodes) for value in reads(node)}
    last_use.setdefault(logits, len(nodes))
    found, reach = set(), last_use[image]
    for i, node in enumerate(nodes):
        alive = [o for o in node.outputs if o in last_use]
        if reach <= i and len(alive) == 1:
            found.add(alive[0])
        reach = max(reach, *(last_use[o] for o in alive)) if alive else reach
    return found


def _narrow(nodes: list[ir.Node], known: dict[ir.Value, Layout], logits: ir.Value) -> set[ir.Value]:
    """Tensors of which only single tokens (the class token) reach the logits."""
    on_path = set(nodes)
    narrow: set[ir.Value] = set()
    for node in reversed(nodes):
        for value in node.outputs:
            users = [u.node for u in value.uses() if u.node in on_path]
            tokens = users and value is not logits and "T" in getattr(known.get(value), "roles", "")
            if tokens and all(_narrows(u, value, known, narrow) for u in users):
                narrow.add(value)
    return narrow


def _narrows(user: ir.Node, value: ir.Value, known: dict[ir.Value, Layout], narrow: set[ir.Value]) -> bool:
    output, layout = user.outputs[0], known[value]
    if user.op_type in ("Gather", "Slice", "Split"):
        kept = dims(output)[layout.roles.index("T")] if len(dims(output)) == len(dims(value)) else 1
        return (kept or 0) < layout.grid[0] * layout.grid[1]
    weight = user.inputs[1] if user.op_type == "MatMul" and user.inputs[0] is value else None
    weighted = weight is not None and weight.const_value is not None
    reduced = user.op_type.startswith("Reduce") and "T" in getattr(known.get(output), "roles", "")
    return (user.op_type in PER_TOKEN or weighted or reduced) and output in narrow


def choose(found: list[Candidate], name: str | None = None, every: Iterable[str] = ()) -> Candidate:
    """The candidate called `name`, by default the last one that is neither refused nor bypassed.

    Args:
        found: From `candidates`.
        name: Name of a tensor, or of the node that makes it.
        every: Further names, to tell a name that is wrong from one that cannot serve.

    Raises:
        UsageError: No candidate is called `name`, or it was refused.
        ModelError: No candidate can serve.
    """
    if name is None:
        usable = [c for c in found if c.refused is None]
        best = [c for c in usable if not c.bypassed] or usable
        if not best:
            why = f": {found[-1].name!r}: {_why_not(found[-1])}" if found else ": none has height and width"
            raise ModelError(f"no layer of the model can be explained by{why}")
        return best[-1]
    named = {n: c for c in found for n in (c.node_name, c.name) if n}
    if name not in named:
        if name in every:
            raise UsageError(f"layer {name!r} cannot be explained by (`fusioncam inspect` lists those that can)")
        close = difflib.get_close_matches(name, named, n=1, cutoff=0.0)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"the model has no layer {name!r}{hint} (`fusioncam inspect` lists them)")
    if named[name].refused:
        raise UsageError(f"layer {name!r} cannot be explained by: {_why_not(named[name])}")
    return named[name]


def _why_not(candidate: Candidate) -> str:
    """Why it is refused, and the way out where that is for want of a gradient rule."""
    return f"{candidate.refused}; {WAY_OUT}" if candidate.without_rule else str(candidate.refused)
