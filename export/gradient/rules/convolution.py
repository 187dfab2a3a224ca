"""Convolutions: the gradient of one is the other, with the same weights."""

import onnx_ir as ir

from fusioncam.export.gradient.rules.table import Step, rule
from fusioncam.export.gradient.rules.windows import Window, window_of


def spread(s: Step, dy: ir.Value, weights: ir.Value, window: Window, group: int) -> ir.Value:
    """Return the adjoint of a convolution: what each input element receives from the windows it is in."""
    if window.overlooks:
        seen = s.op.ConvTranspose(dy, weights, group=group, **window.attributes)
        return s.op.Pad(seen, s.op.ints([0, 0, *window.before, 0, 0, *window.unseen]))
    # What is unseen is smaller than the stride, as output_padding has to be.
    unseen = window.unseen if any(window.unseen) else None
    return s.op.ConvTranspose(dy, weights, group=group, output_padding=unseen, **window.attributes)


@rule("Conv")
def _conv(s: Step) -> ir.Value:
    kernel = s.static(s.input(1), 2)
    return spread(s, s.dy, s.input(1), window_of(s, kernel, s.x, s.y), s.attribute("group", 1))


@rule("ConvTranspose")
def _conv_transpose(s: Step) -> ir.Value:
    window, dy = window_of(s, s.static(s.input(1), 2), s.y, s.x), s.dy
    if window.overlooks:
        # The borders that `output_shape` added hold the bias alone.
        ends = [size - u for size, u in zip(s.static(s.y, 2), window.unseen, strict=True)]
        dy = s.op.Slice(dy, s.op.ints(window.before), s.op.ints(ends), s.op.ints(range(2, 2 + len(ends))))
    return s.op.Conv(dy, s.input(1), group=s.attribute("group", 1), **window.attributes)
