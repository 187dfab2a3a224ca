"""The evidence of maps in NumPy, by what the explain graph gives for a picture and a target."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fusioncam.forms import ACTIVATIONS, GRADIENTS, of_level
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.cam_methods import seen_at
from fusioncam.manifest import Manifest


class Evidence(NamedTuple):
    """The layer that explains a target.

    Attributes:
        activations: A (K, h, w), of which masks are made.
        gradients: g (K, h, w); None without a gradient.
        summed: A as maps sum it, float64.
    """

    activations: Array
    gradients: Array | None
    summed: Array


def evidence_names(manifest: Manifest) -> list[str]:
    """Return the outputs of the explain graph that hold the evidence."""
    names = (ACTIVATIONS, *[GRADIENTS] * manifest.gradient)
    return [of_level(name, n) for name in names for n in range(len(manifest.layers))]


def evidence_of(manifest: Manifest, outputs: Mapping[str, Array]) -> Evidence:
    """Return the evidence of one picture: of several levels, that of the last one whose gradient is not zero.

    Args:
        manifest: The bundle's.
        outputs: Those of the explain graph by name, of one row.
    """
    slopes = [outputs[of_level(GRADIENTS, n)][0] for n in range(len(manifest.layers))] if manifest.gradient else []
    level = max((n for n, g in enumerate(slopes) if g.any()), default=0)
    activations, gradients = outputs[of_level(ACTIVATIONS, level)][0], slopes[level] if slopes else None
    summed = activations.astype(np.float64)
    if manifest.form.kind == "boxes" and gradients is not None:
        summed = seen_at(summed, gradients.astype(np.float64))
    return Evidence(activations, gradients, summed)
