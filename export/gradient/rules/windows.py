"""Places of the windows of a convolution or pool, which are measured where attributes leave them to a formula.

The formulas for `auto_pad` and `output_shape` differ between versions, operators and runtimes (with dilations, negative
totals, odd rests), and shape inference has yet others. A bundle is run by onnxruntime, so its windows count.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir

from fusioncam.export.gradient.rules.measure import run_node
from fusioncam.export.gradient.rules.table import Step
from fusioncam.kernels.arrays import Float64Array

PER_AXIS = ("kernel_shape", "strides", "dilations", "output_padding", "output_shape")
SHARED = ("auto_pad", "ceil_mode", "count_include_pad", "p")


@dataclass(frozen=True)
class Window:
    """The sliding window of a convolution or pool: one number per spatial axis.

    Attributes:
        kernel: Taps of the kernel.
        strides: Step of the window in the input.
        dilations: Distance between taps.
        begin: Padding before; negative where the first window begins after the first element.
        end: Padding after; as much as makes the last window end just there, so it may differ from the attribute
            (`ceil_mode` adds some) and is negative where the windows leave a rest of the input unseen.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def attributes(self) -> dict[str, list[int]]:
        """Return the attributes of a node with this window, the padding cut at zero."""
        return {
            "strides": list(self.strides),
            "dilations": list(self.dilations),
            "pads": [max(p, 0) for p in (*self.begin, *self.end)],
        }

    @property
    def reach(self) -> list[int]:
        """Distance between the first tap and the last one, per axis."""
        return [(k - 1) * d for k, d in zip(self.kernel, self.dilations, strict=True)]

    @property
    def before(self) -> list[int]:
        """Input elements before the first window, per axis."""
        return [max(-b, 0) for b in self.begin]

    @property
    def unseen(self) -> list[int]:
        """Input elements after the last window, per axis."""
        return [max(-e, 0) for e in self.end]

    @property
    def overlooks(self) -> bool:
        """Return whether more of the input is in no window than a smaller number of windows would explain."""
        return any(self.before) or any(u >= st for u, st in zip(self.unseen, self.strides, strict=True))


def window_of(s: Step, kernel: list[int], wide: ir.Value, narrow: ir.Value) -> Window:
    """Return the window that leads from the spatial axes of `wide` to those of `narrow`.

    Raises:
        NotImplementedError: No window of these attributes does what the node is seen to do.
    """
    n = len(kernel)
    strides = s.attribute("strides", [1] * n)
    dilations = s.attribute("dilations", [1] * n)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = list(zip(s.static(wide, 2), s.static(narrow, 2), strict=True))
    if 0 in s.static(narrow, 2):
        raise NotImplementedError("its kernel is larger than its input, so there is no window")
    total = [(o - 1) * st + e - i for (i, o), st, e in zip(sizes, strides, extents, strict=True)]
    auto = s.attribute("auto_pad", "NOTSET")
    if auto.startswith("SAME") or "output_shape" in s.node.attributes:
        begin = [_measured_begin(s, axis, kernel, *sizes[axis]) for axis in range(n)]
    elif auto == "VALID":
        begin = [0] * n
    else:
        begin = list(s.attribute("pads", [0] * 2 * n))[:n]
    end = [t - b for t, b in zip(total, begin, strict=True)]
    return Window(tuple(kernel), tuple(strides), tuple(dilations), tuple(begin), tuple(end))


def _measured_begin(s: Step, axis: int, kernel: list[int], size: int, count: int) -> int:
    """Return the padding before the first window along one axis, by what the node does."""
    stride, dilation = (s.attribute(name, [1] * len(kernel))[axis] for name in ("strides", "dilations"))
    transposed, weighted = s.node.op_type == "ConvTranspose", s.node.op_type.startswith("Conv")
    measured = responses(s, axis, kernel, count if transposed else size)
    measured = measured.T if transposed else measured
    taps = np.arange(kernel[axis])
    total = (count - 1) * stride + taps[-1] * dilation + 1 - size
    usual_first = sorted(range(-size, total + size + 1), key=lambda b: (not 0 <= b <= total, abs(b)))
    for begin in usual_first if measured.shape == (size, count) else ():
        at = np.arange(count)[:, None] * stride + taps * dilation - begin
        windows, tap = np.nonzero((at >= 0) & (at < size))
        expected = np.zeros((size, count))
        expected[at[windows, tap], windows] = tap + 1
        if np.array_equal(expected, measured) if weighted else np.array_equal(expected > 0, measured > 0):
            return begin
    raise NotImplementedError("its windows are not where its attributes put them")


def responses(s: Step, axis: int, kernel: list[int], size: int) -> Float64Array:
    """Return the response of the node to every unit vector along one axis, (size, positions of its output).

    The weights of a convolution are taken as 1, 2, 3, ... meanwhile, so that its taps can be told apart.
    """
    attributes: dict[str, Any] = {name: s.attribute(name) for name in SHARED}
    per_axis = {name: s.attribute(name) for name in PER_AXIS}
    per_axis["kernel_shape"] = kernel
    attributes |= {name: (v[len(v) - len(kernel) + axis],) for name, v in per_axis.items() if v is not None}
    pads = s.attribute("pads")
    if pads is not None and s.attribute("auto_pad", "NOTSET") == "NOTSET":
        attributes["pads"] = pads[axis], pads[len(kernel) + axis]
    assert s.node.graph is not None
    opset = s.node.graph.opset_imports.get("", 18)
    return _responses(s.node.op_type, opset, size, tuple((k, v) for k, v in attributes.items() if v is not None))


@cache
def _responses(op_type: str, opset: int, size: int, attributes: tuple[tuple[str, Any], ...]) -> Float64Array:
    named = dict(attributes)
    weights = np.arange(1, named["kernel_shape"][0] + 1, dtype=np.float32).reshape(1, 1, -1)
    unit = np.eye(size, dtype=np.float32)[:, None]
    try:
        measured = run_node(op_type, opset, [unit, weights] if op_type.startswith("Conv") else [unit], named)
    except Exception as error:  # onnxruntime's exceptions share no base class
        raise NotImplementedError("onnxruntime does not run it") from error
    return np.asarray(measured, np.float64).reshape(size, -1)
