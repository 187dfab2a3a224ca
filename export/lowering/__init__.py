"""Lowering: an operator without a gradient rule is written in operators that have one, on loading, before all else.

ONNX defines many operators by a body of other operators (`bodies`); others have a row in the table `LOWERINGS`.
"""

import onnx_ir as ir

from fusioncam.export.lowering import (  # noqa: F401  (importing enters the lowerings into the table)
    blocked,
    contrib,
    contrib_attention,
    contrib_norms,
    flow,
    ml,
    narrow_weights,
    quantised,
    recurrent,
)
from fusioncam.export.lowering.blocked import infer_channels, must_fill, reordered
from fusioncam.export.lowering.bodies import Uses, mark_bodies
from fusioncam.export.lowering.table import LOWERINGS, Call, apply, lowering

__all__ = ["LOWERINGS", "Call", "Uses", "lower", "lowering", "reordered", "straighten"]


def lower(model: ir.Model, refused: Uses | None = None) -> list[str]:
    """Replace the nodes of a model that can be lowered, also those within its branches and loops.

    Nodes that ONNX defines by a body become calls of local functions; the caller puts these in their place, and lowers
    again what they hold.

    Args:
        model: A model at a current opset, without local functions. It is changed.
        refused: Uses of operators that get the body that ONNX defines, although they have a gradient rule.

    Raises:
        ModelError: The model holds blocks of channels that cannot be undone.

    Returns:
        Names of the tensors of the main graph that are computed in another way now.
    """
    infer_channels(model)
    lowered = [*apply(model), *mark_bodies(model, refused)]
    return lower(model, refused) if not lowered and must_fill(model) else lowered


def straighten(model: ir.Model) -> list[str]:
    """Write out short loops, and follow sequences, as far as constants and shapes are known now.

    Args:
        model: A model as it is after its constants are folded. It is changed, and wants to be folded again.

    Returns:
        Names of the tensors of the main graph that are computed in another way now.
    """
    flow.state_conditions(model)
    return [*apply(model, flow.SEQUENCE_OPERATORS), *flow.unroll(model)]
