"""The gradient rules, a small one per ONNX operator, in the table `RULES`."""

from fusioncam.export.gradient.rules import (  # noqa: F401  (importing enters the rules into the table)
    activation,
    attention,
    batch_normalization,
    convolution,
    einsum,
    elementwise,
    indexing,
    linear,
    normalization,
    pooling,
    quantised,
    reduction,
    resize,
    sampling,
    scatter,
    shape,
    sorting,
)
from fusioncam.export.gradient.rules.table import RULES

__all__ = ["RULES"]
