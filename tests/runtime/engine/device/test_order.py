"""The GPU's backend on a device where everything is late: work of two streams runs in the worst order they allow."""

import gc
import weakref
from collections import defaultdict, deque

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import FusionCamError
from fusioncam.runtime.engine import EngineOptions
from fusioncam.runtime.engine.device.opening import open_device_engine
from fusioncam.runtime.sessions.open import open_session

CPU = ["CPUExecutionProvider"]


class LateDevice:
    """A device that does nothing before someone waits for it, and then one stream as far as it can first.

    Args:
        device: The device that does the work in the end.
        eager: Which stream runs whenever it may, by order of creation; the others only when they must.
    """

    def __init__(self, device, eager):
        self._device, self._eager = device, eager
        self._queues, self._recorded, self._happened = {}, defaultdict(int), defaultdict(int)
        self.held = 0  # times a stream had to wait for the other

    def __getattr__(self, name):
        return getattr(self._device, name)

    def stream(self):
        handle = self._device.stream()
        self._queues[handle] = deque()
        return handle

    def record(self, event, stream):
        self._recorded[event] += 1
        number = self._recorded[event]
        self._later(stream, lambda: self._happened.__setitem__(event, number))

    def wait(self, stream, event):
        self._queues[stream].append((event, self._recorded[event]))

    def upload(self, source, pointer, stream):
        self._later(stream, lambda: self._device.upload(source, pointer, stream))

    def download(self, pointer, target, stream):
        self._later(stream, lambda: self._device.download(pointer, target, stream))

    def launch(self, kernel, grid, block, arguments, stream):
        self._later(stream, lambda: self._device.launch(kernel, grid, block, arguments, stream))

    def _later(self, stream, work):
        self._queues[stream].append(work)
        self._run(list(self._queues)[self._eager])

    def _run(self, stream):
        """All of a stream's work up to a wait for what has not happened."""
        queue = self._queues[stream]
        while queue:
            if isinstance(queue[0], tuple):
                event, number = queue[0]
                if self._happened[event] < number:
                    self.held += 1
                    return
                queue.popleft()
            else:
                queue.popleft()()

    def synchronize(self, stream):
        order = sorted(self._queues, key=lambda s: s != list(self._queues)[self._eager])
        while self._queues[stream]:
            before = [len(q) for q in self._queues.values()]
            for each in order:
                self._run(each)
            assert before != [len(q) for q in self._queues.values()], "the streams wait for each other"

    def wait_until(self, event):
        number = self._recorded[event]
        while self._happened[event] < number:
            for each in self._queues:
                self._run(each)

    def late(self, session, stream):
        """A session whose runs are work of `stream`."""
        return LateSession(session, lambda work: self._later(stream, work))


class LateSession:
    def __init__(self, session, later):
        self.session, self._later = session, later
        self.begun = self.done = 0

    def __getattr__(self, name):
        return getattr(self.session, name)

    def run_with_iobinding(self, binding, options):
        def run():
            self.session.run_with_iobinding(binding, options)
            self.done += 1

        self.begun += 1
        self._later(run)


@pytest.fixture
def explain_late(host_device, tiny, pictures, injected):
    """Explains one picture after another on a late device; `forget` names events it does not wait for."""

    def explain(eager, chunk, forget=None):
        device = LateDevice(host_device, eager)

        def open_late(path, providers, threads, disabled, use):
            return device.late(open_session(path, providers, threads, disabled), use.stream)

        with injected(device=device, open_session=open_late):
            explainer = Explainer(tiny.bundle, chunk=chunk)
        if forget is not None:
            lanes = explainer.pipeline.preferred.state.passes._lanes
            forgotten = {"begin": [lanes.begin], "ready": lanes.ready, "free": lanes.free}[forget]
            wait = device.wait
            device.wait = lambda stream, event: None if event in forgotten else wait(stream, event)
        found = [e for picture in pictures[:2] for e in explainer.explain_batch([picture], [[1, 4]])]
        return found, device

    return explain


def same(found, wanted):
    return all(
        np.allclose(f.maps[m], w.maps[m], rtol=0, atol=5e-6) for f, w in zip(found, wanted, strict=True) for m in f.maps
    )


@pytest.fixture(scope="module")
def wanted(tiny, pictures):
    return Explainer(tiny.bundle).explain_batch(pictures[:2], [[1, 4]] * 2)


@pytest.mark.parametrize("eager", [0, 1])
@pytest.mark.parametrize("chunk", [1, 2, 5, 64])
def test_the_order_of_the_streams_does_not_matter(explain_late, wanted, eager, chunk):
    found, device = explain_late(eager, chunk)
    assert same(found, wanted)
    assert device.held > 0


@pytest.mark.parametrize(("forget", "eager"), [("begin", 1), ("ready", 0), ("free", 1)])
def test_every_wait_is_needed(explain_late, wanted, forget, eager):
    try:
        found, _ = explain_late(eager, 2, forget)
    except (AssertionError, FusionCamError):  # an index out of what was not there yet, or NaN
        return
    assert not same(found, wanted)


@pytest.fixture
def late_passes(host_device, tiny, injected):
    """An Explainer on a late device, and the session of its passes."""
    device, sessions = LateDevice(host_device, 1), []

    def open_late(path, providers, threads, disabled, use):
        sessions.append(device.late(open_session(path, providers, threads, disabled), use.stream))
        return sessions[-1]

    with injected(device=device, open_session=open_late):
        explainer = Explainer(tiny.bundle, chunk=1)
    return explainer, sessions[1]


def test_progress_is_of_runs_that_are_done_and_few_are_ahead(late_passes, pictures):
    explainer, session = late_passes
    begun, done, reports = session.begun, session.done, []

    def report(passes, total):
        reports.append((passes, session.done - done, session.begun - begun))

    explainer.explain(pictures[0], 1, progress=report)
    assert [passes for passes, _, _ in reports] == list(range(1, 14))
    assert all(finished >= passes for passes, finished, _ in reports), reports
    assert all(given - passes <= 2 for passes, _, given in reports), reports
    assert sum(given - passes == 2 for passes, _, given in reports) >= 8, "the GPU waits for the reports"


def test_a_callback_that_raises_stops_the_passes(late_passes, pictures):
    explainer, session = late_passes
    begun = session.begun

    def report(passes, total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        explainer.explain(pictures[0], 1, progress=report)
    assert session.begun - begun <= 3  # of 13
    assert session.done == session.begun  # what still ran must not meet the next picture
    assert len(explainer.explain(pictures[0], 1).maps) == 3


def test_the_sessions_go_before_the_device(tiny, host_device):
    device, gone = LateDevice(host_device, 0), []
    manifest = Explainer(tiny.bundle).manifest
    engine = open_device_engine(tiny.bundle, manifest, device, EngineOptions(CPU, 4))
    weakref.finalize(device, gone.append, "device")
    for session in (engine._explain, next(iter(engine.state.passes.runs.values())).session):
        weakref.finalize(session, gone.append, "session")
    del session, device, engine
    gc.collect()
    assert gone == ["session", "session", "device"]
