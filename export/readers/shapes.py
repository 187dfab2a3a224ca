"""The shapes of outputs: as the model declares them, or found by running it."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError
from fusioncam.export.readers.table import Shape
from fusioncam.export.reading.shapes import noise
from fusioncam.export.sessions import run

Shapes: TypeAlias = Mapping[ir.Value, Shape | None]


def shapes_of(model: ir.Model, values: Sequence[ir.Value], batch: int) -> Shapes:
    """Return the shapes of tensors, with the batch; None where there is no telling.

    Args:
        model: A model with the input `image`; it is run once if a shape is not declared.
        values: The tensors.
        batch: The only batch that the model takes, or 1.
    """
    shapes: dict[ir.Value, Shape | None] = {v: _declared(v, batch) for v in values}
    open_ones = [v for v in values if shapes[v] is None and (v.type is None or isinstance(v.type, ir.TensorType))]
    if open_ones:
        outputs = list(model.graph.outputs)
        model.graph.outputs[:] = open_ones
        try:
            found = run(model, {"image": noise(model, batch)})
            arrays = {v: a for v, a in zip(open_ones, found, strict=True) if isinstance(a, np.ndarray)}
            shapes.update({v: a.shape for v, a in arrays.items()})
        except ModelError:
            pass  # reading it as a vector tells why
        finally:
            model.graph.outputs[:] = outputs
    return shapes


def _declared(value: ir.Value, batch: int) -> Shape | None:
    if value.shape is None:
        return None
    first, *others = value.shape or (batch,)
    known = [d for d in others if isinstance(d, int) and d > 0]
    return (first if isinstance(first, int) else batch, *known) if len(known) == len(others) else None
