"""Checks of what sessions take and give."""

from typing import Any

import numpy as np
import onnxruntime

from fusioncam.errors import NotFiniteError
from fusioncam.kernels.arrays import Array


def refuse_nan(array: Array, name: str) -> None:
    """Raise NotFiniteError where `array` holds NaN or infinity."""
    if not np.isfinite(array).all():
        raise NotFiniteError(
            f"the model gives NaN or infinite {name} for this picture; check its preprocessing, or use float32 weights"
        )


def input_type(session: onnxruntime.InferenceSession) -> type[np.floating[Any]]:
    """Return the type of the score graph's pictures."""
    return np.float16 if session.get_inputs()[0].type == "tensor(float16)" else np.float32
