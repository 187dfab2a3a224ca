"""Runs that are captured into CUDA graphs: alone, and once more where another library has spoiled a capture."""

import gc
import weakref
from contextlib import nullcontext

import pytest

from fusioncam.errors import FusionCamError
from fusioncam.kernels.captures import CAPTURES
from fusioncam.runtime.engine.device.run import NO_GRAPH, WARM_UP, Run
from fusioncam.runtime.engine.device.session_thread import SessionThread

SPOILED = "CUDA failure 901: operation failed due to a previous error during capture ; GPU=0"


class Session:
    """A session whose first runs fail."""

    def __init__(self, *errors):
        self.errors, self.runs = [*errors], []

    def run_with_iobinding(self, binding, options):
        self.runs.append((options.get_run_config_entry("gpu_graph_id"), CAPTURES._capturing > 0))
        if self.errors:
            raise RuntimeError(self.errors.pop(0))


def run_of(session, graph=2):
    return Run(session, None, SessionThread(nullcontext), graph)


def test_only_the_warm_up_is_alone():
    session = Session()
    run = run_of(session)
    run.warm_up()
    run()
    assert session.runs == [("2", True)] * WARM_UP + [("2", False)]


def test_what_is_not_captured_is_warmed_up_once():
    session = Session()
    run_of(session, NO_GRAPH).warm_up()
    assert session.runs == [("-1", True)]


def test_a_spoiled_capture_is_tried_once_more():
    session = Session(SPOILED)
    run_of(session).warm_up()
    assert len(session.runs) == WARM_UP + 1


@pytest.mark.parametrize(
    ("errors", "remedy"),
    [
        ([SPOILED] * 2, "make the Explainer before other libraries use the GPU, or .* enable_cuda_graph=0"),
        (["CUDA failure 700: an illegal memory access was encountered"], "see what nvidia-smi says of the GPU"),
    ],
)
def test_any_other_failure_is_one_line(errors, remedy):
    session = Session(*errors)
    with pytest.raises(FusionCamError, match=f"{errors[-1].split(' ;')[0]}.*; {remedy}") as info:
        run_of(session).warm_up()
    assert "\n" not in str(info.value)
    assert len(session.runs) == len(errors)
    with CAPTURES.alone():  # it was given back
        pass


def test_an_engine_dropped_during_a_capture_ends_after_it(tiny, on_device):
    explainer = on_device(tiny.bundle)
    session = weakref.ref(explainer.pipeline.preferred._explain)
    with CAPTURES.alone():
        del explainer
        gc.collect()
        assert session() is not None
    assert session() is None
