"""Convolutions: the gradient of one is the other, with the same weights."""

from dataclasses import dataclass, replace

import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule


@dataclass(frozen=True)
class Window:
    """The sliding window of a convolution or pool: one number per spatial axis.

    Attributes:
        kernel: Taps of the kernel.
        strides: Step of the window in the input.
        dilations: Distance between taps.
        begin: Padding before.
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
        """As node attributes, the end padding cut at zero."""
        return {
            "strides": list(self.strides),
            "dilations": list(self.dilations),
            "pads": [*self.begin, *(max(e, 0) for e in self.end)],
        }

    @property
    def unseen(self) -> list[int]:
        """Input elements after the last window, per axis."""
        return [max(-e, 0) for e in self.end]


def window_of(s: Step, kernel: list[int], wide: ir.Value, narrow: ir.Value) -> Window:
    """The window that leads from the spatial axes of `wide` to those of `narrow`.

    `auto_pad` needs no look at its own formula: with the shapes known, the padding follows from them.
    """
    n = len(kernel)
    strides = s.attribute("strides", [1] * n)
    dilations = s.attribute("dilations", [1] * n)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    sizes = zip(s.static(wide, 2), s.static(narrow, 2), strict=True)
    total = [(o - 1) * st + e - i for (i, o), st, e in zip(sizes, strides, extents, strict=True)]
    auto = s.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        begin = [(max(t, 0) + (auto == "SAME_LOWER")) // 2 for t in total]
    elif auto == "VALID":
        begin = [0] * n
    else:
        begin = list(s.attribute("pads", [0] * 2 * n))[:n]
    end = [t - b for t, b in zip(total, begin, strict=True)]
    return Window(tuple(kernel), tuple(strides), tuple(dilations), tuple(begin), tuple(end))


def spread(s: Step, dy: ir.Value, weights: ir.Value, window: Window, group: int) -> ir.Value:
    """The adjoint of a convolution: what each input element receives from the windows it is in."""
    # The rest that no window sees is always smaller than the stride, as output_padding has to be.
    unseen = window.unseen if any(window.unseen) else None
    return s.op.ConvTranspose(dy, weights, group=group, output_padding=unseen, **window.attributes)


@rule("Conv")
def _conv(s: Step) -> ir.Value:
    kernel = s.static(s.input(1), 2)
    return spread(s, s.dy, s.input(1), window_of(s, kernel, s.x, s.y), s.attribute("group", 1))


@rule("ConvTranspose")
def _conv_transpose(s: Step) -> ir.Value:
    window = window_of(s, s.static(s.input(1), 2), s.y, s.x)
    if "output_shape" in s.node.attributes:
        # The padding follows from the wanted shape: half on each side, the odd one where auto_pad says.
        more = s.attribute("output_padding", [0] * len(window.kernel))
        total = [b + e for b, e in zip(window.begin, window.end, strict=True)]
        upper = s.attribute("auto_pad", "NOTSET") != "SAME_UPPER"
        begin = [(t + m + upper) // 2 for t, m in zip(total, more, strict=True)]
        window = replace(window, begin=tuple(begin), end=tuple(t - b for t, b in zip(total, begin, strict=True)))
    return s.op.Conv(s.dy, s.input(1), group=s.attribute("group", 1), **window.attributes)
