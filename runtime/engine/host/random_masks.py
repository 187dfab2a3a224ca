"""RISE on the host: passes of random masks, until their mean is known well enough."""

from collections.abc import Callable

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.kernels.reference import unit
from fusioncam.kernels.rise import MaskedMeans, RandomMasks, Sampling
from fusioncam.runtime.engine.host.pass_budget import PassBudget
from fusioncam.runtime.engine.pace import Timer
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.explanation import STANDARD_ERROR

BATCH = 128  # masks from one look at the error to the next
FEWEST = 2  # one mask alone says nothing


class RandomMaps:
    """The maps of RISE of one picture, for all its targets.

    Args:
        budget: The budget of the picture, with its passes.
        sampling: Cells of a mask, and number of masks.
        seed: Of the masks.
        timer: Tells what fits before a deadline.

    Attributes:
        error: Standard error of the worst map, as a share of its range; 0 before the first mask.
    """

    def __init__(self, budget: PassBudget, sampling: Sampling, seed: int, timer: Timer | None = None) -> None:
        self._budget, self._passes, self._most, self._timer = budget, budget.passes, sampling.most, timer
        self._masks = RandomMasks(self._passes.size, sampling.cells, seed)
        self.error = 0.0

    @property
    def expected(self) -> int:
        """Return the most passes that other methods have to count on: none where the budget is shared with them."""
        return 0 if self._budget.is_shared else self._budget.of(self._most, FEWEST, 0)

    def run(self, passes_remaining: int, updated: Callable[[list[Array]], None]) -> Task[list[Array]]:
        """Pass masks until the budget ends, or the error is within `STANDARD_ERROR`; return the maps.

        Args:
            passes_remaining: Passes that later steps will ask for.
            updated: Called with the maps whenever they are better.
        """
        passes, readout = self._passes, self._passes.readout
        most, means = (
            self._budget.of(self._most, FEWEST, passes_remaining),
            MaskedMeans(passes.size, len(readout.targets)),
        )

        def take(masks: list[Float32Array], answers: Float32Array) -> None:
            means.add(np.stack(masks), readout.confidences(answers))

        passes.total = passes.done + most + passes_remaining
        if self._timer is not None:
            self._timer.begin(passes_remaining, 1)
        maps: list[Array] = []
        while (count := self._next(most - means.count)) and (not maps or self.error > STANDARD_ERROR):
            yield from passes.of_masks(range(means.count, means.count + count), self._masks.mask, take)
            self.error = float(means.errors().max())
            maps = [unit(m, m.ndim) for m in means.maps()]
            updated(maps)
        if self._timer is not None:
            self._timer.scored()
        passes.total = passes.done + passes_remaining
        return maps

    def _next(self, left: int) -> int:
        """Return the number of masks to pass before the next look at the error; 0 at the end of the time."""
        fits = self._timer.step(0) if self._timer is not None and self._budget.in_time else left
        return min(BATCH, left, fits)
