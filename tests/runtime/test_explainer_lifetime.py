"""An Explainer is closed, and opens again in another process."""

import copy
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from fusioncam import Explainer
from fusioncam.errors import BundleError, UsageError
from fusioncam.runtime.engine import Pipeline, holder

METHODS = ("fusion_cam", "grad_cam")


@pytest.fixture
def opened(monkeypatch):
    """The number of pipelines that were opened."""
    monkeypatch.setattr(holder, "_PROCESS", holder._Process())
    plain, times = Pipeline.open, []
    monkeypatch.setattr(Pipeline, "open", lambda *a: (times.append(1), plain(*a))[1])
    return times


def same(found, wanted):
    assert (found.class_index, found.passes, list(found.maps)) == (wanted.class_index, wanted.passes, list(wanted.maps))
    for method, saliency in wanted.maps.items():
        np.testing.assert_array_equal(found.maps[method], saliency)


def test_closing_frees_the_engine_at_once_and_later_use_is_one_line(tiny, pictures):
    with Explainer(tiny.bundle) as explainer:
        found = explainer.explain(pictures[0])
        engine = weakref.ref(explainer.pipeline.preferred)
        session = weakref.ref(engine().scorer.session)
    assert (engine(), session()) == (None, None)
    calls = [
        lambda: explainer.explain(pictures[0]), lambda: explainer.explain_batch([pictures[0]]),
        lambda: explainer.overlay(pictures[0]), lambda: explainer.chunk, lambda: explainer.pipeline,
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(UsageError, match=r"^this Explainer is closed: make a new one, or close it later$"):
            call()
    explainer.close()
    assert explainer.manifest.classes == 5
    assert found.panel().any()


def test_what_runs_in_another_thread_ends_before_the_engine_goes(tiny, pictures, relayed):
    explainer, relays = relayed(tiny.bundle)
    engine, arrived, let, results = weakref.ref(explainer.pipeline.preferred), *(threading.Event() for _ in "12"), []
    plain = relays.score.session

    class Gate:
        def run(self, *arguments):
            arrived.set()
            assert let.wait(60)
            return plain.run(*arguments)

    relays.score.session = Gate()
    thread = threading.Thread(target=lambda: results.extend(explainer.explain_batch([pictures[0]] * 20, 1)))
    thread.start()
    assert arrived.wait(60)
    explainer.close()
    assert engine() is not None
    let.set()
    thread.join(60)
    assert len(results) == 20
    same(results[-1], Explainer(tiny.bundle).explain(pictures[0], 1))
    assert engine() is None


def test_copies_open_the_bundle_once_when_they_are_first_used(tiny, pictures, opened, tmp_path, monkeypatch):
    shutil.copytree(tiny.bundle, tmp_path / "copied.fcam")
    monkeypatch.chdir(tmp_path)
    explainer = Explainer("copied.fcam", methods=METHODS, budget=9)
    wanted, packed = explainer.explain(pictures[0]), pickle.dumps(explainer)
    monkeypatch.chdir("/")
    assert len(packed) < 100_000
    copies = [pickle.loads(packed) for _ in range(3)]
    bound = pickle.loads(pickle.dumps(explainer.explain))
    assert len(opened) == 1
    for explain in (*(c.explain for c in copies), bound, copy.deepcopy(explainer).explain):
        same(explain(pictures[0]), wanted)
    assert len(opened) == 2
    assert copies[0].methods == METHODS
    copies[0].close()
    with pytest.raises(UsageError, match="is closed"):
        copies[0].explain(pictures[0])
    same(copies[1].explain(pictures[0]), wanted)
    assert len(opened) == 3
    same(explainer.explain(pictures[0]), wanted)


def test_few_are_kept_open(tiny, pictures, opened):
    packed = [pickle.dumps(Explainer(tiny.bundle, methods=["grad_cam"])) for _ in range(3)]
    del opened[:]
    for n in (0, 1, 0, 2, 0, 1):
        pickle.loads(packed[n]).explain(pictures[0])
    assert len(opened) == 4  # the last one was the least used


def test_a_bundle_that_is_gone_or_changed_is_an_error_of_the_call(tiny, make_tiny, pictures, tmp_path):
    shutil.copytree(tiny.bundle, tmp_path / "t.fcam")
    packed = pickle.dumps(Explainer(tmp_path / "t.fcam"))
    shutil.rmtree(tmp_path / "t.fcam")
    copied = pickle.loads(packed)
    with pytest.raises(BundleError, match="is no bundle"):
        copied.explain(pictures[0])
    shutil.copytree(make_tiny(channels=5).bundle, tmp_path / "t.fcam")
    with pytest.raises(BundleError, match="has changed since the Explainer was pickled: make a new one"):
        copied.explain(pictures[0])


def test_a_pool_of_processes(tiny, pictures):
    explainer = Explainer(tiny.bundle, methods=METHODS)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(explainer.explain, pictures[:2]))
    for e, picture in zip(found, pictures, strict=False):
        same(e, explainer.explain(picture))
        assert e.overlay().any()


FORKS = """
import os, pickle, sys, time, warnings
import numpy as np
from fusioncam import Explainer

warnings.simplefilter("ignore")  # of Python, about forks beside threads
photo = np.random.default_rng(0).integers(0, 256, (900, 700, 3), np.uint8)
explainer = Explainer(sys.argv[1], threads=2)
copied = pickle.loads(pickle.dumps(explainer))
wanted = explainer.explain(photo).maps["fusion_cam"]
copied.explain(photo)


def again(one):
    np.testing.assert_array_equal(one.explain(photo).maps["fusion_cam"], wanted)
    one.close()


for work in (lambda: again(explainer), lambda: again(copied), explainer.close, copied.close):
    child = os.fork()
    if child == 0:
        work()
        os._exit(0)
    end = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(child, 9)
        time.sleep(0.01)
    print(ended[1])
again(explainer)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_a_forked_process_opens_the_bundle_anew_and_waits_for_no_thread_that_it_lacks(tiny):
    """A session of onnxruntime that a fork took along waits for ever for its threads, in a run and at its end."""
    done = subprocess.run([sys.executable, "-c", FORKS, tiny.bundle], capture_output=True, text=True, timeout=400)
    assert (done.stdout.split(), done.returncode, done.stderr) == (["0"] * 4, 0, "")
