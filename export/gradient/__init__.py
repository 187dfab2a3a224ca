"""The gradient of the graph: a table of one small rule per operator (`rules`), and one walker (`walk`).

The gradient is itself made of plain ONNX operators, all of which TensorRT's parser takes.
"""

from fusioncam.export.gradient.paths import (
    CARRY_NO_GRADIENT,
    ancestors,
    bodies,
    carries,
    decides_for_batch,
    is_chosen,
    path,
    reads,
)
from fusioncam.export.gradient.rules import RULES
from fusioncam.export.gradient.tape import Ops, dims
from fusioncam.export.gradient.walk import WAY_OUT, backpropagate, gradients, operator_name, unsupported

__all__ = [
    "CARRY_NO_GRADIENT",
    "RULES",
    "WAY_OUT",
    "Ops",
    "ancestors",
    "backpropagate",
    "bodies",
    "carries",
    "decides_for_batch",
    "dims",
    "gradients",
    "is_chosen",
    "operator_name",
    "path",
    "reads",
    "unsupported",
]
