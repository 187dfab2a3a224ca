"""The outputs of a source, computed from the logits of its bundle."""

import numpy as np

from fusioncam.export.endings.readings import log_sigmoid, log_softmax
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest, Source

TRACE = 1e-6  # of a probability whose logarithm is compared


def as_source(logits: Array, manifest: Manifest, logarithm: bool) -> Array:
    """Return the outputs of the source for logits (N, classes, ...): its ending, at its scale."""
    source, values = manifest.source, logits.astype(np.float64)
    ending = source.ending or manifest.ending
    if ending == "sigmoid":
        values = log_sigmoid(values)
    elif ending == "softmax":
        values = log_softmax(values)
    if ending in ("sigmoid", "softmax") and not logarithm:
        values = np.exp(values)
    return comparable(source.scale * values + source.offset, source, logarithm)


def sides(logits: Array, manifest: Manifest) -> list[Array]:
    """Return the logits as the source has them; of one output, by each of the two logits that were made of it."""
    both = manifest.source.outputs == 1 and manifest.classes == 2
    return [logits[:, 1:], -logits[:, :1]] if both else [logits]


def comparable(outputs: Array, source: Source, logarithm: bool) -> Array:
    """Return outputs for comparison: logarithms below that of `TRACE` count as it, since a source may clip them."""
    floor = source.scale * float(np.log(TRACE)) + source.offset
    if not logarithm:
        return outputs
    return np.asarray(np.maximum(outputs, floor) if source.scale > 0 else np.minimum(outputs, floor))
