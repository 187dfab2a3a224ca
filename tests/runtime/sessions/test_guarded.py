"""Sessions that keep clear of captures of CUDA graphs."""

import gc
import os
import threading
import weakref

import numpy as np
import pytest

from fusioncam.errors import UsageError
from fusioncam.kernels.captures import CAPTURES
from fusioncam.runtime.sessions.guarded import GuardedSession
from fusioncam.runtime.sessions.run import run


@pytest.fixture
def opened(tiny):
    return GuardedSession(str(tiny.bundle / "score.onnx"), providers=["CPUExecutionProvider"])


def test_opening_and_running_wait_for_a_capture(tiny, opened, pictures):
    done, picture = [], {"image": pictures[0][None]}
    binding = opened.io_binding()
    binding.bind_cpu_input("image", picture["image"])
    binding.bind_output("logits", "cpu")
    works = [
        lambda: opened.run_with_iobinding(binding),
        lambda: opened.run(["logits"], picture),
        lambda: GuardedSession(str(tiny.bundle / "score.onnx"), providers=["CPUExecutionProvider"]),
    ]
    threads = [threading.Thread(target=lambda work=work: done.append(work())) for work in works]
    with CAPTURES.alone():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(0.2)
        assert done == []
    for thread in threads:
        thread.join(60)
    assert len(done) == 3
    (logits,) = next(found for found in done if isinstance(found, list))
    assert np.isfinite(logits).all()
    np.testing.assert_array_equal(binding.copy_outputs_to_cpu()[0], logits)


def test_a_session_dropped_during_a_capture_ends_after_it(tiny):
    held = [GuardedSession(str(tiny.bundle / "score.onnx"), providers=["CPUExecutionProvider"])]
    own = weakref.ref(held[0]._sess)
    with CAPTURES.alone():
        held.clear()
        gc.collect()
        assert own() is not None
    assert own() is None


def test_a_forked_process_is_told_that_the_session_is_none_of_its_own(opened, pictures, monkeypatch):
    here = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: here + 1)
    with pytest.raises(
        UsageError, match=r"^a provider other than cpu cannot be used in a process forked from one that"
    ):
        run(opened, ["logits"], {"image": pictures[0][None]})
    with pytest.raises(UsageError, match=r"start processes with spawn, or fork before the first Explainer is made$"):
        opened.run_with_iobinding(opened.io_binding())


def test_a_session_that_cannot_be_opened_leaves_nothing_behind(tmp_path):
    with pytest.raises(Exception, match=r"none\.onnx"):
        GuardedSession(str(tmp_path / "none.onnx"), providers=["CPUExecutionProvider"])
    with CAPTURES.alone():
        pass
