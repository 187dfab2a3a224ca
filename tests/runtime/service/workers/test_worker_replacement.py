"""When workers are replaced, on a clock that is told the time."""

import os
import signal
from types import SimpleNamespace

import pytest

from fusioncam.errors import FusionCamError
from fusioncam.runtime.service.workers import worker_pool

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are those of POSIX systems")


class Mortal:
    """A worker as `WorkerPool` sees it; dead when `status` is set."""

    def __init__(self, listening, at_once, all_samples, changes):
        self.ready, self.status, self.process = False, None, SimpleNamespace(pid=0)
        self.heard, self.hung, self.samples, self.ended = worker_pool.time.monotonic(), False, {}, []
        MORTALS.append(self)

    @property
    def loading(self):
        return not self.ready

    def close(self):
        return []

    def end(self, number):
        self.ended.append(number)


MORTALS = []


@pytest.fixture
def two(monkeypatch):
    """`WorkerPool` of two that are not ready, and a clock."""
    now = [0.0]
    monkeypatch.setattr(worker_pool, "time", SimpleNamespace(monotonic=lambda: now[0]))
    MORTALS.clear()
    made = worker_pool.WorkerPool(Mortal, [None], 2, 0, None, lambda line: None)
    made._due = {0: 0.0, 1: 0.0}
    made._start_due_workers()
    return made, now


def test_one_that_cannot_start_does_not_end_those_that_have(two):
    made, now = two
    MORTALS[0].ready, pauses = True, []
    for _ in range(10):
        made._replace(1, 1)
        pauses.append(made._due[1] - now[0])
        now[0] = made._due[1]
        made._start_due_workers()
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert max(pauses) == pauses[-1] == 64.0
    made._replace(0, -9)  # which gets its chance, as any other
    with pytest.raises(FusionCamError, match="11 workers in a row died before they were ready"):
        made._replace(1, 1)


def test_one_that_becomes_ready_ends_the_row_of_failures(two):
    made, now = two
    MORTALS[0].ready, pauses = True, []
    made._forgive()
    for ready in (False, False, True, True):
        MORTALS[-1].ready = ready
        made._forgive()
        made._replace(1, -9)
        pauses.append(made._due[1] - now[0])
        now[0] = made._due[1]
        made._start_due_workers()
    assert pauses == [1.0, 2.0, 0.5, 0.5]


def test_one_that_gives_no_sign_of_life_is_replaced(two):
    made, now = two
    for mortal in MORTALS:
        mortal.ready = True
    for _ in range(int(worker_pool.SILENCE * 2) - 1):
        now[0] += 0.5
        MORTALS[0].heard = now[0]
        made._kill_hung_workers()
        assert [mortal.ended for mortal in MORTALS] == [[], []]
    now[0] += 0.75
    made._kill_hung_workers()
    assert [mortal.ended for mortal in MORTALS] == [[], [signal.SIGKILL]]


def test_one_that_loads_has_more_time(two):
    made, now = two
    for _ in range(int(worker_pool.LOADING) - 1):
        now[0] += 1
        made._kill_hung_workers()
    assert [mortal.ended for mortal in MORTALS] == [[], []]
    now[0] += 1
    made._kill_hung_workers()
    now[0] += 1
    made._kill_hung_workers()
    assert [mortal.ended for mortal in MORTALS] == [[signal.SIGKILL]] * 2


def test_none_is_killed_for_what_nobody_was_there_to_hear(two):
    made, now = two
    MORTALS[0].ready = True
    now[0] += 3600  # the machine slept, or this process was stopped
    made._kill_hung_workers()
    assert MORTALS[0].ended == []


def test_where_none_starts_it_ends(two):
    made, now = two
    for n in (0, 1):
        made._replace(n, 1)
    now[0] += 10
    made._start_due_workers()
    with pytest.raises(FusionCamError, match="3 workers in a row"):
        made._replace(0, 1)
