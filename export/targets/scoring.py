"""The score and the confidence of targets, appended to a graph behind its normal form."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.targets.arrangement import CROSSWISE, ROWWISE, Arrangement, Targets
from fusioncam.export.targets.boxes import of_boxes
from fusioncam.export.targets.shapes import infer_shapes
from fusioncam.forms import CONFIDENCES, SCORES, Form
from fusioncam.manifest import Ending

LOWEST = np.finfo(np.float32).min  # in place of what lies outside of a region, for its maximum
LEAST = 1e-12  # of a product of lengths that is divided by

Pair = tuple[ir.Value, ir.Value]


@dataclass(frozen=True)
class Scoring:
    """The way from a normal form to scores and confidences.

    Attributes:
        form: The normal form and its targets.
        ending: The function that makes confidences of logits.
    """

    form: Form
    ending: Ending

    def append_rowwise(self, graph: ir.Graph) -> ir.Value:
        """Append the scores (N,) and confidences (N,) of one target for each picture, and return the scores.

        The targets, of N rows, become inputs. `class_index` -1 is the class of the highest mean in the region.
        """
        scores, _ = self._append(graph, ROWWISE, "N")
        return scores

    def append_crosswise(self, graph: ir.Graph, batch: str = "N") -> None:
        """Let a graph give the scores (N, T) and confidences (N, T) of T targets, in place of its normal form.

        The targets, of T rows, become inputs; `class_index` must not be negative here.

        Args:
            graph: The graph; its only output is the normal form, in float32.
            batch: Name of the axis of pictures.
        """
        self._append(graph, CROSSWISE, batch)
        del graph.outputs[0]

    def _append(self, graph: ir.Graph, arrangement: Arrangement, batch: str) -> Pair:
        output = graph.outputs[0]
        output.shape = ir.Shape([batch, *self.form.output.shape])
        targets = {}
        for name, dtype, shape in self.form.targets:
            kind = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype)))
            targets[name] = ir.Value(name=name, type=kind, shape=ir.Shape([arrangement.axis, *shape]))
        graph.inputs.extend(targets.values())
        op, before = Ops(graph, "targets"), len(graph)
        scored = _SCORED.get(self.form.kind) or partial(of_boxes, self.form)
        pair = scored(op, output, targets, arrangement, self.ending)
        scores, confidences = (arrangement.finish(op, value) for value in pair)
        infer_shapes([*graph][before:])
        for name, value in ((SCORES, scores), (CONFIDENCES, confidences)):
            value.name = name
            value.shape = ir.Shape([batch, *[arrangement.axis] * arrangement.crosswise])
            graph.outputs.append(value)
        return scores, confidences


def _of_maps(op: Ops, logits: ir.Value, targets: Targets, arrangement: Arrangement, ending: Ending) -> Pair:
    """Return the mean of a class over a region, or its maximum there: of its logits, and of its probabilities."""
    region, peak = (arrangement.beside(op, targets[name]) for name in ("region", "peak"))
    z = arrangement.pick(op, logits, targets["class_index"], region)
    over = _Region(op, region, peak)
    score = over.of(z)
    return score, (score if ending == "value" else over.of(_probability(op, logits, z, ending)))


def _probability(op: Ops, logits: ir.Value, z: ir.Value, ending: Ending) -> ir.Value:
    """Return the probabilities of the classes whose logits z were picked from all logits."""
    if ending == "sigmoid":
        return op.Sigmoid(z)
    # A softmax of those that were picked only; over axis 1, it would move all of them.
    highest = op.ReduceMax(logits, op.ints([1]), keepdims=1)
    total = op.ReduceSum(op.Exp(op.Sub(logits, highest)), op.ints([1]), keepdims=1)
    return op.Div(op.Exp(op.Sub(z, highest)), total)


class _Region:
    """The reduction of maps (N, T, h, w) over regions of the same rank: a weighted mean, or the maximum."""

    def __init__(self, op: Ops, region: ir.Value, peak: ir.Value) -> None:
        assert region.shape is not None
        self._op, self._region, self._peak = op, region, peak
        self._axes = op.ints(range(2, len(region.shape)))
        self._inside = op.Greater(region, op.constant(0, np.float32))
        self._total = op.ReduceSum(region, self._axes, keepdims=0)

    def of(self, maps: ir.Value) -> ir.Value:
        """Return one number for each map, (N, T)."""
        op = self._op
        mean = op.Div(op.ReduceSum(op.Mul(maps, self._region), self._axes, keepdims=0), self._total)
        within = op.Where(self._inside, maps, op.constant(LOWEST, np.float32))
        return op.Where(self._peak, op.ReduceMax(within, self._axes, keepdims=0), mean)


def _of_embedding(op: Ops, vector: ir.Value, targets: Targets, arrangement: Arrangement, ending: Ending) -> Pair:
    """Return the cosine of the angle between embedding and reference, as score and as confidence."""
    cosine = cosines(op, op.Unsqueeze(vector, op.ints([1])), arrangement.beside(op, targets["reference"]))
    return cosine, cosine


def cosines(op: Ops, a: ir.Value, b: ir.Value) -> ir.Value:
    """Return the cosines of the angles between vectors in the last of three axes; 0 for a vector of zeros."""
    last = op.ints([2])
    lengths = [op.ReduceL2(v, last, keepdims=0) for v in (a, b)]
    product = op.ReduceSum(op.Mul(a, b), last, keepdims=0)
    return op.Div(product, op.Max(op.Mul(*lengths), op.constant(LEAST, np.float32)))


_SCORED: dict[str, Callable[[Ops, ir.Value, Targets, Arrangement, Ending], Pair]] = {
    "maps": _of_maps,
    "embedding": _of_embedding,
}
