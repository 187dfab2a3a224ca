"""An Explainer for asyncio: the same maps, shared runs, and work that stops when nobody waits any more."""

import asyncio
import json
import os
import pickle
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

import cv2
import numpy as np
import pytest

from fusioncam import AsyncExplainer, Explainer
from fusioncam.errors import BundleError, ImageError, ProviderError, UsageError
from fusioncam.runtime.engine import holder
from fusioncam.runtime.sessions.masked_graph import MASKS


class Gate:
    """A session that counts its runs, and waits before each until it may go on."""

    def __init__(self, session, shut=False):
        self.session, self.batches, self.arrived, self.let = session, [], threading.Event(), threading.Event()
        if not shut:
            self.let.set()

    def run(self, outputs, feeds):
        self.arrived.set()
        assert self.let.wait(60)
        self.batches.append(len(feeds[MASKS]))
        return self.session.run(outputs, feeds)


@pytest.fixture
def run(tiny, injected):
    """Runs a coroutine function with an AsyncExplainer, and the gate before its score graph."""

    def run(work, shut=False, **options):
        async def main():
            with injected() as relays:
                async with AsyncExplainer(tiny.bundle, chunk=8, **options) as explainer:
                    gate = relays.score.session = Gate(relays.score.session, shut)
                    await work(explainer, gate)

        asyncio.run(main())

    return run


async def until(condition):
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


OTHERS: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def others(monkeypatch):
    """Threads of other tests of this process do not count."""
    monkeypatch.setitem(globals(), "OTHERS", set(threading.enumerate()))


def batchers():
    return [t for t in threading.enumerate() if t.name.startswith("batcher") and t not in OTHERS]


def same(found, wanted):
    assert (found.class_index, found.passes, found.flags) == (wanted.class_index, wanted.passes, wanted.flags)
    for method, saliency in wanted.maps.items():
        np.testing.assert_allclose(found.maps[method], saliency, atol=1e-6)


def test_explanations_share_runs_and_are_those_of_an_explainer(tiny, pictures, counted, run, tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "photo.png"), photo[..., ::-1])
    images = [*pictures, photo, tmp_path / "photo.png", (tmp_path / "photo.png").read_bytes()]
    alone, counter = counted(tiny.bundle, chunk=8)
    wanted = [alone.explain(image, 2) for image in images]

    async def work(explainer, gate):
        found = await asyncio.gather(*(explainer.explain(image, 2) for image in images))
        for e, w in zip(found, wanted, strict=True):
            same(e, w)
        assert sum(gate.batches) == counter.pictures
        assert len(gate.batches) < 0.8 * len(counter.batches)
        assert [e.image for e in found] == [e.image for e in wanted]
        for e in found[3:]:
            np.testing.assert_array_equal(e.overlay(), wanted[3].overlay())
        (verified,) = await asyncio.gather(explainer.explain(pictures[0], "2", verify=True))
        assert verified.verdict.name == alone.explain(pictures[0], 2, verify=True).verdict.name
        with pytest.raises(UsageError, match="is not kept"):
            (await explainer.explain(photo, keep_photo=False)).overlay()

    run(work, together=3)


def test_no_more_pictures_than_agreed_are_decoded(pictures, run, monkeypatch):
    begun = []
    module = sys.modules["fusioncam.runtime.async_explainer"]
    plain = module.prepare_at
    monkeypatch.setattr(module, "prepare_at", lambda *a: (begun.append(1), plain(*a))[1])

    async def work(explainer, gate):
        waiting = [asyncio.create_task(explainer.explain(pictures[0])) for _ in range(6)]
        await until(gate.arrived.is_set)
        await until(lambda: len(begun) == 2)
        gate.let.set()
        await asyncio.gather(*waiting)
        assert len(begun) == 6

    run(work, shut=True, together=2)


def test_a_cancelled_explanation_stops_before_the_next_run(pictures, run):
    async def work(explainer, gate):
        for give_up in (lambda task: task.cancel(), None):
            gate.arrived.clear()
            gate.let.clear()
            before = len(gate.batches)
            call = explainer.explain(pictures[0])
            task = asyncio.create_task(call if give_up else asyncio.wait_for(call, 0.2))
            await until(gate.arrived.is_set)
            if give_up:
                give_up(task)
            with pytest.raises((asyncio.CancelledError, TimeoutError)):
                await task
            gate.let.set()
            await until(lambda: not explainer._batcher.running)
            assert len(gate.batches) == before + 1
        same(await explainer.explain(pictures[0], 1), await explainer.explain(pictures[0], 1))

    run(work, shut=True, budget="exact")


def test_preliminary_maps_come_first_and_leaving_the_loop_stops_the_work(pictures, run):
    async def work(explainer, gate):
        found = []
        async for explanation in explainer.explain_progressively(pictures[0], 1):
            found.append(explanation)
            gate.let.set()
        assert list(found[0].maps) == ["grad_cam"]
        assert all("preliminary" in e.flags for e in found[:-1])
        same(found[-1], await explainer.explain(pictures[0], 1))
        gate.let.clear()
        before = len(gate.batches)
        async with aclosing(explainer.explain_progressively(pictures[0])) as explanations:
            async for explanation in explanations:
                assert "preliminary" in explanation.flags
                await until(gate.arrived.is_set)
                break
        gate.let.set()
        await until(lambda: not explainer._batcher.running)
        assert len(gate.batches) <= before + 1
        with pytest.raises(ImageError, match="there is no picture"):
            await anext(explainer.explain_progressively("none.png"))

    run(work, shut=True)


def test_closing_waits_for_what_runs_and_frees_the_rest(tiny, pictures):
    async def main():
        explainer = AsyncExplainer(tiny.bundle)
        running = asyncio.create_task(explainer.explain(pictures[0], 1))
        await until(lambda: explainer._batcher is not None)
        engine = weakref.ref(explainer._batcher.pipeline.preferred)
        await until(lambda: explainer._batcher.running or running.done())
        await explainer.close()
        await explainer.close()
        same(await running, Explainer(tiny.bundle).explain(pictures[0], 1))
        await until(lambda: engine() is None)
        assert not batchers()
        with pytest.raises(UsageError, match=r"^this AsyncExplainer is closed: make a new one, or close it later$"):
            await explainer.explain(pictures[0])

    asyncio.run(main())


def test_whoever_gives_up_while_the_bundle_is_opened_leaves_it_to_the_next_one(tiny, pictures, monkeypatch):
    wanted = Explainer(tiny.bundle).explain(pictures[0], 1)
    plain, begun, let, opened = holder.PipelineHolder.open, threading.Event(), threading.Event(), []

    def slow(self):
        opened.append(1)
        begun.set()
        assert let.wait(60)
        return plain(self)

    monkeypatch.setattr(holder.PipelineHolder, "open", slow)

    async def main():
        explainer = AsyncExplainer(tiny.bundle)
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(explainer.explain(pictures[0]), 0.05)
        let.set()
        same(await explainer.explain(pictures[0], 1), wanted)
        assert (len(opened), len(batchers())) == (1, 1)
        await explainer.close()
        let.clear()
        begun.clear()
        entering = asyncio.create_task(AsyncExplainer(tiny.bundle).__aenter__())
        await until(begun.is_set)
        entering.cancel()
        let.set()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert not batchers()

    asyncio.run(main())


def test_one_serves_several_event_loops(tiny, pictures):
    explainer, wanted = AsyncExplainer(tiny.bundle, together=2), Explainer(tiny.bundle).explain(pictures[0], 1)

    async def many():
        for found in await asyncio.gather(*(explainer.explain(pictures[0], 1) for _ in range(6))):
            same(found, wanted)

    asyncio.run(many())
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: asyncio.run(many()), range(2)))
    asyncio.run(explainer.close())
    assert not batchers()


def test_more_pictures_than_a_queue_of_the_service_holds_are_given_up_at_once(pictures, run):
    async def work(explainer, gate):
        for _ in range(2):
            tasks = [asyncio.create_task(explainer.explain(pictures[0])) for _ in range(80)]
            await until(lambda: explainer._batcher.waiting + explainer._batcher.running >= 80)
            for task in tasks:
                task.cancel()
            assert {type(e) for e in await asyncio.gather(*tasks, return_exceptions=True)} == {asyncio.CancelledError}
        gate.let.set()
        await explainer.explain(pictures[0])

    run(work, shut=True, together=80)


def test_a_program_that_ends_without_closing_leaves_no_thread_in_the_model(tiny):
    code = (
        "import asyncio, atexit, threading, numpy\n"
        "atexit.register(lambda: print([t for t in threading.enumerate() if t.name.startswith('batcher')]))\n"
        "from fusioncam import AsyncExplainer\n"
        "async def main():\n"
        f"    explainer = AsyncExplainer({str(tiny.bundle)!r}, chunk=1)\n"
        "    photo = numpy.zeros((9, 9, 3), numpy.uint8)\n"
        "    tasks = [asyncio.create_task(explainer.explain(photo)) for _ in range(9)]\n"
        "    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)\n"
        "    assert explainer._batcher is not None\n"
        "asyncio.run(main())"
    )
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_errors(tiny, pictures, tmp_path):
    async def main():
        async with AsyncExplainer(tiny.bundle, methods=["grad_cam"]) as explainer:
            for wrong, error, words in (
                ({"image": tmp_path / "none.png"}, ImageError, "there is no picture"),
                ({"image": pictures[0], "class_index": 9}, UsageError, "there is no class 9"),
                ({"image": pictures[0], "class_index": "cat"}, UsageError, "has no labels to find 'cat' in"),
            ):
                with pytest.raises(error, match=words):
                    await explainer.explain(**wrong)
        with pytest.raises(ProviderError, match="cuda provider"):
            await AsyncExplainer(tiny.bundle, providers=["cuda"]).explain(pictures[0])
        forked = AsyncExplainer(tiny.bundle)
        forked._process = os.getpid() + 1
        with pytest.raises(UsageError, match="cannot be used in a forked process: make a new one there"):
            await forked.explain(pictures[0])
        with pytest.raises(UsageError, match="cannot be pickled: send an Explainer, or make one in each process"):
            pickle.dumps(forked)

    asyncio.run(main())
    for options, error in (({"methods": ["none"]}, UsageError), ({"together": 0}, UsageError)):
        with pytest.raises(error):
            AsyncExplainer(tiny.bundle, **options)
    with pytest.raises(BundleError):
        AsyncExplainer(tmp_path)


def test_it_needs_nothing_of_the_service(tiny):
    code = (
        "import asyncio, json, sys, numpy\nfrom fusioncam import AsyncExplainer\n"
        "async def main():\n"
        f"    async with AsyncExplainer({str(tiny.bundle)!r}, methods=['grad_cam']) as explainer:\n"
        "        return await explainer.explain(numpy.zeros((9, 9, 3), numpy.uint8))\n"
        "asyncio.run(main())\nprint(json.dumps(sorted(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert not {"fastapi", "uvicorn", "prometheus_client", "starlette", "grpc"} & {*json.loads(out)}
