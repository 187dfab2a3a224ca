"""The layer that explains a target, as values of a graph: of a detector's levels, the one of its anchor.

All shapes are fixed, those of the largest level: whoever runs the graph plans its memory once. A smaller level repeats
its last rows and columns, which the matrices that enlarge maps leave out, and has channels of zeros, which add nothing.
"""

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient import Ops
from fusioncam.export.single.arithmetic import Arithmetic
from fusioncam.forms import ACTIVATIONS, GRADIENTS, of_level
from fusioncam.manifest import Manifest


def largest(manifest: Manifest) -> tuple[int, ...]:
    """Return (K, h, w), the largest of all levels on each axis."""
    return tuple(map(max, zip(*(layer.shape for layer in manifest.layers), strict=True)))


def layer_tensors(manifest: Manifest, gradients: bool) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors that `Explaining` takes, by name.

    Args:
        manifest: The bundle's.
        gradients: Whether gradients are read; levels need them in any case.
    """
    names = (ACTIVATIONS, GRADIENTS) if gradients or manifest.levels else (ACTIVATIONS,)
    return {of_level(name, n): layer.shape for name in names for n, layer in enumerate(manifest.layers)}


class Explaining:
    """The layer that explains the target of a picture.

    Args:
        op: Appends to the graph.
        manifest: The bundle's.
        values: The tensors of all layers by name, of one picture; see `layer_tensors`.

    Attributes:
        level: Its number among the layers, a scalar; None where there is one layer.
    """

    def __init__(self, op: Ops, manifest: Manifest, values: Mapping[str, ir.Value]) -> None:
        self._op, self._manifest, self._values = op, manifest, values
        self.level = self._last_that_is_seen() if manifest.levels else None

    @cached_property
    def activations(self) -> ir.Value:
        """Return A (K, h, w), of which masks are made."""
        return self._chosen([self._widened(value, n, "edge") for n, value in enumerate(self._features)])

    @cached_property
    def summed(self) -> ir.Value:
        """Return A (K, h, w) as the maps sum it: of a detection by `kernels.cam_methods.seen_at`."""
        if self._manifest.form.kind != "boxes":
            return self.activations
        each = map(self._seen_at, self._features, self._each(GRADIENTS))
        return self._chosen([self._widened(value, n, "edge") for n, value in enumerate(each)])

    @cached_property
    def gradients(self) -> ir.Value:
        """Return g (K, h, w), whose means over the largest grid are those over its own."""
        cells, each = np.prod(largest(self._manifest)[1:]), self._each(GRADIENTS)
        if self.level is not None:
            shares = [cells / np.prod(layer.grid) for layer in self._manifest.layers]
            each = [self._op.Mul(g, self._op.constant(s, np.float32)) for g, s in zip(each, shares, strict=True)]
        return self._chosen([self._widened(value, n, "constant") for n, value in enumerate(each)])

    def arithmetic(self, op: Ops) -> Arithmetic:
        """Return the arithmetic of its maps, appended by `op`."""
        return arithmetic_of(op, self._manifest, self.level)

    @cached_property
    def _features(self) -> list[ir.Value]:
        # onnxruntime moves a DequantizeLinear past a Reshape into a Loop, and aborts; it does not move it past a Sum.
        return [self._op.Sum(value) for value in self._each(ACTIVATIONS)]

    def _seen_at(self, activations: ir.Value, gradients: ir.Value) -> ir.Value:
        op, zero = self._op, self._op.constant(0, np.float32)
        strengths = op.Relu(op.ReduceSum(op.Mul(gradients, activations), op.ints([0]), keepdims=1))
        largest = op.ReduceMax(strengths, keepdims=0)
        one = op.constant(1, np.float32)
        is_seen = op.Greater(largest, zero)
        return op.Mul(activations, op.Where(is_seen, op.Div(strengths, op.Where(is_seen, largest, one)), one))

    def _each(self, name: str) -> list[ir.Value]:
        """Return the tensors (K, h, w) of all layers."""
        layers = enumerate(self._manifest.layers)
        return [self._op.Reshape(self._values[of_level(name, n)], self._op.ints(layer.shape)) for n, layer in layers]

    def _last_that_is_seen(self) -> ir.Value:
        """Return the number of the last level whose gradient is not zero: earlier ones reach an anchor by way of it."""
        op, numbers = self._op, []
        for n, gradients in enumerate(self._each(GRADIENTS)):
            strength = op.ReduceMax(op.Abs(gradients), keepdims=0)
            seen = op.Cast(op.Greater(strength, op.constant(0, np.float32)), to=ir.DataType.FLOAT)
            numbers.append(op.Mul(seen, op.constant(n, np.float32)))
        return op.Cast(op.Max(*numbers), to=ir.DataType.INT64)

    def _widened(self, value: ir.Value, n: int, mode: str) -> ir.Value:
        """Return a tensor of the n-th layer in the shape of the largest."""
        op, shape, size = self._op, self._manifest.layers[n].shape, largest(self._manifest)
        channels, rows, columns = (large - small for large, small in zip(size, shape, strict=True))
        if rows or columns:
            value = op.Pad(value, op.ints([0, 0, 0, 0, rows, columns]), mode=mode)
        return op.Pad(value, op.ints([0, 0, 0, channels, 0, 0])) if channels else value

    def _chosen(self, each: list[ir.Value]) -> ir.Value:
        if self.level is None:
            return each[0]
        stacked = self._op.Concat(*(self._op.Unsqueeze(v, self._op.ints([0])) for v in each), axis=0)
        return self._op.Gather(stacked, self.level)


def arithmetic_of(op: Ops, manifest: Manifest, level: ir.Value | None = None) -> Arithmetic:
    """Return the arithmetic, appended by `op`, for maps of the size of the model's input.

    Args:
        op: Appends to the graph.
        manifest: The bundle's.
        level: The number of the layer, where the bundle has several.
    """
    grids, (height, width) = [layer.grid for layer in manifest.layers], manifest.preprocessing.size
    near = largest(manifest)[0] if manifest.form.scored else 0
    return Arithmetic(op, [(h, w) for h, w in grids], (height, width), manifest.classes, near, level)
