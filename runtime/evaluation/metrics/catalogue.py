"""What is measured of a map: the names of the figures, and what can be wrong with a map."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array


class Metric(NamedTuple):
    """A figure of one map; over pictures its mean counts.

    Attributes:
        label: What people call its mean.
        better: Which values are good.
        source: Where it is defined.
    """

    label: str
    better: Literal["higher", "lower"]
    source: str


METRICS = {
    "drop": Metric("Average Drop", "lower", "Grad-CAM++, arXiv 1710.11063"),
    "increase": Metric("Increase in Confidence", "higher", "Grad-CAM++, arXiv 1710.11063"),
    "insertion": Metric("Insertion AUC", "higher", "RISE, arXiv 1806.07421"),
    "deletion": Metric("Deletion AUC", "lower", "RISE, arXiv 1806.07421"),
    "road": Metric("ROAD", "higher", "arXiv 2202.00449, combined as in pytorch-grad-cam"),
    "road_morf": Metric("ROAD, most relevant first", "lower", "arXiv 2202.00449"),
    "road_lerf": Metric("ROAD, least relevant first", "higher", "arXiv 2202.00449"),
    "pointing": Metric("Pointing game", "higher", "arXiv 1608.00507"),
    "energy": Metric("Energy pointing game", "higher", "Score-CAM, arXiv 1910.01279"),
    "sanity": Metric("Likeness under shuffled weights", "lower", "arXiv 1810.03292"),
}

FLAGS = {
    "nan_map": "the map holds NaN or infinity: nothing was measured",
    "blank_map": "the map is zero everywhere: the figures are what the formulas give for such a map",
    "no_confidence": "the model gives the class no positive confidence to begin with: there is no drop",
    "road_nothing_kept": "many pixels of the map are equal, and some of ROAD's thresholds remove every pixel",
    "no_sanity": "the model with shuffled weights gives NaN: there is no sanity figure",
    "no_object": "the object's mask is empty: nothing was measured",
}


@dataclass(frozen=True)
class Measured:
    """What was found about one map.

    Attributes:
        values: Figures by the names of `METRICS`, and what they are made of. NaN where there is none.
        curves: Values of p_c along the way, by metric.
        flags: Which of `FLAGS` were met.
    """

    values: dict[str, float] = field(default_factory=dict)
    curves: dict[str, Array] = field(default_factory=dict)
    flags: tuple[str, ...] = ()


def merged(parts: Iterable[Measured]) -> Measured:
    """All that several metrics found about one map."""
    values: dict[str, float] = {}
    curves: dict[str, Array] = {}
    flags: dict[str, None] = {}
    for part in parts:
        values |= part.values
        curves |= part.curves
        flags |= dict.fromkeys(part.flags)
    return Measured(values, curves, tuple(flags))


def flags_of(saliency: Float32Array) -> tuple[str, ...]:
    """What is wrong with a map (H, W)."""
    if not np.isfinite(saliency).all():
        return ("nan_map",)
    return () if saliency.any() else ("blank_map",)


def fault(found: Float32Array, size: tuple[int, ...]) -> str | None:
    """Why an array is no map of a picture of `size` (H, W), if it is none."""
    if found.shape != size:
        return f"its shape is {found.shape}, not {size}"
    if not np.isfinite(found).all():
        return "it holds NaN or infinity"
    if found.min() < 0 or found.max() > 1:
        return f"it goes from {found.min():.3g} to {found.max():.3g}, not from 0 to 1"
    return None
