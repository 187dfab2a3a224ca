"""The steps of `benchmarks/gpu.py` in the order of what is worth most, and the clock that they share."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

from record import Record

from gpu.rows import ROWS, Row, Setting, answer

EFFORTS: dict[str, dict[str, Any]] = {
    "full": {"timing": {"samples": 40}, "rounds": {"rounds": 20, "least": 5, "seconds": 5.0}, "rows": 10, "cases": {}},
    "quick": {"timing": {"samples": 10}, "rounds": {"rounds": 5, "least": 3, "seconds": 1.0}, "rows": 3, "cases": {}},
    "dry": {
        "timing": {"samples": 2, "launches": 2, "footprint": 4096}, "rows": 2,
        "rounds": {"rounds": 2, "least": 2, "seconds": 0},
        "cases": {"channels": 20, "small": 3, "large": 24, "classes": 10, "chunks": (4, 8)},
    },
}  # fmt: skip
EXACT = {"NVIDIA_TF32_OVERRIDE": "0"}  # TensorRT has no other switch that all its builders know
NEEDED = "what others need"  # no stage of the command line
SANITIZER = ("compute-sanitizer", "--tool", "memcheck", "--error-exitcode", "86")


class Clock:
    """The time of the whole.

    Args:
        minutes: How long it may take.
        now: Tells the time in seconds.
    """

    def __init__(self, minutes: float, now: Callable[[], float] = time.perf_counter) -> None:
        self._now, self._end = now, now() + 60 * minutes

    def left(self) -> float:
        """Seconds until the end."""
        return max(self._end - self._now(), 0.0)


@dataclass
class Bench:
    """Machine, models and limits that steps measure with.

    Attributes:
        asked: The command line's.
        devices: The GPU by launcher.
        missing: Launchers that are not there, and why.
        lab: Models and backends.
        clock: Of the whole, or of this step alone.
        effort: How much to measure.
    """

    asked: argparse.Namespace
    devices: dict[str, Any]
    missing: dict[str, str]
    lab: Any
    clock: Clock
    effort: dict[str, Any]

    @property
    def every(self) -> list[str]:
        """Names of the models, quick ones first; networks need torch."""
        return [*self.lab.files, *(reversed(self.asked.models) if find_spec("torch") else ())]

    @property
    def networks(self) -> list[str]:
        """Names of the networks whose bundles were made, what matters most first."""
        return [name for name in reversed(self.every) if name not in self.lab.files and self.lab.made(name)]

    @property
    def subject(self) -> str:
        """The model that most is measured with: the first network, else the largest file."""
        files = {name: file.path.stat().st_size for name, file in self.lab.files.items()}
        return (self.networks or sorted(files, key=lambda name: -files[name]))[0]


@dataclass(frozen=True)
class Step:
    """One part of the whole, in a process of its own: what it breaks on the GPU is broken for itself alone.

    Attributes:
        name: In the report.
        stage: Of the command line.
        least: Seconds without which it is not begun.
        most: Seconds after which it is stopped.
        work: What it does.
        under: A program, with its arguments, that watches the process.
        environment: Of the process, beside that of the command.
    """

    name: str
    stage: str
    least: float
    most: float
    work: Callable[[Bench, Record], None]
    under: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


def _kernels(bench: Bench, record: Record) -> None:
    from gpu.kernels import check

    check(record, bench.devices, bench.missing)


def models(bench: Bench, record: Record) -> None:
    """Make all bundles, those that matter most first: it takes the CPU alone, a minute or more."""
    lab, (first, *others) = bench.lab, bench.lab.files
    networks = reversed(bench.every[len(lab.files) :])
    make = {"single graph": lab.single, "maps of the CPU": lab.reference}
    for name in (first, *networks, *others):
        parts = [*lab.precisions(name), *(["single graph"] if name in _singles(bench) else [])]
        for part in [*parts, *(["maps of the CPU"] if bench.asked.prepare else [])]:
            begun = time.perf_counter()
            try:
                make[part](name) if part in make else lab.bundle(name, part)
            except Exception as error:  # the others shall be made all the same
                record.failed(f"{name}, {part}", error)
            record.figures.append({"model": name, "bundle": part, "export_seconds": time.perf_counter() - begun})
            record.save()


def _singles(bench: Bench) -> list[str]:
    """Names of the models whose single graph is built: the first file, and the smallest network."""
    networks = [name for name in bench.every if name not in bench.lab.files]
    return [next(iter(bench.lab.files)), *networks[:1]]


def _maps(bench: Bench, record: Record) -> None:
    from gpu.maps import check

    late = [name for name in bench.every if not bench.lab.made(name)]
    for name in late:
        record.leave_out(f"maps of {name}", "its bundle was not made in time")
    check(record, bench.lab, [name for name in bench.every if name not in late], bench.asked.chunks[0])


def _row(row: Row, bench: Bench, record: Record, small: bool = False) -> None:
    name = next(iter(bench.lab.files)) if small else bench.subject
    answer(record, row, bench.lab, Setting(name, bench.asked.chunks[0], bench.effort["rows"]))


def _engine(bench: Bench, record: Record) -> None:
    from gpu.one_engine import check

    check(record, bench.lab, _singles(bench), bench.effort["rows"])


def _bandwidth(bench: Bench, record: Record) -> None:
    from gpu.bandwidth import Effort, measure
    from gpu.cases import cases
    from gpu.machine import L2_CACHE_SIZE, attribute

    device = bench.lab.device
    l2_bytes = attribute(device, L2_CACHE_SIZE) if device.memory == "cuda" else 0
    measure(record, device, cases(**bench.effort["cases"]), Effort(**bench.effort["timing"]), l2_bytes)


def _explanations(bench: Bench, record: Record) -> None:
    from gpu.explanations import Plan, measure

    asked, deadline = bench.asked, time.perf_counter() + bench.clock.left() - 20  # what has begun must end, too
    models = bench.networks or [bench.subject]
    measure(record, bench.lab, Plan(models, asked.chunks, deadline=deadline, **bench.effort["rounds"]))


def _rows() -> list[Step]:
    """A step per row; row 9 once more under NVIDIA's memory checker."""
    made = []
    for row in ROWS:
        most = 150 if row.number == 10 else 75  # TensorRT builds an engine
        made.append(Step(f"row {row.number}", "rows", 15, most, partial(_row, row)))
        if row.number == 9:
            watched = partial(_row, row, small=True)
            made.append(Step("row 9, watched", "rows", 40, 90, watched, SANITIZER))
    return made


STEPS = (
    Step("kernels", "kernels", 10, 120, _kernels),
    Step("models", NEEDED, 10, 240, models),
    Step("maps", "maps", 30, 300, _maps, environment=EXACT),
    *_rows(),
    Step("engine", "engine", 30, 180, _engine, environment=EXACT),
    Step("bandwidth", "bandwidth", 15, 90, _bandwidth),
    Step("explanations", "explanations", 30, 600, _explanations, environment=EXACT),
)
STAGES = tuple(dict.fromkeys(step.stage for step in STEPS if step.stage != NEEDED))


def chosen(stages: Sequence[str]) -> list[Step]:
    """The steps of some stages, and those that they need."""
    bare = {*stages} <= {"kernels", "bandwidth"}  # no model takes part
    return [step for step in STEPS if step.stage in stages or (step.stage == NEEDED and not bare)]
