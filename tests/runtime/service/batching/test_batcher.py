"""Jobs that share runs of the session, counted in runs and in passes, never in seconds."""

import asyncio
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import BundleError, DeadlineError, DeadlineTooShortError
from fusioncam.runtime.budget import deadline
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.batching.job import PendingJob

LIVE = 9  # channels of `tiny` that matter
ALL = 13  # passes of an exact explanation of `tiny`
SOON = 60.0  # seconds


def test_requests_at_once_need_no_more_runs_than_a_batch(batcher, counted, tiny, pictures, submit, job, same):
    """The first run begins with what is there; the others joined before it ended."""
    made, gate = batcher(shut=True)
    four = [*pictures, -pictures[0]]
    futures = [submit(made, job(x)) for x in four]
    gate.let()
    found = [future.result(SOON)[0] for future in futures]
    other, counter = counted(tiny.bundle, chunk=4)
    wanted = other.explain_batch(four, 1)
    for one, other in zip(found, wanted, strict=True):
        same(one, other)
    assert sum(gate.runs) == counter.pictures == 4 * ALL
    assert len(gate.runs) <= len(counter.batches)


def test_new_requests_join_those_under_way(batcher, pictures, submit, job, seen):
    made, gate = batcher(shut=True, observer=seen)
    first = submit(made, job(pictures[0]))
    gate.wait()  # it has asked for its passes: 11 in chunks of 4
    second = submit(made, job(pictures[1]))
    gate.let()
    for future in (first, second):
        assert future.result(SOON)[0].passes.run == ALL
    assert gate.runs[:5] == [4] * 5  # 2 * 11 pictures; alone, the first one's third run would have been 3
    assert sum(pictures for pictures, _ in seen.chunks) == 2 * ALL
    assert {size for _, size in seen.chunks} == {4}
    assert len(seen.done) == 2
    assert seen.waiting[0] == 1
    assert seen.waiting[-1] == 0


@pytest.mark.parametrize("chunk", [1, 3, 7, 32])
def test_any_mixture_gives_what_explain_gives(batcher, alone, pictures, chunk, explain, job, same):
    photo = np.random.default_rng(5).integers(0, 256, (40, 30, 3), np.uint8)
    asked = [
        (pictures[0], 1, ("fusion_cam",), "exact"),
        (pictures[1], -1, ("grad_cam", "layer_cam"), "exact"),
        (photo, 2, ("score_cam", "fusion_cam"), "auto"),
        (pictures[2], 0, ("union_cam", "group_cam"), "exact"),
        (pictures[0], 4, ("fusion_cam", "grad_cam"), 8),
        (photo, -1, ("recipro_cam",), 0.5),
        (pictures[1], 3, ("score_cam",), 0.5),
    ] * 3
    made, _ = batcher(chunk=chunk, max_batch=5)
    order = np.random.default_rng(chunk).permutation(len(asked))

    async def all_at_once():
        return await asyncio.gather(*(explain(made, job(*asked[i])) for i in order))

    found = dict(zip(order.tolist(), asyncio.run(all_at_once()), strict=True))
    for i in range(7):
        wanted = alone(*asked[i])
        for n in (i, i + 7, i + 14):
            same(found[n], wanted)


def test_the_number_under_way_is_bounded(batcher, pictures, submit, job):
    made, gate = batcher(shut=True, max_batch=2, chunk=1000, queue=8)
    futures = [submit(made, job(x)) for x in pictures * 2]
    gate.wait()
    assert (made.running, made.waiting) == (2, 4)
    gate.let()
    for future in futures:
        assert future.result(SOON)[0].passes.run == ALL
    assert max(gate.runs) <= 2 * (LIVE + 2)


def test_what_needs_no_pass_does_not_wait_for_those_that_do(batcher, pictures, submit, job):
    """However many passes others want, a job joins before every chunk."""
    made, gate = batcher(shut=True, chunk=2)
    slow = submit(made, job(pictures[0]))
    gate.wait()
    quick = submit(made, job(pictures[1], methods=("grad_cam",)))
    gate.let(1)
    assert quick.result(SOON)[0].passes.run == 0
    assert not slow.done()


def test_a_slower_way_is_told(batcher, pictures, submit, job, seen):
    made, _ = batcher(observer=seen)
    submit(made, job(pictures[0], budget="auto")).result(SOON)[0]
    submit(made, job(pictures[0], budget="exact")).result(SOON)[0]
    asyncio.run(made.close())
    assert seen.fallbacks == ["all passes"]  # of nine channels there are none to guess


def test_logits_alone_need_no_map(batcher, alone, pictures, submit, job):
    made, gate = batcher()
    found = submit(made, job(pictures[0], methods=())).result(SOON)[0]
    assert (found.maps, found.passes.run) == ({}, 0)
    np.testing.assert_array_equal(found.logits, alone(pictures[0]).logits)
    assert gate.runs == []


def test_an_engine_with_kernels_does_one_after_the_other(
    on_device, tiny, alone, pictures, monkeypatch, submit, job, same
):
    explainer = on_device(tiny.bundle, chunk=4)
    made = Batcher("tiny", lambda: explainer.pipeline)
    futures = [submit(made, job(x)) for x in pictures]
    for future, x in zip(futures, pictures, strict=True):
        same(future.result(SOON)[0], alone(x))
    calls = []

    def slow(self, done, every, progress=PendingJob.progress):
        calls.append(done)
        time.sleep(0.1)
        progress(self, done, every)

    monkeypatch.setattr(PendingJob, "progress", slow)
    with pytest.raises(DeadlineError, match="after 4 of 13 masked passes"):
        submit(made, job(pictures[0], seconds=0.05)).result(SOON)[0]
    assert calls == [4]
    monkeypatch.undo()
    same(submit(made, job(pictures[1])).result(SOON)[0], alone(pictures[1]))
    asyncio.run(made.close())


def test_a_pipeline_is_opened_in_the_thread_that_it_works_in(tiny, alone, pictures, submit, job, same):
    made_in = []

    def make():
        made_in.append(threading.current_thread().name)
        return Explainer(tiny.bundle).pipeline

    made = Batcher("tiny", make)
    same(submit(made, job(pictures[0])).result(SOON)[0], alone(pictures[0]))
    assert made_in == ["batcher of tiny"]
    asyncio.run(made.close())
    assert not made.ready
    with pytest.raises(BundleError, match=r"nowhere\.fcam"):
        Batcher("none", lambda: Explainer("nowhere.fcam").pipeline)


def test_the_time_of_a_deadline_begins_when_the_request_arrives(batcher, pictures, submit, job):
    made, _ = batcher(shut=False)
    long, now = deadline(1000), time.monotonic()
    found = submit(made, replace(job(pictures[0], budget=long), arrived=now)).result(SOON)[0]
    assert (found.passes.run, found.passes.error) == (ALL, 0)
    assert "late" not in found.flags
    found = submit(made, replace(job(pictures[0], budget=long), arrived=now - 2000)).result(SOON)[0]
    assert "late" in found.flags
    assert found.passes.run < ALL
    with pytest.raises(DeadlineTooShortError, match=r"a deadline of 0.001ms is too short .* takes at least"):
        submit(made, job(pictures[0], budget=deadline(1e-6))).result(SOON)[0]
