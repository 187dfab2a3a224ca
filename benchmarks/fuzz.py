"""Mutated models, bundles, requests and pictures: each must end in an answer or in one line, soon, in little memory.

    python benchmarks/fuzz.py models     # fusioncam inspect and export
    python benchmarks/fuzz.py bundles    # fusioncam explain and check
    python benchmarks/fuzz.py requests   # the service, over ASGI
    python benchmarks/fuzz.py cpp        # graphs and pictures through runtime/cpp, under sanitizers

A case ends wrongly by a signal, a traceback, more or less than one line, an answer of 500, after 60 s or above 3 GB.
The counts go to results/fuzz.json; what a wrong case was made of stays in build/fuzz. Case N of a seed is always
the same: --first N --count 1 runs it again. Exit status 1 if anything was wrong.
"""

import argparse
import asyncio
import json
import math
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import record
from fuzz.sandbox import Outcome

ROOT = Path(__file__).resolve().parents[1]
COUNTS = {"models": 1500, "bundles": 1500, "requests": 3000, "cpp": 500}
RESULTS = Path(__file__).with_name("results") / "fuzz.json"


def run_cases(target: str, cases: Any, asked: argparse.Namespace) -> dict[str, Any]:
    """Make and run so many cases, or as many as there is time for; what was wrong is kept with what it was made of."""
    statuses: dict[str, Counter[str]] = defaultdict(Counter)
    slowest, largest, failures, until = 0.0, 0.0, [], time.monotonic() + 60 * asked.minutes
    number = asked.first
    for number in range(asked.first, asked.first + asked.count):
        if time.monotonic() > until:
            break
        folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=asked.work))
        done = cases.make(random.Random(f"{asked.seed} {number}"), folder)
        ended: dict[str, tuple[Outcome, str]] = cases.run(folder)
        for name, (outcome, wrong) in ended.items():
            statuses[name][str(outcome.status)] += 1
            slowest, largest = max(slowest, outcome.seconds), max(largest, outcome.megabytes)
            if wrong:
                failures.append(f"{target} {number} ({', '.join(done)}), {name}: {wrong}")
                print(failures[-1], file=sys.stderr, flush=True)
        if any(wrong for _, wrong in ended.values()):
            kept = ROOT / "build" / "fuzz" / target / f"{asked.seed}-{number}"
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(folder, kept, symlinks=True, ignore=_pipes)
        shutil.rmtree(folder)
        number += 1
    return {
        "cases": number - asked.first,
        "statuses": {name: dict(sorted(counts.items())) for name, counts in statuses.items()},
        "slowest_seconds": round(slowest, 1),
        "peak_megabytes": round(largest),
        "failures": failures,
    }


def _pipes(folder: str, names: list[str]) -> set[str]:
    """Return the names of pipes, which cannot be copied."""
    return {name for name in names if (Path(folder) / name).is_fifo()}


def models(asked: argparse.Namespace) -> dict[str, Any]:
    """Run mutated ONNX files through the commands."""
    from fuzz.models import Models

    return run_cases("models", Models(asked.work), asked)


def bundles(asked: argparse.Namespace) -> dict[str, Any]:
    """Run mutated bundles through the commands."""
    from fuzz.bundles import Bundles

    return run_cases("bundles", Bundles(asked.work), asked)


def requests(asked: argparse.Namespace) -> dict[str, Any]:
    """Mutated requests; all in this process."""
    from fuzz.requests import run

    from fusioncam.export import export_model
    from fusioncam.runtime.demo import MODEL

    export_model(MODEL, asked.work / "shapes.fcam")
    found = asyncio.run(run(asked.work / "shapes.fcam", asked.count, asked.seed))
    for failure in found["failures"]:
        print(failure, file=sys.stderr)
    return found


def cpp(asked: argparse.Namespace) -> dict[str, Any]:
    """Mutated graphs and pictures, by the C++ headers under the address and undefined-behaviour sanitizers."""
    from fuzz.cpp import Headers

    return run_cases("cpp", Headers(asked.work), asked)


TARGETS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "models": models,
    "bundles": bundles,
    "requests": requests,
    "cpp": cpp,
}


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=list(TARGETS))
    parser.add_argument("--count", type=int, help=f"cases; by default {COUNTS}")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="after which no case is begun (not of requests)"
    )
    parser.add_argument("--json", type=Path, default=RESULTS, help="the file that keeps the counts")
    asked = parser.parse_args(arguments)
    asked.count = COUNTS[asked.target] if asked.count is None else asked.count
    return asked


def main(arguments: list[str] | None = None) -> int:
    """Run the cases of a target, say what was found, and keep the counts."""
    asked, start = options(arguments), time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fusioncam-fuzz-") as work:
        asked.work = Path(work)
        found = TARGETS[asked.target](asked)
    found = {"cases": asked.count, "seed": asked.seed, "seconds": round(time.perf_counter() - start), **found}
    kept = json.loads(asked.json.read_text()) if asked.json.is_file() else {}
    record.write({**kept, asked.target: found}, asked.json)
    print(f"{found['cases']} {asked.target} in {found['seconds']} s: {found['statuses']}", end=", ")
    print(f"at most {found['peak_megabytes']} MB, {len(found['failures'])} wrong")
    return bool(found["failures"])


if __name__ == "__main__":
    sys.exit(main())
