"""Timing in turns: who runs when, and what is made of the seconds. No real clock."""

import numpy as np
import pytest

from fusioncam.runtime.bench.turns import in_turns, spread


class Clock:
    """Stands still unless told."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("count", [1, 2, 7, 20, 101])
def test_spread(count):
    values = list(np.random.default_rng(count).random(count))
    found = spread(values)
    assert found.count == count
    for key, q in {"p50": 50, "p95": 95, "min": 0, "max": 100}.items():
        assert getattr(found, key) == pytest.approx(np.percentile(values, q))


def test_everybody_runs_once_a_round_and_each_round_begins_with_another():
    order, ticks = [], []
    work = {name: lambda name=name: order.append(name) for name in "abc"}
    found = in_turns(work, 4, lambda: ticks.append(1))
    assert ["".join(order[i : i + 3]) for i in range(0, 12, 3)] == ["abc", "bca", "cab", "abc"]
    assert len(ticks) == 12
    assert {name: len(seconds) for name, seconds in found.items()} == {"a": 4, "b": 4, "c": 4}


def test_seconds_are_those_of_the_run_itself():
    clock = Clock()

    def taking(seconds):
        def run():
            clock.now += seconds

        return run

    def between():
        clock.now += 100.0

    found = in_turns({"slow": taking(2.0), "fast": taking(0.5)}, 3, between, clock)
    assert found == {"slow": [2.0] * 3, "fast": [0.5] * 3}


def test_nobody_takes_no_time():
    assert in_turns({}, 3) == {}
