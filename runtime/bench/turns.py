"""Timing several ways of doing the same, in turns: what slows the machine down for a while slows all of them down."""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

REST = 0.1


@dataclass(frozen=True)
class Spread:
    """How values lie, in their own unit: median, 95th percentile (linear between neighbours), extremes, how many."""

    p50: float
    p95: float
    min: float
    max: float
    count: int


def spread(values: Sequence[float]) -> Spread:
    """Median, 95th percentile and extremes of one value or more."""
    ordered = sorted(values)
    place = 0.95 * (len(ordered) - 1)
    low = ordered[int(place)]
    p95 = low + (place - int(place)) * (ordered[min(int(place) + 1, len(ordered) - 1)] - low)
    return Spread(statistics.median(ordered), p95, ordered[0], ordered[-1], len(ordered))


def in_turns(
    work: Mapping[str, Callable[[], object]],
    rounds: int,
    done: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    rest: float = 0.0,
) -> dict[str, list[float]]:
    """Seconds that each of `work` takes, one run of each in every round.

    Every round begins with another one, so that none always follows the same. Nothing is warmed up here: whoever looks
    at the results first has run them once.

    Args:
        work: What to run, by name.
        rounds: How often.
        done: Called after every run.
        clock: Seconds.
        rest: Seconds to wait before each run. A session's threads keep their cores busy for a while after a run, which
            would slow down whoever comes next.
    """
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds):
        for name in rotated(list(work), round_):
            time.sleep(rest)
            start = clock()
            work[name]()
            seconds[name].append(clock() - start)
            done()
    return seconds


def rotated(names: Sequence[str], by: int) -> Iterator[str]:
    """The names, beginning with another one."""
    return (names[(i + by) % len(names)] for i in range(len(names)))
