"""A picture, its class and its layer as values of a graph, with the maps that masked passes make of them."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.arithmetic import LOWEST, Arithmetic, arithmetic_of
from fusioncam.export.single.parts import chosen_class
from fusioncam.kernels import rescoring
from fusioncam.manifest import Manifest

# The passes after those of the channels: of x * 0, x * D, x * R and x * U.
BLANK, DENOISED, REGION, UNITED = range(4)


def pick(op: Ops, maps: ir.Value, which: int) -> ir.Value:
    """Return one of several maps (m, H, W)."""
    return op.Gather(maps, op.constant(which, np.int64))


@dataclass(frozen=True)
class Subject:
    """A picture before the masked passes: values of the outermost graph. Each method takes the graph to append to.

    Attributes:
        manifest: The bundle's.
        image: x (1, 3, H, W).
        chosen: c (1,).
        activations: A (K, h, w) float32.
        gradient_map: G (H, W).
        denoised: D (H, W).
        zero: (K,) channels that are zero everywhere, so that they add nothing.
        live: (n,) channels that vary; only they have passes of their own.
        count: n (1,).
        again: The number (1,) of channels that are passed again, exactly, after these; None where scores are exact.
    """

    manifest: Manifest
    image: ir.Value
    chosen: ir.Value
    activations: ir.Value
    gradient_map: ir.Value
    denoised: ir.Value
    zero: ir.Value
    live: ir.Value
    count: ir.Value
    again: ir.Value | None

    def late(self, op: Ops, row: ir.Value, which: int) -> ir.Value:
        """Return the entry (1,) of a pass after those of the channels, from a row of all passes."""
        return op.Gather(row, op.Add(self._passed(op), op.ints([which])))

    def _passed(self, op: Ops) -> ir.Value:
        """Return the number (1,) of passes of channels."""
        return self.count if self.again is None else op.Add(self.count, self.again)

    def coarse(self, op: Ops, scores: ir.Value) -> ir.Value:
        """Return the first scores (n,) of the live channels, from those of all passes."""
        return op.Slice(scores, op.ints([0]), self.count, op.ints([0]))

    def heavy(self, op: Ops, scores: ir.Value) -> ir.Value:
        """Return the places of the channels to pass again among the live ones."""
        assert self.again is not None
        return arithmetic_of(op, self.manifest).heaviest(self.coarse(op, scores), self.again)

    def _live_scores(self, op: Ops, scores: ir.Value) -> ir.Value:
        coarse = self.coarse(op, scores)
        if self.again is None:
            return coarse
        exact = op.Slice(scores, self.count, self._passed(op), op.ints([0]))
        return arithmetic_of(op, self.manifest).corrected(coarse, self.heavy(op, scores), exact)

    def region(self, op: Ops, scores: ir.Value) -> ir.Value:
        """Return R (H, W); a constant channel has the score of x * 0, as its mask is zero."""
        channels = self.manifest.layer.shape[0]
        live = self._live_scores(op, scores)
        blank = op.Expand(self.late(op, scores, BLANK), op.ints([channels]))
        every = op.ScatterElements(blank, self.live, live, axis=0)
        every = op.Where(self.zero, op.constant(LOWEST, np.float32), every)
        return arithmetic_of(op, self.manifest).score_cam(self.activations, every)

    def unite(self, op: Ops, chances: ir.Value, kept: ir.Value) -> ir.Value:
        """Return U (H, W) from the probabilities of all passes and their full-size maps."""
        maps = arithmetic_of(op, self.manifest)
        return maps.unite(self.denoised, pick(op, kept, REGION), self._shares(op, maps, chances))

    def fuse(self, op: Ops, chances: ir.Value, kept: ir.Value) -> ir.Value:
        """Return F (H, W); the share of R from `unite` is renormalised."""
        maps = arithmetic_of(op, self.manifest)
        gain = op.Sub(self.late(op, chances, UNITED), self.late(op, chances, BLANK))
        shares = maps.shares(gain, self._shares(op, maps, chances)[1])
        return maps.blend(pick(op, kept, UNITED), pick(op, kept, REGION), shares)

    def _shares(self, op: Ops, maps: Arithmetic, chances: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Return the shares of D and R in the gain over x * 0."""
        blank = self.late(op, chances, BLANK)
        of_denoised, of_region = (op.Sub(self.late(op, chances, n), blank) for n in (DENOISED, REGION))
        return maps.shares(of_denoised, of_region)


def subject_of(op: Ops, manifest: Manifest, inputs: list[ir.Value], outputs: list[ir.Value]) -> Subject:
    """Return the picture, class and layer of an explain graph.

    Args:
        op: Appends to that graph.
        manifest: The manifest of the bundle.
        inputs: `image` and `class_index` of the graph.
        outputs: `logits`, `activations` and `gradients` of the graph.
    """
    image, class_index = inputs
    logits, activations, gradients = outputs
    shape = op.ints(manifest.layer.shape)
    # onnxruntime moves a DequantizeLinear past a Reshape into a Loop, and aborts; it does not move it past a Sum.
    features, slopes = op.Sum(op.Reshape(activations, shape)), op.Reshape(gradients, shape)
    maps = arithmetic_of(op, manifest)
    gradient_map = maps.grad_cam(features, slopes)
    axes = op.ints([1, 2])
    low, high = op.ReduceMin(features, axes, keepdims=0), op.ReduceMax(features, axes, keepdims=0)
    live = op.Reshape(op.NonZero(op.Greater(high, low)), op.ints([-1]))
    count = op.Shape(live)
    again = None
    if manifest.score_precision == "int8":
        half = op.Div(op.Add(count, op.ints([1])), op.ints([2]))
        again = op.Min(half, op.ints([rescoring.MOST]))
    return Subject(
        manifest=manifest,
        image=image,
        chosen=chosen_class(op, logits, class_index),
        activations=features,
        gradient_map=gradient_map,
        denoised=maps.denoise(gradient_map),
        zero=op.Equal(op.Max(op.Abs(low), op.Abs(high)), op.constant(0, np.float32)),
        live=live,
        count=count,
        again=again,
    )
