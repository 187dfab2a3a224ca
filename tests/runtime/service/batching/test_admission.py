"""Jobs that a batcher admits, refuses, or finishes before it closes."""

import asyncio

import pytest

from fusioncam.errors import BusyError, UsageError

ALL = 13  # passes of an exact explanation of `tiny`
SOON = 60.0  # seconds


def test_a_full_queue_refuses_and_says_when_to_ask_again(batcher, pictures, submit, job):
    made, gate = batcher(shut=True, max_batch=1, queue=1)
    made._pace = 3.0
    first = submit(made, job(pictures[0]))
    gate.wait()
    second = submit(made, job(pictures[1]))
    with pytest.raises(
        BusyError, match=r"^the queue of model 'tiny' is full: 1 explanations run and 1 wait; ask again in 2 s"
    ) as e:
        submit(made, job(pictures[2]))
    assert e.value.retry_after == 2  # half of those that wait, at 3 seconds each
    assert not second.done()
    gate.let()
    assert {f.result(SOON)[0].passes.run for f in (first, second)} == {ALL}
    assert submit(made, job(pictures[2])).result(SOON)[0].passes.run == ALL


def test_the_pictures_of_a_request_are_let_in_together_or_not_at_all(batcher, pictures, explain, job):
    made, gate = batcher(shut=True, max_batch=1, queue=2)

    async def meet():
        first = asyncio.create_task(explain(made, job(pictures[0])))
        await asyncio.to_thread(gate.wait)
        with pytest.raises(BusyError, match="1 explanations run and 0 wait"):
            made.submit([job(x) for x in pictures])
        with pytest.raises(UsageError, match="takes 3 pictures at a time, not 4; send fewer"):
            made.submit([job(pictures[0])] * 4)
        assert made.waiting == 0
        others = made.submit([job(x) for x in pictures[1:]])
        assert made.waiting == 2
        gate.let()
        found, *more = await asyncio.gather(first, *(other.wait() for other in others))
        return [found, *(one for (one,) in more)]

    assert [found.passes.run for found in asyncio.run(meet())] == [ALL] * 3
    assert sum(gate.runs) == 3 * ALL


def test_a_batcher_whose_thread_has_died_takes_nothing(batcher, pictures, submit, job):
    made, _ = batcher()
    asyncio.run(made.close())
    made._closing = False
    with pytest.raises(BusyError, match="takes no requests"):
        submit(made, job(pictures[0]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"class_index": 5}, "class"),
        ({"methods": ("nothing",)}, "nothing"),
        ({"budget": "much"}, "no budget"),
        ({"methods": ("score_cam_probability",), "budget": 0.5}, "exact"),
    ],
)
def test_what_the_model_cannot_do_is_refused_at_once(batcher, pictures, given, message, submit, job):
    made, gate = batcher()
    with pytest.raises(UsageError, match=message):
        submit(made, job(pictures[0], **given))
    assert gate.runs == []


def test_a_budget_that_is_too_small_is_said(batcher, pictures, submit, job):
    made, _ = batcher()
    with pytest.raises(UsageError, match="a budget of 2 passes is too small"):
        submit(made, job(pictures[0], budget=2)).result(SOON)[0]


def test_closing_finishes_what_was_let_in(batcher, pictures, submit, job):
    made, gate = batcher(shut=True, max_batch=1)
    futures = [submit(made, job(x)) for x in pictures]
    gate.wait()

    async def close():
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)
        while made.ready:
            await asyncio.sleep(0.001)
        with pytest.raises(BusyError, match="shutting down"):
            submit(made, job(pictures[0]))
        gate.let()
        await closing

    asyncio.run(close())
    assert [future.result(0)[0].passes.run for future in futures] == [ALL] * 3
