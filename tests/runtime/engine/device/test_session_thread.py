"""The thread that runs the sessions: the same for every caller, and none of a caller's troubles are its own."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest

from fusioncam.errors import FusionCamError, UsageError
from fusioncam.runtime.engine.device.session_thread import SessionThread


@pytest.fixture
def session_thread():
    return SessionThread(nullcontext)


def spied(explainer):
    """Note the thread and the CUDA graph of every run from now on."""
    seen, state = [], explainer.pipeline.preferred.state

    class Session:
        def __init__(self, session):
            self.session = session

        def run_with_iobinding(self, binding, options):
            seen.append((threading.get_ident(), options.get_run_config_entry("gpu_graph_id")))
            self.session.run_with_iobinding(binding, options)

    for run in (*state.passes.runs.values(), *state.explain_runs):
        object.__setattr__(run, "session", Session(run.session))
    return seen


def test_runs_are_on_one_thread_for_every_caller(tiny, on_device, pictures):
    explainer = on_device(tiny.bundle, chunk=5)
    seen = spied(explainer)
    wanted = explainer.explain(pictures[0], 1)
    per_picture = len(seen)
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: explainer.explain(pictures[0], 1), range(6)))
    assert len(seen) == 7 * per_picture
    threads = {thread for thread, _ in seen}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}
    for explanation in found:
        np.testing.assert_array_equal(explanation.maps["fusion_cam"], wanted.maps["fusion_cam"])


def test_progress_stays_on_the_callers_thread(tiny, on_device, pictures):
    seen = set()
    on_device(tiny.bundle).explain(pictures[0], 1, progress=lambda *_: seen.add(threading.get_ident()))
    assert seen == {threading.get_ident()}


def test_work_is_within_the_context():
    within = []

    @contextmanager
    def enter():
        within.append(threading.get_ident())
        yield
        within.append("left")

    SessionThread(enter).run(lambda: within.append("work"))
    assert within[1:] == ["work", "left"]
    assert within[0] != threading.get_ident()


def test_an_error_reaches_the_caller_and_the_thread_goes_on(session_thread):
    def fail():
        raise FusionCamError("no memory; take less")

    done = []
    for _ in range(2):
        with pytest.raises(FusionCamError, match="no memory; take less"):
            session_thread.run(fail)
    session_thread.run(lambda: done.append(1))
    assert done == [1]


def test_an_interrupt_is_raised_when_the_work_is_done(session_thread):
    begun, done = threading.Event(), []

    def work():
        begun.set()
        time.sleep(0.5)
        done.append(1)

    def interrupt():
        begun.wait()
        time.sleep(0.05)  # until the caller waits
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        session_thread.run(work)
    assert done == [1]
    thread.join()


def test_an_explanation_that_is_interrupted_leaves_the_engine_whole(tiny, on_device, pictures):
    explainer = on_device(tiny.bundle, chunk=3)
    wanted = explainer.explain(pictures[0], 1)

    def interrupt(done, total):
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        explainer.explain(pictures[1], 1, progress=interrupt)
    np.testing.assert_array_equal(explainer.explain(pictures[0], 1).maps["fusion_cam"], wanted.maps["fusion_cam"])


def test_the_thread_ends_with_its_engine(tiny, on_device, pictures):
    before = set(threading.enumerate())
    explainer = on_device(tiny.bundle)
    explainer.explain(pictures[0], 1)
    (thread,) = set(threading.enumerate()) - before
    engine = weakref.ref(explainer.pipeline.preferred)
    del explainer
    gc.collect()
    assert engine() is None
    thread.join(10)
    assert not thread.is_alive()


def test_a_forked_process_is_told_at_once(tiny, on_device, pictures, monkeypatch):
    explainer = on_device(tiny.bundle)
    explainer.explain(pictures[0], 1)
    # The sessions behind this GPU run on the CPU, and an Explainer of the CPU opens its bundle anew after a fork.
    monkeypatch.setattr(explainer.pipeline.preferred, "providers", ("cuda", "cpu"))
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)  # ends the child, should it wait for a thread that it does not have
        try:
            explainer.explain(pictures[0], 1)
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        text = told.read()
    os.waitpid(child, 0)
    assert text.startswith("UsageError: a GPU cannot be shared with a forked process; make a new Explainer")


ENDING = """
import atexit
from contextlib import nullcontext
from fusioncam.errors import UsageError
from fusioncam.runtime.engine.device.session_thread import SessionThread

session_thread, done = SessionThread(nullcontext), []
session_thread.run(lambda: done.append(1))

@atexit.register
def late():
    try:
        session_thread.run(print)
    except UsageError as error:
        print(done, error)
"""


def test_a_program_ends_with_its_threads():
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("[1] the program ends")


def test_an_error_keeps_nothing_alive(session_thread):
    class Session:
        def run(self):
            raise FusionCamError("broken")

    session = Session()
    gone = weakref.ref(session)
    with pytest.raises(FusionCamError):
        session_thread.run(session.run)
    del session
    session_thread.run(lambda: None)
    assert gone() is None


def test_a_thread_that_is_not_of_this_process_refuses(session_thread, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(UsageError, match="forked process"):
        session_thread.run(lambda: None)
