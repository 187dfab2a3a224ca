"""Batchers over a session that waits, and jobs for them."""

import asyncio
import threading
import time

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.batching.job import Job
from fusioncam.runtime.service.monitoring.observer import Observer
from fusioncam.runtime.sessions.masked_graph import MASKS


@pytest.fixture(scope="session")
def job():
    """Makes a job; its time is long."""

    def make(image, class_index=1, methods=("fusion_cam", "grad_cam", "score_cam"), budget="exact", seconds=60.0):
        return Job(image, [class_index], methods, budget, time.monotonic() + seconds)

    return make


@pytest.fixture(scope="session")
def submit():
    """Gives one job to a batcher; the future of its explanation."""
    return lambda batcher, job: batcher.submit([job])[0].future


@pytest.fixture(scope="session")
def explain():
    """The same within an event loop."""

    async def wait(batcher, job):
        (pending,) = batcher.submit([job])
        (found,) = await pending.wait()
        return found

    return wait


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


class Seen(Observer):
    def __init__(self):
        self.waiting, self.chunks, self.done, self.fallbacks = [], [], [], []

    def queued(self, model, more):
        self.waiting.append(more + (self.waiting[-1] if self.waiting else 0))

    def chunk(self, model, pictures, size, seconds):
        self.chunks.append((pictures, size))

    def finished(self, model, explanation):
        self.done.append(explanation)

    def fallback(self, model, reason):
        self.fallbacks.append(reason)


@pytest.fixture
def seen():
    return Seen()


@pytest.fixture(scope="module")
def opened(tiny, relayed):
    return relayed(tiny.bundle)


@pytest.fixture(scope="module")
def pipeline(opened):
    return opened[0].pipeline


@pytest.fixture(scope="module")
def alone(tiny):
    """What an Explainer of its own finds."""
    other = Explainer(tiny.bundle).pipeline

    def alone(image, class_index=1, methods=None, budget=None):
        request = ExplainRequest(image, [class_index], methods or METHODS, budget or "exact")
        ((found,),) = other.run([other.task(request)], METHODS)
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
        made = Batcher("tiny", lambda: explainer.pipeline, **options)
        batchers.append((made, gate))
        return made, gate

    yield open_batcher
    for made, gate in batchers:
        gate.let()
        asyncio.run(made.close())


@pytest.fixture(scope="session")
def same():
    """Holds an explanation against another one."""

    def same(found, wanted, atol=1e-6):
        assert (found.class_index, found.label, found.flags) == (wanted.class_index, wanted.label, wanted.flags)
        assert found.passes.run == wanted.passes.run
        assert list(found.maps) == list(wanted.maps)
        for method, m in wanted.maps.items():
            np.testing.assert_allclose(found.maps[method], m, atol=atol, rtol=0)
        np.testing.assert_allclose(found.logits, wanted.logits, atol=1e-6)

    return same
