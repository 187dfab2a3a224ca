"""The order of axes in operators that have the channels behind."""

import onnx_ir as ir

from fusioncam.export.gradient.tape import Ops


def channels_first(op: Ops, x: ir.Value, rank: int = 4) -> ir.Value:
    """Return a tensor N x H x W x C as N x C x H x W."""
    return op.Transpose(x, perm=[0, rank - 1, *range(1, rank - 1)])


def channels_last(op: Ops, x: ir.Value, rank: int = 4) -> ir.Value:
    """Return a tensor N x C x H x W as N x H x W x C."""
    return op.Transpose(x, perm=[0, *range(2, rank), 1])
