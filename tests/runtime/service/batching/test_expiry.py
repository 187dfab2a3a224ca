"""Jobs whose time is over, or whose client leaves."""

import asyncio
import gc
import time
import weakref

import numpy as np
import pytest

from fusioncam.errors import DeadlineError

ALL = 13  # passes of an exact explanation of `tiny`
SOON = 60.0  # seconds


def test_a_job_whose_time_is_over_spends_no_more_passes(batcher, pictures, submit, job):
    made, gate = batcher(shut=True, chunk=2)
    late = submit(made, job(pictures[0], seconds=0.2))
    gate.wait()
    time.sleep(0.25)
    gate.let()
    with pytest.raises(DeadlineError, match=r"no explanation within 0.2 s: it was stopped after 2 of 13 masked passes"):
        late.result(SOON)[0]
    assert gate.runs == [2]
    assert submit(made, job(pictures[0])).result(SOON)[0].passes.run == ALL


def test_a_job_that_waits_too_long_is_never_begun(batcher, pictures, explain, job):
    made, gate = batcher(shut=True, max_batch=1)

    async def meet():
        first = asyncio.create_task(explain(made, job(pictures[0])))
        await asyncio.to_thread(gate.wait)
        with pytest.raises(DeadlineError, match="before its turn came"):
            await explain(made, job(pictures[1], seconds=0.05))
        assert made.waiting == 0
        gate.let()
        await first

    asyncio.run(meet())
    assert sum(gate.runs) == ALL


def test_a_deadline_that_is_past(batcher, pictures, submit, explain, job):
    made, gate = batcher()
    with pytest.raises(DeadlineError, match="no time was left for an explanation"):
        asyncio.run(explain(made, job(pictures[0], seconds=-1)))
    with pytest.raises(DeadlineError, match="before its turn came"):
        submit(made, job(pictures[0], seconds=-1)).result(SOON)[0]
    assert gate.runs == []


def test_a_client_that_leaves_stops_its_work(batcher, pictures, submit, explain, job):
    made, gate = batcher(shut=True, chunk=2)

    async def leave():
        task = asyncio.create_task(explain(made, job(pictures[0])))
        await asyncio.to_thread(gate.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    gate.let()
    assert submit(made, job(pictures[1], methods=("grad_cam",))).result(SOON)[0].passes.run == 0
    assert gate.runs == [2]
    assert made.running == 0


def test_a_client_that_leaves_the_queue_makes_room(batcher, pictures, submit, job):
    made, gate = batcher(shut=True, max_batch=1, queue=1)
    first = submit(made, job(pictures[0]))
    gate.wait()
    gone = submit(made, job(pictures[1]))
    gone.cancel()
    assert made.waiting == 0
    other = submit(made, job(pictures[2]))
    gate.let()
    for future in (first, other):
        future.result(SOON)[0]
    assert sum(gate.runs) == 2 * ALL


@pytest.fixture
def _no_garbage_collector():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_garbage_collector")
@pytest.mark.parametrize("end", ["found", "failed", "late", "left"])
def test_jobs_that_have_ended_are_let_go_at_once(batcher, pictures, end, submit, job):
    """Nothing waits for the garbage collector, which comes rarely in a process of many objects."""
    made, gate = batcher(shut=True)
    picture = pictures[0] * np.float32(1e37 if end == "failed" else 1)
    future = submit(made, job(picture, seconds=0.1 if end == "late" else SOON))
    kept = weakref.ref(picture)
    del picture
    if end == "left":
        gate.wait()
        future.cancel()
    elif end == "late":
        gate.wait()
        time.sleep(0.11)
    gate.let()
    assert end == "left" or (future.exception(SOON) is None) == (end == "found")
    del future
    submit(made, job(pictures[1])).result(SOON)[0]  # the thread has done with the first
    assert kept() is None
