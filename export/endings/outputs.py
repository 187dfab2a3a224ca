"""What a source gives for the logits of its bundle."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fusioncam.manifest import Manifest, Source

Array = npt.NDArray[Any]

TRACE = 1e-6  # of a probability whose logarithm is compared


def as_source(logits: Array, manifest: Manifest, logarithm: bool) -> Array:
    """What the source would give for the logits: its ending, at its scale."""
    source, values = manifest.source, logits.astype(np.float64)
    ending = source.ending or manifest.ending
    if ending == "sigmoid":
        values = -np.logaddexp(0, -values)
    elif ending == "softmax":
        values = values - values.max(axis=1, keepdims=True)
        values = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    if ending in ("sigmoid", "softmax") and not logarithm:
        values = np.exp(values)
    return comparable(source.scale * values + source.offset, source, logarithm)


def comparable(outputs: Array, source: Source, logarithm: bool) -> Array:
    """Make outputs comparable: logarithms of less than `TRACE` count as that of it, for a source may clip them."""
    floor = source.scale * float(np.log(TRACE)) + source.offset
    if not logarithm:
        return outputs
    return np.asarray(np.maximum(outputs, floor) if source.scale > 0 else np.minimum(outputs, floor))
