"""Jobs that fail, and those beside them."""

import threading

import numpy as np
import pytest

from fusioncam.errors import FusionCamError, ImageError, NotFiniteError
from fusioncam.runtime.sessions.masked_graph import PICTURE

ALL = 13  # passes of an exact explanation of `tiny`
SOON = 60.0  # seconds


BAD = {
    "shape": (lambda x: x[:, :-1], ImageError, "24"),
    "nan": (lambda x: np.full_like(x, np.nan), ImageError, "NaN"),
    "huge": (lambda x: x * np.float32(1e37), NotFiniteError, "NaN or infinite"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_harms_nobody_else(batcher, alone, pictures, name, submit, job, same):
    spoil, kind, message = BAD[name]
    made, gate = batcher(shut=True, chunk=5)
    futures = [submit(made, job(x)) for x in (pictures[0], spoil(pictures[1]), pictures[2])]
    gate.let()
    with pytest.raises(kind, match=message):
        futures[1].result(SOON)[0]
    same(futures[0].result(SOON)[0], alone(pictures[0]))
    same(futures[2].result(SOON)[0], alone(pictures[2]))


def test_nan_logits_are_those_of_one_picture(batcher, alone, pictures, submit, job, same):
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
    first = submit(made, job(pictures[1]))
    bad = submit(made, job(pictures[0]))
    gate.let()
    with pytest.raises(NotFiniteError, match="NaN or infinite logits"):
        bad.result(SOON)[0]
    same(first.result(SOON)[0], alone(pictures[1]))


def test_a_run_that_fails_ends_those_in_it_and_no_others(batcher, pictures, submit, job):
    made, gate = batcher(shut=True)
    session, gate.session = gate.session, None  # it has no `run`
    futures = [submit(made, job(x)) for x in pictures]
    gate.let()
    for future in futures:
        with pytest.raises(FusionCamError, match="onnxruntime cannot run the model"):
            future.result(SOON)[0]
    gate.session = session
    assert submit(made, job(pictures[0])).result(SOON)[0].passes.run == ALL


def broken(*_):
    raise RuntimeError("secret")


def test_what_nobody_foresaw_ends_the_jobs_there_are_but_not_the_batcher(
    batcher, pictures, monkeypatch, caplog, submit, job, seen
):
    made, gate = batcher(shut=True, max_batch=1, observer=seen)
    monkeypatch.setattr(seen, "chunk", broken)
    futures = [submit(made, job(x)) for x in pictures]
    gate.let()
    for future in futures:
        with pytest.raises(FusionCamError, match="failed unexpectedly; the log of the service has more"):
            future.result(SOON)[0]
    assert [record.exc_info[0] for record in caplog.records] == [RuntimeError]
    monkeypatch.undo()
    gate.let()
    assert submit(made, job(pictures[0])).result(SOON)[0].passes.run > 0
    assert seen.waiting[-1] == 0  # of three jobs, two waited


@pytest.mark.parametrize("name", ["engine_for", "queued"])
def test_what_fails_as_a_job_begins_is_its_own(batcher, pipeline, pictures, monkeypatch, name, submit, job, seen):
    made, _ = batcher(observer=seen)
    engine_for = pipeline.engine_for

    def failing(methods, verify=False):
        return broken() if methods == ("hires_cam",) else engine_for(methods, verify)

    def failing_there(*_):
        if threading.current_thread().name.startswith("batcher"):
            broken()

    changed = {"engine_for": (pipeline, failing), "queued": (seen, failing_there)}[name]
    monkeypatch.setattr(changed[0], name, changed[1])
    with pytest.raises(RuntimeError, match="secret"):
        submit(made, job(pictures[0], methods=("hires_cam",))).result(SOON)[0]
    monkeypatch.undo()
    assert submit(made, job(pictures[1], methods=("grad_cam",))).result(SOON)[0].passes.run == 0
