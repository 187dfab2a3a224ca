"""The levels of a detector's neck: which of them explain which targets, and how they share passes and time."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import BoolArray
from fusioncam.runtime.budget import Deadline
from fusioncam.runtime.engine.pace import end_of
from fusioncam.runtime.engine.progress import Progress
from fusioncam.runtime.engine.recipe import fewest_passes
from fusioncam.runtime.engine.request import ExplainRequest, prepared, reserved_passes


class Level(NamedTuple):
    """A level, and the targets that it explains.

    Attributes:
        number: Its number among the layers of the manifest.
        targets: The numbers of the targets.
        channels: K of its activations.
    """

    number: int
    targets: Sequence[int]
    channels: int


def levels_of(seen: BoolArray, rows: Sequence[int], channels: Sequence[int], every: bool) -> list[Level]:
    """Return the levels that explain targets, in the order of the graph.

    A detection is explained by the level of its anchor: the last one on which the detection depends, as those before it
    reach it by way of later ones, too. A sum of detections is explained by the level of each.

    Args:
        seen: Whether a row of the targets depends on a level, (levels, rows).
        rows: The number of rows of each target.
        channels: K of each level.
        every: Whether every level on which a target depends explains it.
    """
    count = len(channels)
    own = np.zeros_like(seen)
    last = count - 1 - seen[::-1].argmax(axis=0)
    own[np.where(seen.any(axis=0), last, 0), np.arange(seen.shape[1])] = True  # one that depends on none has blank maps
    starts = [0, *np.cumsum(rows)[:-1].tolist()]
    of_targets = np.logical_or.reduceat(own | (seen & every), starts, axis=1)
    found = [np.flatnonzero(of_level).tolist() for of_level in of_targets]
    return [Level(n, targets, channels[n]) for n, targets in enumerate(found) if targets]


def shared(request: ExplainRequest, levels: Sequence[Level], n: int, done: int) -> ExplainRequest:
    """Return the request for the n-th of several levels, with its share of the passes or of the time that is left.

    Levels share by their channels what is left beside the passes that each takes in any case. What a verdict takes is
    set apart.

    Args:
        request: The request of all levels.
        levels: The levels.
        n: The place of this one.
        done: Passes that the levels before it ran.

    Raises:
        UsageError: The budget is a number that is too small.
    """
    _, targets = prepared(request)
    level, left = levels[n], levels[n:]
    share = level.channels / sum(each.channels for each in left)
    budget = request.budget
    if isinstance(budget, int):
        needed = [fewest_passes(request.methods, len(each.targets)) for each in left]
        free = budget - done - sum(needed) - reserved_passes(request)
        if free < 0:
            raise UsageError(f"a budget of {budget} passes is too small: {budget - free} are needed")
        budget = needed[0] + int(free * share)
    until = None
    if isinstance(budget, Deadline):
        now = request.clock.now()
        until = now + (end_of(request) - now) * share
    return replace(
        request,
        targets=[targets[t] for t in level.targets],
        budget=budget,
        until=until,
        progress=_counted_on(request.progress, done, (1 - share) / share),
        verify=False,
    )


def _counted_on(progress: Progress | None, done: int, later: float) -> Progress | None:
    """Return the progress callback after so many passes, before `later` times those of this level."""
    if progress is None:
        return None
    report: Callable[[int, int], None] = progress
    return lambda own, total: report(done + own, done + total + round(later * total))
