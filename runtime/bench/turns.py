"""Timing in turns: a machine that is slow for a while slows all candidates down alike."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

REST = 0.1


@dataclass(frozen=True)
class Spread:
    """The distribution of values: median, 95th percentile (linear between neighbours), extremes, count."""

    p50: float
    p95: float
    min: float
    max: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Return the distribution of one value or more."""
    least, p50, p95, most = np.percentile(values, [0, 50, 95, 100]).tolist()
    return Spread(p50, p95, least, most, len(values))


def in_turns(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    done: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    rest: float = 0.0,
) -> dict[str, list[float]]:
    """Return the seconds of each function by name, one run of each in every round.

    Every round begins with another function, so that none always follows the same one. Nothing is warmed up: callers
    that look at the results first have run each function once.

    Args:
        work: The functions by name.
        rounds: Runs of each.
        done: Called after every run.
        clock: Returns seconds.
        rest: Seconds of waiting before each run: a session's threads keep their cores busy for a while after a run.
    """
    names = list(work)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for round_ in range(rounds):
        first = round_ % max(len(names), 1)
        for name in names[first:] + names[:first]:
            time.sleep(rest)
            start = clock()
            work[name]()
            seconds[name].append(clock() - start)
            done()
    return seconds
