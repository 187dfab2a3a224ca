"""A picture, its target and its layer, as values of a graph."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.readout import Readout, readout_of
from fusioncam.manifest import Manifest


@dataclass(frozen=True)
class Subject:
    """A picture before the masked passes.

    Attributes:
        manifest: The bundle's.
        image: x (1, C, H, W).
        readout: The target, and how its score is read.
        activations: A (K, h, w).
        gradients: g (K, h, w).
        varies: (K,) channels that vary; only they have passes of their own.
        zero: (K,) channels that are zero everywhere, so that they add nothing.
    """

    manifest: Manifest
    image: ir.Value
    readout: Readout
    activations: ir.Value
    gradients: ir.Value
    varies: ir.Value
    zero: ir.Value


def subject_of(op: Ops, manifest: Manifest, values: Mapping[str, ir.Value]) -> Subject:
    """Return the subject of a picture.

    Args:
        op: Appends to the graph.
        manifest: The manifest of the bundle.
        values: Inputs and outputs of the explain graph by name, for one picture.
    """
    shape, axes = op.ints(manifest.layer.shape), op.ints([1, 2])
    # onnxruntime moves a DequantizeLinear past a Reshape into a Loop, and aborts; it does not move it past a Sum.
    features = op.Sum(op.Reshape(values["activations"], shape))
    low, high = op.ReduceMin(features, axes, keepdims=0), op.ReduceMax(features, axes, keepdims=0)
    return Subject(
        manifest=manifest,
        image=values["image"],
        readout=readout_of(op, manifest, values),
        activations=features,
        gradients=op.Reshape(values["gradients"], shape),
        varies=op.Greater(high, low),
        zero=op.Equal(op.Max(op.Abs(low), op.Abs(high)), op.constant(0, np.float32)),
    )
