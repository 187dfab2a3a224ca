"""The way from a budget to the plan that chooses which channels get a masked pass."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array, Float64Array, IndexArray
from fusioncam.kernels.cam_methods import seen_at
from fusioncam.kernels.reference import places_of
from fusioncam.runtime.budget.channel_plan import AdaptivePlan, ChannelPlan, ExhaustivePlan, TimeLeft
from fusioncam.runtime.budget.kinds import Auto, Budget, Deadline, checked_budget
from fusioncam.runtime.budget.posterior import ScorePosterior
from fusioncam.runtime.budget.surrogate import Masks
from fusioncam.runtime.explanation import TOLERANCE

FEWEST = 48  # channels that auto guesses among: of fewer, a first guess and its checks take most
FINEST = 16  # side of the grid that masks are compared on, at most


class Evidence(NamedTuple):
    """The data that scores are predicted from.

    Attributes:
        masks: M at the layer's resolution (K, h, w).
        activations: A (K, h, w).
        gradients: g (K, h, w) of each class.
        full: f_c(x) of each class c.
        local: Whether maps sum activations by `seen_at`.
    """

    masks: Array
    activations: Array
    gradients: Sequence[Array]
    full: Sequence[float]
    local: bool = False

    def summed(self, gradient: Array) -> Array:
        """Return the activations as the map of the class of a gradient sums them."""
        return seen_at(self.activations, gradient) if self.local else self.activations


def plan_for(
    budget: Budget,
    live: IndexArray,
    evidence: Callable[[], Evidence],
    others: int,
    grain: int,
    time: TimeLeft | None = None,
) -> ChannelPlan:
    """Return the plan that chooses the channels to score.

    Args:
        budget: The budget.
        live: The channels k that may matter, of K.
        evidence: Returns the data that scores are predicted from; called only if some are predicted.
        others: Passes that the explanation takes besides those of channels.
        grain: Pictures that are best passed together.
        time: The time that is left, which a deadline needs.

    Raises:
        UsageError: The budget is too small for a single channel.
    """
    budget, most = checked_budget(budget), len(live)
    if isinstance(budget, int):
        most = budget - others
    elif isinstance(budget, float):
        most = math.ceil(budget * len(live))
    if isinstance(budget, int) and most < 1:
        raise UsageError(f"a budget of {budget} passes is too small: {others} are needed besides those of channels")
    waits = isinstance(budget, Auto)
    # All at once where twice as many fit: then they do on a machine that slows down meanwhile, too.
    hurries = isinstance(budget, Deadline) and time is not None and time.fits(0) < 2 * len(live)
    guesses = most < len(live) or hurries or (waits and len(live) >= FEWEST)
    if not len(live) or budget == "exact" or not guesses:
        return ExhaustivePlan(live)
    known = evidence()
    small = _shrunk(known.masks[live])
    activity = _shrunk(np.einsum("k...->...", known.activations)[None])[0]
    posteriors = []
    for gradient, logit in zip(known.gradients, known.full, strict=True):
        positions = _shrunk(np.einsum("k...,k...->...", gradient, known.activations)[None])[0]
        drawn = _drawn(known.summed(gradient)[live])
        posteriors.append(ScorePosterior(Masks(small, positions, activity), drawn, logit))
    tolerance = budget.tolerance if isinstance(budget, Auto) else TOLERANCE
    return AdaptivePlan(live, posteriors, most, tolerance, waits, grain, time if hurries else None)


def _drawn(activations: Array) -> Float64Array:
    """Return activations (n, h, w) as rows without their means; the estimated error has no unit."""
    rows = _shrunk(activations).reshape(len(activations), -1)
    rows = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(rows / max(np.abs(rows).max(), np.finfo(np.float64).tiny))


def _shrunk(maps: Array) -> Float64Array:
    """Return maps (n, h, w) in float64, on a grid of at most `FINEST` x `FINEST`, or of as many places."""
    rank = maps.ndim - 1
    most = round(FINEST ** (2 / rank))
    if max(maps.shape[1:]) <= most:
        return maps.astype(np.float64)
    if rank == 2:
        size = min(maps.shape[2], most), min(maps.shape[1], most)
        return np.stack([cv2.resize(m.astype(np.float64), size, interpolation=cv2.INTER_AREA) for m in maps])
    shrunk = maps.astype(np.float64)
    for axis in places_of(maps):
        length = maps.shape[axis]
        starts = np.linspace(0, length, min(length, most) + 1).round().astype(np.intp)
        counts = np.diff(starts).reshape(-1, *[1] * (rank - axis))
        shrunk = np.add.reduceat(shrunk, starts[:-1], axis) / counts
    return np.asarray(shrunk)
