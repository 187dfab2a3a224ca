"""The catalogue of metrics: their names, what they mean, and the flags of maps that cannot be measured."""

import math
from typing import Literal, NamedTuple

import numpy as np

from fusioncam.kernels.arrays import Float32Array


class Metric(NamedTuple):
    """A figure of one map; over pictures its mean counts.

    Attributes:
        label: The usual name of the mean.
        better: The good values.
        option: The option of `fusioncam evaluate` that measures it; several metrics may share one.
        source: The paper that defines the metric.
        meaning: A sentence or two for the report.
    """

    label: str
    better: Literal["higher", "lower"]
    option: str
    source: str
    meaning: str


METRICS = {
    "drop": Metric(
        "Average Drop",
        "lower",
        "--metrics drop",
        "Grad-CAM++, arXiv 1710.11063",
        "How much of the model's confidence p in the class is lost when the picture is multiplied by the map: "
        "max(0, p - q) / p with q the confidence then, mean over the photos. A map that keeps the whole picture "
        "drops nothing: read it beside the others.",
    ),
    "increase": Metric(
        "Increase in Confidence",
        "higher",
        "--metrics drop",
        "Grad-CAM++, arXiv 1710.11063",
        "Share of the photos on which the confidence is greater under the map than without it.",
    ),
    "insertion": Metric(
        "Insertion AUC",
        "higher",
        "--metrics insertion",
        "RISE, arXiv 1806.07421",
        "Area under the confidence while the pixels enter a blurred picture, the most salient first. The sooner "
        "the class is recognised, the larger it is.",
    ),
    "deletion": Metric(
        "Deletion AUC",
        "lower",
        "--metrics deletion",
        "RISE, arXiv 1806.07421",
        "Area under the confidence while the pixels are taken out, the most salient first. The sooner the class is "
        "lost, the smaller it is.",
    ),
    "road": Metric(
        "ROAD",
        "higher",
        "--metrics road",
        "arXiv 2202.00449, combined as in pytorch-grad-cam",
        "Remove and debias: pixels are replaced by what their neighbours let expect, with noise, so that the model "
        "cannot see the shape of the hole. Half the difference between removing the least and the most relevant "
        "first.",
    ),
    "road_morf": Metric(
        "ROAD, most relevant first",
        "lower",
        "--metrics road",
        "arXiv 2202.00449",
        "Change of the confidence when the most relevant pixels are removed as for ROAD.",
    ),
    "road_lerf": Metric(
        "ROAD, least relevant first",
        "higher",
        "--metrics road",
        "arXiv 2202.00449",
        "Change of the confidence when the least relevant pixels are removed as for ROAD.",
    ),
    "pointing": Metric(
        "Pointing game",
        "higher",
        "--annotations",
        "arXiv 1608.00507",
        "Share of the photos on which the map's maximum lies on an object of the class.",
    ),
    "energy": Metric(
        "Energy pointing game",
        "higher",
        "--annotations",
        "Score-CAM, arXiv 1910.01279",
        "Share of the map's sum that lies on an object of the class.",
    ),
    "sanity": Metric(
        "Likeness under shuffled weights",
        "lower",
        "--sanity",
        "arXiv 1810.03292",
        "Likeness, by ranks, of the map to that of the same model with its weights shuffled, from 0 to 1. A map "
        "that stays the same shows the picture, not the model.",
    ),
}

SIZES = {"small": 32**2, "medium": 96**2, "large": math.inf}
"""The sizes of objects as COCO names them, with the least area in pixels of the photo that is too large for each."""

ASK = "--metrics "


def _by_option() -> dict[str, list[str]]:
    """Return the names of the metrics by the option that measures them."""
    names: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        names.setdefault(metric.option, []).append(name)
    return names


ASKED = tuple(option.removeprefix(ASK) for option in _by_option() if option.startswith(ASK))
"""The names that `--metrics` takes."""


def choices_of_metrics() -> str:
    """Return the names that `--metrics` takes and those that come with other options, for a help text or an error."""
    asked, others = list[str](), list[str]()
    for option, names in _by_option().items():
        if option.startswith(ASK):
            first, *more = names
            asked.append(f"{first} (with {' and '.join(more)})" if more else first)
        else:
            others.append(f"{option} adds {' and '.join(names)}")
    return f"{', '.join(asked)}; {', '.join(others)}"


FLAGS = {
    "nan_map": "the map holds NaN or infinity: nothing was measured",
    "blank_map": "the map is zero everywhere: the figures are what the formulas give for such a map",
    "no_confidence": "the model gives the class no positive confidence to begin with: there is no drop",
    "road_nothing_kept": "many pixels of the map are equal, and some of ROAD's thresholds remove every pixel",
    "no_sanity": "the model with shuffled weights gives NaN: there is no sanity figure",
    "no_object": "the object's mask is empty: nothing was measured",
}


def size_of(area: float) -> str:
    """Return the size of an object by its area, see `SIZES`."""
    return next(name for name, limit in SIZES.items() if area < limit)


def flags_of(saliency: Float32Array) -> tuple[str, ...]:
    """Return the flags of a map (H, W) that is damaged or blank."""
    if not np.isfinite(saliency).all():
        return ("nan_map",)
    return () if saliency.any() else ("blank_map",)


def fault(array: Float32Array, size: tuple[int, ...]) -> str | None:
    """Return why an array is no map of a picture of `size` (H, W), or None where it is one."""
    if array.shape != size:
        return f"its shape is {array.shape}, not {size}"
    if not np.isfinite(array).all():
        return "it holds NaN or infinity"
    if array.min() < 0 or array.max() > 1:
        return f"it goes from {array.min():.3g} to {array.max():.3g}, not from 0 to 1"
    return None
