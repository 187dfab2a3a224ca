"""What the batcher promises, counted in runs of the session and in passes, never in seconds."""

import asyncio
import gc
import threading
import time
import weakref

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import (
    BundleError,
    BusyError,
    DeadlineError,
    FusionCamError,
    ImageError,
    NotFiniteError,
    UsageError,
)
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.service.batching.batcher import Batcher, PendingJob
from fusioncam.runtime.service.batching.job import Job
from fusioncam.runtime.service.monitoring.observer import NullObserver
from fusioncam.runtime.sessions.masked_graph import MASKS, PICTURE

LIVE, ALL = 9, 13  # channels of `tiny` that matter; passes of an exact explanation
SOON = 60.0


def job(image, class_index=1, methods=("fusion_cam", "grad_cam", "score_cam"), budget="exact", seconds=SOON):
    return Job(image, class_index, methods, budget, time.monotonic() + seconds)


class Gate:
    """A session that waits before a run until it is told how many may pass."""

    def __init__(self, session, open_=False):
        self.session, self.runs = session, []
        self._allowed = threading.Semaphore(1_000_000 if open_ else 0)
        self.arrived = threading.Semaphore(0)

    def run(self, outputs, feeds):
        self.arrived.release()
        assert self._allowed.acquire(timeout=60)
        self.runs.append(len(feeds[MASKS]))
        return self.session.run(outputs, feeds)

    def wait(self):
        """Until a run stands before the gate."""
        assert self.arrived.acquire(timeout=60)

    def let(self, runs=1_000_000):
        self._allowed.release(runs)


class Seen(NullObserver):
    def __init__(self):
        self.waiting, self.chunks, self.done, self.fallbacks = [], [], [], []

    def queued(self, model, waiting):
        self.waiting.append(waiting)

    def chunk(self, model, pictures, size, seconds):
        self.chunks.append((pictures, size))

    def finished(self, model, explanation):
        self.done.append(explanation)

    def fallback(self, model, reason):
        self.fallbacks.append(reason)


@pytest.fixture(scope="module")
def opened(tiny, relayed):
    return relayed(tiny.bundle)


@pytest.fixture(scope="module")
def explainer(opened):
    return opened[0]


@pytest.fixture(scope="module")
def alone(tiny):
    """What an Explainer of its own finds."""
    other = Explainer(tiny.bundle)

    def alone(image, class_index=1, methods=None, budget=None):
        request = ExplainRequest(image, [class_index], methods or METHODS, budget or "exact")
        ((found,),) = other.pipeline.run([other.pipeline.task(request)], METHODS)
        return found

    return alone


@pytest.fixture
def batcher(opened, monkeypatch):
    """Opens a batcher over a gated session; closed when the test is over."""
    (explainer, relays), batchers = opened, []

    def open_batcher(chunk=4, shut=False, **options):
        gate = Gate(relays.score.session, open_=not shut)
        monkeypatch.setattr(relays.score, "session", gate)
        monkeypatch.setattr(explainer.pipeline.preferred.scorer, "chunk", chunk)
        made = Batcher("tiny", explainer, **options)
        batchers.append((made, gate))
        return made, gate

    yield open_batcher
    for made, gate in batchers:
        gate.let()
        asyncio.run(made.close())


def same(found, wanted, atol=1e-6):
    assert (found.class_index, found.label, found.flags) == (wanted.class_index, wanted.label, wanted.flags)
    assert found.passes.run == wanted.passes.run
    assert list(found.maps) == list(wanted.maps)
    for method, m in wanted.maps.items():
        np.testing.assert_allclose(found.maps[method], m, atol=atol, rtol=0)
    np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-6)


def test_requests_at_once_need_no_more_runs_than_a_batch(batcher, counted, tiny, pictures):
    """The first run begins with what is there; the others joined before it ended."""
    made, gate = batcher(shut=True)
    four = [*pictures, -pictures[0]]
    futures = [made.submit(job(x)) for x in four]
    gate.let()
    found = [future.result(SOON) for future in futures]
    other, counter = counted(tiny.bundle, chunk=4)
    wanted = other.explain_batch(four, 1)
    for one, other in zip(found, wanted, strict=True):
        same(one, other)
    assert sum(gate.runs) == counter.pictures == 4 * ALL
    assert len(gate.runs) <= len(counter.batches)


def test_new_requests_join_those_under_way(batcher, pictures):
    made, gate = batcher(shut=True, observer=(seen := Seen()))
    first = made.submit(job(pictures[0]))
    gate.wait()  # it has asked for its passes: 11 in chunks of 4
    second = made.submit(job(pictures[1]))
    gate.let()
    for future in (first, second):
        assert future.result(SOON).passes.run == ALL
    assert gate.runs[:5] == [4] * 5  # 2 * 11 pictures; alone, the first one's third run would have been 3
    assert sum(pictures for pictures, _ in seen.chunks) == 2 * ALL
    assert {size for _, size in seen.chunks} == {4}
    assert len(seen.done) == 2
    assert seen.waiting[0] == 1
    assert seen.waiting[-1] == 0


@pytest.mark.parametrize("chunk", [1, 3, 7, 32])
def test_any_mixture_gives_what_explain_gives(batcher, alone, pictures, chunk):
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
        return await asyncio.gather(*(made.explain(job(*asked[i])) for i in order))

    found = dict(zip(order.tolist(), asyncio.run(all_at_once()), strict=True))
    for i in range(7):
        wanted = alone(*asked[i])
        for n in (i, i + 7, i + 14):
            same(found[n], wanted)


def test_the_number_under_way_is_bounded(batcher, pictures):
    made, gate = batcher(shut=True, max_batch=2, chunk=1000, queue=8)
    futures = [made.submit(job(x)) for x in pictures * 2]
    gate.wait()
    assert (made.running, made.waiting) == (2, 4)
    gate.let()
    for future in futures:
        assert future.result(SOON).passes.run == ALL
    assert max(gate.runs) <= 2 * (LIVE + 2)


def test_what_needs_no_pass_does_not_wait_for_those_that_do(batcher, pictures):
    """However many passes others want, a job joins before every chunk."""
    made, gate = batcher(shut=True, chunk=2)
    slow = made.submit(job(pictures[0]))
    gate.wait()
    quick = made.submit(job(pictures[1], methods=("grad_cam",)))
    gate.let(1)
    assert quick.result(SOON).passes.run == 0
    assert not slow.done()


def test_a_full_queue_refuses_and_says_when_to_ask_again(batcher, pictures):
    made, gate = batcher(shut=True, max_batch=1, queue=1)
    made._pace = 3.0
    first = made.submit(job(pictures[0]))
    gate.wait()
    second = made.submit(job(pictures[1]))
    with pytest.raises(BusyError, match=r"^model 'tiny' has as much to do .* 1 explanations under way and 1 wait") as e:
        made.submit(job(pictures[2]))
    assert e.value.retry_after == 2  # half of those that wait, at 3 seconds each
    assert not second.done()
    gate.let()
    assert {f.result(SOON).passes.run for f in (first, second)} == {ALL}
    assert made.submit(job(pictures[2])).result(SOON).passes.run == ALL


def test_the_pictures_of_a_request_are_let_in_together_or_not_at_all(batcher, pictures):
    made, gate = batcher(shut=True, max_batch=1, queue=2)

    async def meet():
        first = asyncio.create_task(made.explain(job(pictures[0])))
        await asyncio.to_thread(gate.wait)
        with pytest.raises(BusyError, match="1 explanations under way and 0 waiting"):
            made.explain_all([job(x) for x in pictures])
        with pytest.raises(UsageError, match="takes 3 pictures at a time, not 4; send fewer"):
            made.explain_all([job(pictures[0])] * 4)
        assert made.waiting == 0
        others = made.explain_all([job(x) for x in pictures[1:]])
        assert made.waiting == 2
        gate.let()
        return await asyncio.gather(first, *others)

    assert [found.passes.run for found in asyncio.run(meet())] == [ALL] * 3
    assert sum(gate.runs) == 3 * ALL


def test_a_job_whose_time_is_over_spends_no_more_passes(batcher, pictures):
    made, gate = batcher(shut=True, chunk=2)
    late = made.submit(job(pictures[0], seconds=0.2))
    gate.wait()
    time.sleep(0.25)
    gate.let()
    with pytest.raises(DeadlineError, match=r"no explanation within 0.2 s: it was stopped after 2 of 13 masked passes"):
        late.result(SOON)
    assert gate.runs == [2]
    assert made.submit(job(pictures[0])).result(SOON).passes.run == ALL


def test_a_job_that_waits_too_long_is_never_begun(batcher, pictures):
    made, gate = batcher(shut=True, max_batch=1)

    async def meet():
        first = asyncio.create_task(made.explain(job(pictures[0])))
        await asyncio.to_thread(gate.wait)
        with pytest.raises(DeadlineError, match="before its turn came"):
            await made.explain(job(pictures[1], seconds=0.05))
        assert made.waiting == 0
        gate.let()
        await first

    asyncio.run(meet())
    assert sum(gate.runs) == ALL


def test_a_deadline_that_is_past(batcher, pictures):
    made, gate = batcher()
    with pytest.raises(DeadlineError, match="no time was left for an explanation"):
        asyncio.run(made.explain(job(pictures[0], seconds=-1)))
    with pytest.raises(DeadlineError, match="before its turn came"):
        made.submit(job(pictures[0], seconds=-1)).result(SOON)
    assert gate.runs == []


def test_a_client_that_leaves_stops_its_work(batcher, pictures):
    made, gate = batcher(shut=True, chunk=2)

    async def leave():
        task = asyncio.create_task(made.explain(job(pictures[0])))
        await asyncio.to_thread(gate.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    gate.let()
    assert made.submit(job(pictures[1], methods=("grad_cam",))).result(SOON).passes.run == 0
    assert gate.runs == [2]
    assert made.running == 0


def test_a_client_that_leaves_the_queue_makes_room(batcher, pictures):
    made, gate = batcher(shut=True, max_batch=1, queue=1)
    first = made.submit(job(pictures[0]))
    gate.wait()
    gone = made.submit(job(pictures[1]))
    gone.cancel()
    assert made.waiting == 0
    other = made.submit(job(pictures[2]))
    gate.let()
    for future in (first, other):
        future.result(SOON)
    assert sum(gate.runs) == 2 * ALL


BAD = {
    "shape": (lambda x: x[:, :-1], ImageError, "24"),
    "nan": (lambda x: np.full_like(x, np.nan), ImageError, "NaN"),
    "huge": (lambda x: x * np.float32(1e37), NotFiniteError, "NaN or infinite"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_harms_nobody_else(batcher, alone, pictures, name):
    spoil, kind, message = BAD[name]
    made, gate = batcher(shut=True, chunk=5)
    futures = [made.submit(job(x)) for x in (pictures[0], spoil(pictures[1]), pictures[2])]
    gate.let()
    with pytest.raises(kind, match=message):
        futures[1].result(SOON)
    same(futures[0].result(SOON), alone(pictures[0]))
    same(futures[2].result(SOON), alone(pictures[2]))


def test_nan_logits_are_those_of_one_picture(batcher, alone, pictures):
    """Masked passes of two pictures share a run; only the one whose rows are NaN fails."""
    made, gate = batcher(shut=True, chunk=64)
    inner = gate.session

    class Spoils:
        def run(self, outputs, feeds):
            (logits,) = inner.run(outputs, feeds)
            images = np.broadcast_to(feeds[PICTURE], (len(logits), *feeds[PICTURE].shape[1:]))
            logits[[np.allclose(image, pictures[0], atol=1e-6) for image in images]] = np.nan
            return [logits]

    gate.session = Spoils()
    first = made.submit(job(pictures[1]))
    bad = made.submit(job(pictures[0]))
    gate.let()
    with pytest.raises(NotFiniteError, match="NaN or infinite logits"):
        bad.result(SOON)
    same(first.result(SOON), alone(pictures[1]))


def test_a_run_that_fails_ends_those_in_it_and_no_others(batcher, pictures):
    made, gate = batcher(shut=True)
    session, gate.session = gate.session, None  # it has no `run`
    futures = [made.submit(job(x)) for x in pictures]
    gate.let()
    for future in futures:
        with pytest.raises(FusionCamError, match="onnxruntime cannot run the model"):
            future.result(SOON)
    gate.session = session
    assert made.submit(job(pictures[0])).result(SOON).passes.run == ALL


def broken(*_):
    raise RuntimeError("secret")


def test_what_nobody_foresaw_ends_the_jobs_there_are_but_not_the_batcher(batcher, pictures, monkeypatch, caplog):
    made, gate = batcher(shut=True, max_batch=1, observer=(seen := Seen()))
    monkeypatch.setattr(seen, "chunk", broken)
    futures = [made.submit(job(x)) for x in pictures]
    gate.let()
    for future in futures:
        with pytest.raises(FusionCamError, match="failed in a way nobody foresaw; its log has more"):
            future.result(SOON)
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]
    monkeypatch.undo()
    gate.let()
    assert made.submit(job(pictures[0])).result(SOON).passes.run > 0


@pytest.mark.parametrize("name", ["engine_for", "queued"])
def test_what_fails_as_a_job_begins_is_its_own(batcher, explainer, pictures, monkeypatch, name):
    made, _ = batcher(observer=(seen := Seen()))
    engine_for = explainer.pipeline.engine_for

    def failing(methods):
        return broken() if methods == ("hires_cam",) else engine_for(methods)

    def failing_there(*_):
        if threading.current_thread().name.startswith("batcher"):
            broken()

    changed = {"engine_for": (explainer.pipeline, failing), "queued": (seen, failing_there)}[name]
    monkeypatch.setattr(changed[0], name, changed[1])
    with pytest.raises(RuntimeError, match="secret"):
        made.submit(job(pictures[0], methods=("hires_cam",))).result(SOON)
    monkeypatch.undo()
    assert made.submit(job(pictures[1], methods=("grad_cam",))).result(SOON).passes.run == 0


def test_a_batcher_whose_thread_has_died_takes_nothing(batcher, pictures):
    made, _ = batcher()
    asyncio.run(made.close())
    made._closing = False
    with pytest.raises(BusyError, match="takes no requests"):
        made.submit(job(pictures[0]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"class_index": 5}, "class"),
        ({"methods": ("nothing",)}, "nothing"),
        ({"budget": "much"}, "no budget"),
        ({"methods": ("score_cam_probability",), "budget": 0.5}, "exact"),
    ],
)
def test_what_the_model_cannot_do_is_refused_at_once(batcher, pictures, given, message):
    made, gate = batcher()
    with pytest.raises(UsageError, match=message):
        made.submit(job(pictures[0], **given))
    assert gate.runs == []


def test_a_budget_that_is_too_small_is_said(batcher, pictures):
    made, _ = batcher()
    with pytest.raises(UsageError, match="a budget of 2 passes is too small"):
        made.submit(job(pictures[0], budget=2)).result(SOON)


def test_closing_finishes_what_was_let_in(batcher, pictures):
    made, gate = batcher(shut=True, max_batch=1)
    futures = [made.submit(job(x)) for x in pictures]
    gate.wait()

    async def close():
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)
        while made.ready:
            await asyncio.sleep(0.001)
        with pytest.raises(BusyError, match="shutting down"):
            made.submit(job(pictures[0]))
        gate.let()
        await closing

    asyncio.run(close())
    assert [future.result(0).passes.run for future in futures] == [ALL] * 3


def test_a_slower_way_is_told(batcher, pictures):
    made, _ = batcher(observer=(seen := Seen()))
    made.submit(job(pictures[0], budget="auto")).result(SOON)
    made.submit(job(pictures[0], budget="exact")).result(SOON)
    asyncio.run(made.close())
    assert seen.fallbacks == ["all passes"]  # of nine channels there are none to guess


def test_logits_alone_need_no_map(batcher, alone, pictures):
    made, gate = batcher()
    found = made.submit(job(pictures[0], methods=())).result(SOON)
    assert (found.maps, found.passes.run) == ({}, 0)
    np.testing.assert_array_equal(found.logits, alone(pictures[0]).logits)
    assert gate.runs == []


def test_an_engine_with_kernels_does_one_after_the_other(on_device, tiny, alone, pictures, monkeypatch):
    made = Batcher("tiny", on_device(tiny.bundle, chunk=4))
    futures = [made.submit(job(x)) for x in pictures]
    for future, x in zip(futures, pictures, strict=True):
        same(future.result(SOON), alone(x))
    calls = []

    def slow(self, done, every, progress=PendingJob.progress):
        calls.append(done)
        time.sleep(0.1)
        progress(self, done, every)

    monkeypatch.setattr(PendingJob, "progress", slow)
    with pytest.raises(DeadlineError, match="after 4 of 13 masked passes"):
        made.submit(job(pictures[0], seconds=0.05)).result(SOON)
    assert calls == [4]
    monkeypatch.undo()
    same(made.submit(job(pictures[1])).result(SOON), alone(pictures[1]))
    asyncio.run(made.close())


def test_an_explainer_may_be_made_in_the_thread_that_it_works_in(tiny, alone, pictures):
    made_in = []

    def make():
        made_in.append(threading.current_thread().name)
        return Explainer(tiny.bundle)

    made = Batcher("tiny", make)
    same(made.submit(job(pictures[0])).result(SOON), alone(pictures[0]))
    assert made_in == ["batcher of tiny"]
    asyncio.run(made.close())
    assert not made.ready
    with pytest.raises(BundleError, match=r"nowhere\.fcam"):
        Batcher("none", lambda: Explainer("nowhere.fcam"))


@pytest.fixture
def _no_garbage_collector():
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_garbage_collector")
@pytest.mark.parametrize("end", ["found", "failed", "late", "left"])
def test_jobs_that_have_ended_are_let_go_at_once(batcher, pictures, end):
    """Nothing waits for the garbage collector, which comes rarely in a process of many objects."""
    made, gate = batcher(shut=True)
    picture = pictures[0] * np.float32(1e37 if end == "failed" else 1)
    future = made.submit(job(picture, seconds=0.1 if end == "late" else SOON))
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
    made.submit(job(pictures[1])).result(SOON)  # the thread has done with the first
    assert kept() is None
