"""The promise of `auto`: its Score-CAM against the exact map, on models and pictures that its constants never saw.

    python benchmarks/promise.py [--models FOLDER --photos FOLDER] [--only NAME...] [--replay] [--quick]

`auto` promises that the squared error of the map, 1 - r^2, is below a tolerance. Here that is a coverage: the share of
runs whose true error is larger. The models are small classifiers of the drawn scenes, trained once (see
`promise/models.py`; about a quarter of an hour on two cores), the built-in one, and pretrained ONNX files where their
folder and photos are given. One half of them, `fitted`, is what constants may be chosen by; the other is held out.
Each explains its top class, the third, and the least likely one, each alone, and the top three together, by its last
layer and one in the middle.

Every masked pass of every picture is run once, and its scores are kept in WORK; `--replay` uses what is there and runs
no model. Budgets are then tried by the engine's own steps with those scores in the place of the model, which takes
milliseconds. Writes results/promise.json, and its tables into README.md; single runs go into WORK/runs.json.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

HERE = Path(__file__).parent
if __name__ == "__main__":  # this file has the name of the folder beside it
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from cpu.readme import fill  # noqa: E402
from promise.models import MODELS  # noqa: E402
from promise.replay import replay, squared_error  # noqa: E402
from promise.store import load  # noqa: E402
from promise.subjects import LAYERS, fitted, store, subjects  # noqa: E402
from promise.summary import Run, report, tables  # noqa: E402

from fusioncam.files import replace_file  # noqa: E402
from fusioncam.output import json_bytes, write_atomically  # noqa: E402
from fusioncam.runtime.bench.machine import describe, versions  # noqa: E402
from fusioncam.runtime.budget import Budget, auto  # noqa: E402
from fusioncam.runtime.probes.likeness import correlation  # noqa: E402

BUDGETS: tuple[Budget, ...] = (auto(), auto(1e-2), 0.05, 0.1, 0.2, 64)
DETAILED = (str(auto()),)
CLASSES = {"top": (0,), "third": (2,), "unlikely": (-1,), "top three": (0, 1, 2)}
PICTURES = {"last": 24, "middle": 10}
QUICK = (replace(MODELS[0], steps=2),)


def runs_of(path: Path, budgets: Sequence[Budget]) -> list[Run]:
    """Return the runs of a stored case with every budget, for every choice of classes that its model has."""
    case, subject, (layer, picture) = load(path), path.parent.name, path.stem.split("-", 1)
    runs = []
    for name, positions in chosen(len(case.classes)).items():
        exact = [case.exact_map(p) for p in positions]
        for budget in budgets:
            found = replay(case, positions, budget)
            passes, r = found.passes, min(map(correlation, found.maps, exact))
            promised = passes.tolerance if passes.settled else passes.error
            runs.append(
                Run(
                    subject, fitted(subject), layer, picture, name, str(budget), squared_error(r), r, passes.error,
                    promised, passes.surprise, not passes.settled, passes.missing, passes.run, found.exact,
                )
            )  # fmt: skip
    return runs


def chosen(count: int) -> dict[str, list[int]]:
    """Return the positions among so many stored classes, by the choices of `CLASSES` that there are."""
    found = {name: sorted({p % count for p in wanted if p < count}) for name, wanted in CLASSES.items()}
    return {name: positions for name, positions in found.items() if len(positions) == min(len(CLASSES[name]), count)}


def main(arguments: list[str] | None = None) -> int:
    """Store what is not stored yet, replay all, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of ONNX files")
    parser.add_argument("--photos", type=Path, help="folder of photos for them")
    parser.add_argument("--only", nargs="*", default=[""], help="how names of models begin")
    parser.add_argument("--work", type=Path, default=Path("build/promise"), help="keeps models and scores")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/ and README.md")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes that replay")
    parser.add_argument("--replay", action="store_true", help="only what is stored already")
    parser.add_argument("--quick", action="store_true", help="does it run? two models, one scene")
    asked = parser.parse_args(arguments)
    rows, pictures, work = MODELS, PICTURES, asked.work
    if asked.quick:
        rows, pictures, work = QUICK, dict.fromkeys(LAYERS, 1), asked.work / "quick"
    if not asked.replay:
        for subject in subjects(asked.models, asked.photos, work / "models", rows):
            if subject.name.startswith(tuple(asked.only)):
                print(f"{subject.name}: {len(list(store(subject, work, pictures)))} cases", flush=True)
    cases = [p for p in sorted(work.glob("store/*/*-*.npz")) if p.parent.name.startswith(tuple(asked.only))]
    if not cases:
        print(f"nothing is stored in {work}; run without --replay first", file=sys.stderr)
        return 1
    runs: list[Run] = []
    with ProcessPoolExecutor(asked.jobs) as processes:
        for n, of_case in enumerate(processes.map(partial(runs_of, budgets=BUDGETS), cases, chunksize=4), start=1):
            runs += of_case
            if n % 50 == 0 or n == len(cases):
                print(f"{n} of {len(cases)} cases replayed", flush=True)
    write_atomically(work / "runs.json", json_bytes([asdict(run) for run in runs]))
    figures = report(runs)
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe(),
        "versions": versions(),
        "cases": len(cases),
        **figures,
    }
    target, readme = asked.out / "results" / "promise.json", asked.out / "README.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json_bytes(content))
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    made = tables(figures, DETAILED)
    replace_file(readme, fill(text, {"promise": made}).encode())
    print(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
