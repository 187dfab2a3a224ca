"""Rows about a whole explanation: does progress follow the GPU, and how many pictures are passed for nothing?"""

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from record import Record, spread

from fusioncam.errors import FusionCamError
from fusioncam.manifest import SCORE_GRAPH
from fusioncam.runtime.budget import deadline
from fusioncam.runtime.engine import ExplainRequest, Pipeline
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.sessions.open import open_session
from gpu.lab import Lab, explain
from gpu.rows.passes import Setting

AHEAD = 0.5  # of the time should have passed, and a little less, when half the passes are reported
LATE = 1.3  # times its deadline that an explanation may take


class Cancelled(Exception):  # noqa: N818
    """Error that the progress callback raises to stop an explanation."""


def progress(record: Record, lab: Lab, setting: Setting) -> str:
    """Row 5: when half of the passes are reported, how soon a cancelled explanation ends, whether deadlines hold."""
    engine, manifest = lab.open("onnxruntime", setting.name, lab.precisions(setting.name)[-1], setting.chunk)
    pipeline, picture = Pipeline([manifest], [engine]), lab.picture(setting.name)

    def run(cancel: bool = False, **request: Any) -> tuple[float, float]:
        """Seconds until half of the passes were reported, and in all."""
        begun, half = time.perf_counter(), []

        def report(done: int, total: int) -> None:
            if 2 * done >= total and not half:
                half.append(time.perf_counter() - begun)
                if cancel:
                    raise Cancelled

        with suppress(Cancelled):
            [*pipeline.run([pipeline.task(ExplainRequest(picture, progress=report, **request))], METHODS)]
        whole = time.perf_counter() - begun
        return (half or [whole])[0], whole

    run()
    halves, wholes = zip(*(run() for _ in range(setting.samples)), strict=True)
    shares = spread([h / w for h, w in zip(halves, wholes, strict=True)])
    stopped = spread([run(cancel=True)[1] for _ in range(setting.samples)])
    whole = spread(wholes)
    record.figures.append({"explanation_seconds": whole, "half_reported_at": shares, "cancelled_seconds": stopped})
    record.target("time that has passed when half is reported", shares["p50"], AHEAD / 2, at_least=True)
    kept = _deadline(record, pipeline, run, whole["p50"] / 2)
    return (
        f"half the passes are reported after {shares['p50']:.0%} of {1e3 * whole['p50']:.1f} ms; cancelled then, it "
        f"ends after {1e3 * stopped['p50']:.1f} ms; {kept}"
    )


def _deadline(record: Record, pipeline: Pipeline, run: Any, seconds: float) -> str:
    """Return whether an explanation within so many seconds is one."""
    try:
        pipeline.rehearse(METHODS)
        took = run(budget=deadline(seconds))[1]
    except FusionCamError as error:
        record.leave_out("a deadline of half the time", error)
        return "a deadline of half the time was refused"
    record.target("times its deadline that an explanation takes", took / seconds, LATE)
    return f"with a deadline of {1e3 * seconds:.1f} ms it takes {1e3 * took:.1f} ms"


class Counted:
    """A session that counts the pictures of its runs.

    Args:
        session: onnxruntime's.
        runs: Gets the number of runs by pictures per run.
    """

    def __init__(self, session: Any, runs: Counter[int]) -> None:
        self._session, self._runs = session, runs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def io_binding(self) -> "CountedBinding":
        """A binding that knows its pictures."""
        return CountedBinding(self._session.io_binding())

    def run_with_iobinding(self, binding: "CountedBinding", *options: Any) -> None:
        """Count the run, and do it."""
        self._runs[binding.count] += 1
        self._session.run_with_iobinding(binding.binding, *options)


class CountedBinding:
    """A binding of onnxruntime's, and the pictures bound to it."""

    def __init__(self, binding: Any) -> None:
        self.binding, self.count = binding, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.binding, name)

    def bind_input(self, name: str, memory: str, index: int, kind: Any, shape: list[int], pointer: int) -> None:
        """Bind an input, as onnxruntime does."""
        self.count = shape[0]
        self.binding.bind_input(name, memory, index, kind, shape, pointer)


def padding(record: Record, lab: Lab, setting: Setting) -> str:
    """Row 6: the pictures of all runs of an explanation, against its passes, for some chunks."""
    precision, told = lab.precisions(setting.name)[-1], []
    for chunk in dict.fromkeys((setting.chunk, 4 * setting.chunk)):
        runs: Counter[int] = Counter()

        def counted(path: Path, *given: Any, runs: Counter[int] = runs, **more: Any) -> Any:
            session = open_session(path, *given, **more)
            return Counted(session, runs) if path.name == SCORE_GRAPH else session

        engine, manifest = lab.open("onnxruntime", setting.name, precision, chunk, open_session=counted)
        runs.clear()  # the warm-up's
        found = explain(engine, manifest, lab.picture(setting.name))
        pictures = sum(count * times for count, times in runs.items())
        record.figures.append({"chunk": chunk, "runs": dict(runs), "pictures": pictures, "passes": found.passes.run})
        extra = pictures - found.passes.run
        told.append(f"chunk {chunk}: {extra} of {pictures} pictures ({extra / pictures:.0%}) are passed for nothing")
    return "; ".join(told)
