"""Run steps one after another, each in a process of its own, within the time of the whole."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from record import Figures, Record, guarded, passed, write

from gpu.machine import slug
from gpu.steps import Bench, Clock, Step, chosen
from gpu.table import lines

COMMAND = Path(__file__).resolve().parents[1] / "gpu.py"
SHOWN = 4  # last lines of a process that ended badly


def run(report: Figures, out: Path, stages: Sequence[str], clock: Clock, do: Callable[..., Figures]) -> bool:
    """Run the steps of some stages in their order, and write the report after each; whether all checks passed.

    Args:
        report: Gets what they find.
        out: Where it is written.
        stages: Their names.
        clock: Of the whole.
        do: Runs a step: takes it, the seconds it may take, and a function that keeps what was found so far.
    """
    report["stages"] = {}
    for step in chosen(stages):

        def keep(found: Figures, name: str = step.name) -> None:
            report["stages"][name] = found
            report["passed"] = passed(report["stages"])
            write(report, out)

        left = clock.left()
        why = f"{left:.0f} s were left, and it needs {step.least:.0f}"
        keep(skipped(why) if left < step.least else do(step, min(left, step.most), keep))
        print("\n".join(lines(step.name, report["stages"][step.name])), flush=True)
    print(f"{'passed' if report['passed'] else 'FAILED'}; everything is in {out}")
    return bool(report["passed"])


def skipped(why: str) -> Figures:
    """Return the record of a step that was not begun."""
    return {"status": "not run", "reason": why, "seconds": 0.0, **Record().found}


def here(bench: Bench, step: Step, seconds: float, keep: Callable[[Figures], None]) -> Figures:
    """Run a step in this process: nobody stops it."""
    if step.under:
        return skipped("it watches a process; leave out --together")
    bench.clock = Clock(seconds / 60)
    return guarded(partial(step.work, bench), keep)


def apart(
    asked: argparse.Namespace, folder: Path, step: Step, seconds: float, keep: Callable[[Figures], None]
) -> Figures:
    """Run a step in a process of its own, and stop it when its time is over; what it found until then stays."""
    if step.under and shutil.which(step.under[0]) is None:
        return skipped(f"{step.under[0]} is not installed")
    part, log = (folder / f"{slug(step.name)}.{kind}" for kind in ("json", "log"))
    command = [*step.under, sys.executable, str(COMMAND), *words(asked)]
    command += ["--only", step.name, "--folder", str(folder), "-o", str(part), "--minutes", f"{seconds / 60:.3f}"]
    begun = time.perf_counter()
    with log.open("w") as told:
        process = subprocess.Popen(
            command,
            stdout=told,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **step.environment},
        )
        try:
            status: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            end(process)
    found: Figures = json.loads(part.read_text()) if part.exists() else {"status": "stopped", **Record().found}
    found["seconds"] = round(time.perf_counter() - begun, 1)
    if status is None:
        found |= {"status": "stopped", "reason": f"its {seconds:.0f} s were over"}
    elif found["status"] == "stopped" or (step.under and status):
        found |= {"status": "crashed", "reason": f"it ended with status {status}"}
    if found["status"] in ("stopped", "crashed"):
        found["log"] = log.read_text(errors="replace").splitlines()[-SHOWN:]
    return found


def end(process: "subprocess.Popen[Any]") -> None:
    """End a process, and what it has started: its group is its own."""
    if os.name == "nt":
        process.kill()
    elif process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def words(asked: argparse.Namespace) -> list[str]:
    """The options of the command line that a step needs, too."""
    found = ["--models", *asked.models, "--chunks", *map(str, asked.chunks), "--device", str(asked.device)]
    for name in ("assets", "bundles"):
        found += [f"--{name}", str(getattr(asked, name))] if getattr(asked, name) else []
    return found + [f"--{name}" for name in ("quick", "dry") if getattr(asked, name)]
