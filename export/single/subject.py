"""A picture, its target and its layer, as values of a graph."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.levels import Explaining
from fusioncam.export.single.readout import Readout, readout_of
from fusioncam.manifest import Manifest


@dataclass(frozen=True)
class Subject:
    """A picture before the masked passes.

    Attributes:
        manifest: The bundle's.
        image: x (1, C, H, W).
        readout: The target, and how its score is read.
        layer: Its layer.
        varies: (K,) channels that vary; only they have passes of their own.
        zero: (K,) channels that are zero everywhere, so that they add nothing.
    """

    manifest: Manifest
    image: ir.Value
    readout: Readout
    layer: Explaining
    varies: ir.Value
    zero: ir.Value

    @property
    def activations(self) -> ir.Value:
        """Return A (K, h, w)."""
        return self.layer.activations


def subject_of(op: Ops, manifest: Manifest, values: Mapping[str, ir.Value]) -> Subject:
    """Return the subject of a picture.

    Args:
        op: Appends to the graph.
        manifest: The manifest of the bundle.
        values: Inputs and outputs of the explain graph by name, for one picture.
    """
    layer, axes = Explaining(op, manifest, values), op.ints([1, 2])
    low, high = (reduce(layer.activations, axes, keepdims=0) for reduce in (op.ReduceMin, op.ReduceMax))
    return Subject(
        manifest=manifest,
        image=values["image"],
        readout=readout_of(op, manifest, values),
        layer=layer,
        varies=op.Greater(high, low),
        zero=op.Equal(op.Max(op.Abs(low), op.Abs(high)), op.constant(0, np.float32)),
    )
