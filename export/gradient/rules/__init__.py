"""The gradient rules, a small one per ONNX operator, in `RULES`, and in `BODY_RULES` where it holds bodies."""

from fusioncam.export.gradient.rules import (  # noqa: F401  (importing enters the rules into the table)
    activation,
    attention,
    batch_normalization,
    convolution,
    deformable,
    einsum,
    elementwise,
    flow,
    indexing,
    linear,
    normalization,
    pooling,
    quantised,
    recurrent,
    reduction,
    regions,
    resize,
    sampling,
    scatter,
    shape,
    signal,
    sorting,
)
from fusioncam.export.gradient.rules.table import BODY_RULES, RULES

__all__ = ["BODY_RULES", "RULES"]
