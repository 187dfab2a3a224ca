"""Budgets of masked passes: `channel_plan` chooses which channels get a pass, by a `posterior` of their scores."""

import math
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Float64Array, IndexArray
from fusioncam.runtime.budget.channel_plan import AdaptivePlan, ChannelPlan, ExhaustivePlan
from fusioncam.runtime.budget.posterior import ScorePosterior
from fusioncam.runtime.budget.surrogate import Masks

Budget = Literal["exact", "auto"] | int | float

WORDS = ("exact", "auto")
FINEST = 16  # side of the grid that masks are compared on, at most


class Evidence(NamedTuple):
    """The data that scores are predicted from.

    Attributes:
        masks: M at the layer's resolution (K, h, w).
        activations: A (K, h, w).
        gradients: g (K, h, w) of each class.
        full: f_c(x) of each class c.
    """

    masks: Array
    activations: Array
    gradients: Sequence[Array]
    full: Sequence[float]


def checked_budget(value: Any) -> Budget:
    """Return a budget: `exact`, `auto`, a number of passes or a share of the channels.

    Raises:
        UsageError: The value is no budget.
    """
    if isinstance(value, str) and value in WORDS:
        return value  # type: ignore[return-value]
    try:
        number = None if isinstance(value, bool | str) else operator.index(value)
    except TypeError:
        number = None
    if number is not None and number > 0:
        return number
    share = float(value) if isinstance(value, float | np.floating) else math.nan
    if 0 < share <= 1:
        return share
    raise UsageError(f"no budget {value!r}; use exact, auto, a number of passes like 64, or a share like 0.2")


def parse_budget(text: str) -> Budget:
    """Return a budget of the command line: 200 is a number of passes, 0.2 and 1.0 are shares.

    Raises:
        UsageError: The text is no budget.
    """
    text = text.strip()
    if re.fullmatch("[0-9]{1,9}", text):
        return checked_budget(int(text))
    share = re.fullmatch(r"[0-9]{0,9}\.[0-9]{1,20}|[0-9]{1,9}\.|[0-9]{1,2}(\.[0-9]{1,20})?e-[0-9]{1,3}", text)
    return checked_budget(float(text) if share else text)


def plan_for(
    budget: Budget,
    live: IndexArray,
    evidence: Callable[[], Evidence],
    others: int,
    grain: int,
) -> ChannelPlan:
    """Return the plan that chooses the channels to score.

    Args:
        budget: The budget.
        live: The channels k that may matter, of K.
        evidence: Returns the data that scores are predicted from; called only if some are predicted.
        others: Passes that the explanation takes besides those of channels.
        grain: Pictures that are best passed together.

    Raises:
        UsageError: The budget is too small for a single channel.
    """
    most = len(live)
    if isinstance(budget, int):
        most = budget - others
    elif isinstance(budget, float):
        most = math.ceil(budget * len(live))
    if isinstance(budget, int) and most < 1:
        raise UsageError(f"a budget of {budget} passes is too small: {others} are needed besides those of channels")
    if not len(live) or budget == "exact" or (most >= len(live) and budget != "auto"):
        return ExhaustivePlan(live)
    masks, activations, gradients, full = evidence()
    small, drawn = _shrunk(masks[live]), _shrunk(activations[live]).reshape(len(live), -1)
    drawn = drawn - drawn.mean(axis=1, keepdims=True)
    activity = _shrunk(np.einsum("khw->hw", activations)[None])[0]
    posteriors = []
    for gradient, logit in zip(gradients, full, strict=True):
        positions = _shrunk(np.einsum("khw,khw->hw", gradient, activations)[None])[0]
        posteriors.append(ScorePosterior(Masks(small, positions, activity), drawn, logit))
    return AdaptivePlan(live, posteriors, most, stop_early=budget == "auto", grain=grain)


def _shrunk(maps: Array) -> Float64Array:
    """Return maps (n, h, w) in float64, on a grid of at most `FINEST` x `FINEST`."""
    _, height, width = maps.shape
    if max(height, width) <= FINEST:
        return maps.astype(np.float64)
    size = min(width, FINEST), min(height, FINEST)
    return np.stack([cv2.resize(m.astype(np.float64), size, interpolation=cv2.INTER_AREA) for m in maps])
