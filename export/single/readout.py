"""A target in a graph: its tensors with defaults filled in, and how its score is read from what a network gives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.levels import arithmetic_of
from fusioncam.export.targets.boxes import best_fit
from fusioncam.forms import CONFIDENCES, SCORES
from fusioncam.manifest import Manifest

Values = Mapping[str, ir.Value]


@dataclass(frozen=True)
class Readout(ABC):
    """The reading of one target from the outputs of a network for masked pictures.

    Attributes:
        manifest: The bundle's.
        target: The tensors of the target, one row each, by the names of the graphs' inputs.
        is_there: Whether the picture has that target, (1,); None where it cannot lack one.
    """

    manifest: Manifest
    target: Values
    is_there: ir.Value | None = None

    def sound(self, op: Ops, value: ir.Value) -> ir.Value:
        """Return a result, NaN where the picture lacks the target: then no number must look like a result."""
        return value if self.is_there is None else op.Where(self.is_there, value, op.constant(np.nan, np.float32))

    @abstractmethod
    def scores(self, op: Ops, outputs: Values) -> ir.Value:
        """Return the scores s (n,) of n pictures."""

    @abstractmethod
    def confidences(self, op: Ops, outputs: Values) -> tuple[ir.Value, ir.Value]:
        """Return the confidences p (n,) of n pictures, and (n,) what is left of them: 1 - p, or -p."""


class ClassReadout(Readout):
    """The readout of a class of a vector of logits, for networks that give that vector."""

    def scores(self, op: Ops, outputs: Values) -> ir.Value:
        """Return the logits of the class."""
        return op.Reshape(op.Gather(outputs["logits"], self.target["class_index"], axis=1), op.ints([-1]))

    def confidences(self, op: Ops, outputs: Values) -> tuple[ir.Value, ir.Value]:
        """Return the probabilities of the class."""
        maps = arithmetic_of(op, self.manifest)
        return maps.confidence(outputs["logits"], self.target["class_index"], self.manifest.ending)


class GraphReadout(Readout):
    """The readout of a target that the network itself scores."""

    def scores(self, op: Ops, outputs: Values) -> ir.Value:
        """Return the scores, whatever axis of targets the network gives them."""
        return op.Reshape(outputs[SCORES], op.ints([-1]))

    def confidences(self, op: Ops, outputs: Values) -> tuple[ir.Value, ir.Value]:
        """Return the confidences, and their negatives."""
        chance = op.Reshape(outputs[CONFIDENCES], op.ints([-1]))
        return chance, op.Neg(chance)


def readout_of(op: Ops, manifest: Manifest, values: Values) -> Readout:
    """Return the readout of a picture's target, whose defaults are filled in.

    Args:
        op: Appends to the graph.
        manifest: The bundle's.
        values: The target as it is given, and the normal form of the picture, by name; see `needed`.
    """
    form = manifest.form
    if form.kind == "boxes":
        return GraphReadout(manifest, *best_fit(form, op, values[form.output.name], values, manifest.ending))
    target = _FILLED_IN[form.kind](op, manifest, values)
    return (GraphReadout if form.scored else ClassReadout)(manifest, target)


def needed(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of the values that `readout_of` takes: the target, and the logits that choose a class."""
    form = manifest.form
    names = tuple(t.name for t in form.targets)
    return (*names, form.output.name) if "class_index" in names else names


def _of_vector(op: Ops, manifest: Manifest, values: Values) -> Values:
    top = op.ArgMax(values["logits"], axis=1, keepdims=0)
    return {"class_index": _chosen(op, values["class_index"], top)}


def _of_embedding(op: Ops, manifest: Manifest, values: Values) -> Values:
    return {"reference": values["reference"]}


def _of_maps(op: Ops, manifest: Manifest, values: Values) -> Values:
    """Return the class and the region: without a region where the class wins, without a class the one that fits best.

    Of values the region is the whole picture, as no value wins. A class that wins nowhere has a region of zeros, and a
    score that is no number.
    """
    logits, region, axes = values["logits"], values["region"], op.ints([2, 3])
    is_given = op.Greater(op.ReduceMax(region, op.ints([0, 1, 2]), keepdims=0), op.constant(0, np.float32))
    usual = op.Where(is_given, region, op.constant(1, np.float32))
    fit = op.ReduceSum(op.Mul(logits, usual), axes, keepdims=0)
    if manifest.ending != "value":
        wins = op.Cast(_wins(op, logits, manifest), to=ir.DataType.FLOAT)
        fit = op.Where(is_given, fit, op.ReduceSum(wins, axes, keepdims=0))
    chosen = _chosen(op, values["class_index"], op.ArgMax(fit, axis=1, keepdims=0))
    if manifest.ending != "value":
        usual = op.Where(is_given, region, op.Squeeze(op.Gather(wins, chosen, axis=1), op.ints([1])))
    return {"class_index": chosen, "region": usual, "peak": values["peak"]}


def _chosen(op: Ops, class_index: ir.Value, top: ir.Value) -> ir.Value:
    """Return the class c (1,): `class_index`, or the top class where that is below zero."""
    return op.Where(op.Less(class_index, op.ints([0])), top, class_index)


def _wins(op: Ops, logits: ir.Value, manifest: Manifest) -> ir.Value:
    """Return where each class wins, (1, C, h, w): above 1/2 by a sigmoid, else above all others."""
    if manifest.ending == "sigmoid":
        return op.Greater(logits, op.constant(0, np.float32))
    classes = op.constant(np.arange(manifest.classes, dtype=np.int64)[None, :, None, None])
    return op.Equal(op.ArgMax(logits, axis=1, keepdims=1), classes)


_FILLED_IN: dict[str, Callable[[Ops, Manifest, Values], Values]] = {
    "vector": _of_vector,
    "maps": _of_maps,
    "embedding": _of_embedding,
}
