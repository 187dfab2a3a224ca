"""RISE on the host: passes of random masks, until their mean is known well enough."""

from collections.abc import Callable

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array
from fusioncam.kernels.reference import unit
from fusioncam.kernels.rise import FEWEST, MaskedMeans, RandomMasks, Sampling
from fusioncam.runtime.engine.host.pass_budget import PassBudget
from fusioncam.runtime.engine.pace import Timer
from fusioncam.runtime.engine.scheduler import Task
from fusioncam.runtime.explanation import STANDARD_ERROR
from fusioncam.runtime.targets.readout import Readout

BATCH = 128  # masks from one look at the error to the next


class RandomMaps:
    """The maps of RISE of one picture, made once for all its targets, whatever levels explain them.

    Args:
        readout: The readout of all targets.
        sampling: Cells of a mask, and number of masks.
        seed: Of the masks.

    Attributes:
        error: Standard error of the worst map, as a share of its range; 0 before the first mask.
    """

    def __init__(self, readout: Readout, sampling: Sampling, seed: int) -> None:
        self._readout, self._sampling, self._seed = readout, sampling, seed
        self._maps: list[Array] = []
        self.error = 0.0

    def expected(self, budget: PassBudget) -> int:
        """Return the most passes that other methods have to count on: none where the budget is shared with them."""
        return 0 if self._maps or budget.is_shared else budget.of(self._sampling.most, FEWEST, 0)

    def run(
        self, budget: PassBudget, timer: Timer | None, passes_remaining: int, updated: Callable[[list[Array]], None]
    ) -> Task[list[Array]]:
        """Pass masks until the budget ends, or the error is within `STANDARD_ERROR`; return the maps of all targets.

        Args:
            budget: The budget, with the passes of the picture.
            timer: Tells what fits before a deadline.
            passes_remaining: Passes that later steps will ask for.
            updated: Called with the maps whenever they are better.
        """
        if self._maps:
            return self._maps
        passes, readout = budget.passes, self._readout
        masks = RandomMasks(passes.size, self._sampling.cells, self._seed)
        means = MaskedMeans(passes.size, len(readout.targets))
        most = budget.of(self._sampling.most, FEWEST, passes_remaining)

        def take(made: list[Float32Array], answers: Float32Array) -> None:
            means.add(np.stack(made), readout.confidences(answers))

        def ahead() -> int:
            left = min(BATCH, most - means.count)
            return min(left, timer.step(0)) if timer is not None and budget.in_time else left

        passes.total = passes.done + most + passes_remaining
        if timer is not None:
            timer.begin(passes_remaining, 1)
        while (count := ahead()) and (not self._maps or self.error > STANDARD_ERROR):
            yield from passes.of_masks(range(means.count, means.count + count), masks.mask, take, readout)
            self.error = float(means.errors().max())
            self._maps = [unit(m, m.ndim) for m in means.maps()]
            updated(self._maps)
        if timer is not None:
            timer.scored()
        passes.total = passes.done + passes_remaining
        return self._maps
