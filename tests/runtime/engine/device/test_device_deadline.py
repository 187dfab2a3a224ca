"""Deadlines on a GPU, by a clock that only runs of the model move on."""

import pytest

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.runtime.budget import deadline
from fusioncam.runtime.engine import Clock, ExplainRequest
from fusioncam.runtime.methods import METHODS

RUN = 0.010  # seconds of a run, however many of its pictures are in use
CHUNK = 16


@pytest.fixture(scope="module")
def wide(make_tiny):
    return make_tiny(channels=200, zero=(1, 5, 77), constant=(3, 150))


@pytest.fixture
def explain(wide, on_device, pictures):
    pipeline = on_device(wide.bundle, chunk=CHUNK).pipeline
    time = [0.0]

    def explain(seconds):
        def ran(done, total):
            time[0] += RUN

        begun, clock = time[0], Clock(lambda: time[0])
        request = ExplainRequest(pictures[0], [1], METHODS, deadline(seconds), clock, ran)
        ((found,),) = pipeline.run([pipeline.task(request)], METHODS)
        return found, time[0] - begun

    explain.pipeline = pipeline
    return explain


@pytest.mark.parametrize("seconds", [0.05, 0.08, 0.1])
def test_a_deadline_is_kept_and_its_time_used(explain, seconds):
    explain(0.05)
    found, took = explain(seconds)
    assert seconds - RUN <= took <= seconds + 1e-9
    assert found.passes.run == (round(seconds / RUN) - 2) * CHUNK + 2  # all runs full, but those of R and U
    assert "late" not in found.flags


def test_a_deadline_shorter_than_the_least(explain):
    explain(0.05)
    with pytest.raises(UsageError, match=r"deadline of 20ms is too short .* takes at least 30 ms"):
        explain(0.02)


def test_progress_follows_a_plan_that_goes_on(explain, pictures):
    explain(0.05)
    calls = []
    at_rest = Clock(lambda: 0.0)  # so more fits than there seemed to
    request = ExplainRequest(pictures[0], [1], METHODS, deadline(0.1), at_rest, lambda *call: calls.append(call))
    ((found,),) = explain.pipeline.run([explain.pipeline.task(request)], METHODS)
    assert all(done <= total for done, total in calls)
    assert calls[-1] == (found.passes.run, found.passes.run)


def test_exact_where_exact_fits(wide, on_device, pictures, assert_equal):
    found = on_device(wide.bundle, chunk=CHUNK, budget="100s").explain(pictures[0], 1)
    assert_equal(found, Explainer(wide.bundle).explain(pictures[0], 1))
