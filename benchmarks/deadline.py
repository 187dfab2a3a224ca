"""Deadlines: are they kept within one run of the model, and is the map as good as that of a fixed number of passes?

    python benchmarks/deadline.py [--models FOLDER --photos FOLDER] [--runs N] [--deadlines 30ms 80ms 200ms] [--draw]

Each model explains photo after photo within each deadline, all deadlines in turns, so that a slow while of the machine
meets all of them. Seconds are taken from outside, from the photo's file to its maps. *Kept* is a run that ends before
the deadline and one run of the model, whose time is the median of a measurement before and after. Of the first photos
every map is held against the exact one, and beside it that of a budget of exactly as many passes. A deadline that the
engine refuses is left out with its words. Without a folder, the built-in model explains its scenes. Writes
results/deadline.json, and its table into README.md; `--draw` writes the table only.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cpu.readme import fill, table
from cpu.subjects import WANTED
from record import Figures, Record, guarded, spread, write

from fusioncam import Explainer
from fusioncam.errors import UsageError
from fusioncam.export import export_model
from fusioncam.files import replace_file
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.budget import Budget, Deadline, parse_budget
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.engine import TOP_CLASS, ExplainRequest
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.photos.model_input import ImageLike
from fusioncam.runtime.probes.likeness import correlation

HERE = Path(__file__).resolve().parent
DEADLINES = ("30ms", "80ms", "200ms")
KEPT = 0.95  # share of the runs that keep a deadline, at least
AS_GOOD = 1e-3  # by which the median r may be below that of a budget of as many passes
PROBES = 20  # measurements of one run of the model
COMPARED = 40  # runs of a deadline whose maps are compared
COLUMNS = (
    "", "runs", "kept", "seconds p50", "p95", "max", "one run", "flagged late", "passes p50",
    "r at the deadline: p50 (least)", "r of as many passes", "expected error / true",
)  # fmt: skip


class Run(NamedTuple):
    """One explanation within a deadline.

    Attributes:
        seconds: From the photo to its maps.
        found: The explanation.
    """

    seconds: float
    found: Explanation


class Bench:
    """A model, its photos, and the exact maps of those.

    Args:
        bundle: The model's bundle.
        photos: What it explains.
        threads: Of onnxruntime.
    """

    def __init__(self, bundle: Path, photos: Sequence[ImageLike], threads: int | None) -> None:
        self.explainer = Explainer(bundle, budget="10s", threads=threads)  # which measures the pace when it opens
        self.photos = photos
        self._exact: dict[int, Explanation] = {}

    def explain(self, n: int, budget: Budget) -> Run:
        """Explain a photo, after the others."""
        pipeline, photo = self.explainer.pipeline, self.photos[n % len(self.photos)]
        begun = time.perf_counter()
        request = ExplainRequest(photo, [TOP_CLASS], METHODS, budget)
        ((found,),) = pipeline.run([pipeline.task(request)], METHODS)
        return Run(time.perf_counter() - begun, found)

    def likeness(self, n: int, found: Explanation) -> float:
        """Return the correlation of Score-CAM with the exact map."""
        k = n % len(self.photos)
        if k not in self._exact:
            self._exact[k] = self.explain(k, "exact").found
        return correlation(found.maps["score_cam"], self._exact[k].maps["score_cam"])

    def one_run(self) -> float:
        """Return the seconds of one run of the model, median."""
        scorer = self.explainer.pipeline.preferred.scorer  # type: ignore[attr-defined]  # on the CPU it has one
        seconds = []
        for _ in range(PROBES):
            begun = time.perf_counter()
            scorer.try_out(scorer.chunk)
            seconds.append(time.perf_counter() - begun)
        return statistics.median(seconds)


def measure(record: Record, name: str, bench: Bench, deadlines: Sequence[Deadline], runs: int) -> None:
    """Measure all deadlines of one model."""
    left = [d for d in deadlines if (refused := refusal(bench, d)) is None or record.leave_out(f"{name}, {d}", refused)]
    before, made = bench.one_run(), {d: list[Run]() for d in left}
    for n in range(runs):
        for deadline in left:
            made[deadline].append(bench.explain(n, deadline))
    one_run = statistics.median([before, bench.one_run()])
    for deadline, of_deadline in made.items():
        seconds = [run.seconds for run in of_deadline]
        kept = sum(s <= deadline.seconds + one_run for s in seconds) / len(seconds)
        record.target(f"{name}, {deadline}: kept within one run of the model", kept, KEPT, at_least=True)
        compared = list(compare(bench, of_deadline[:COMPARED]))
        at_deadline, by_count, expected, true = map(list, zip(*compared, strict=True))
        record.target(
            f"{name}, {deadline}: r less that of as many passes, median",
            statistics.median(a - b for a, b in zip(at_deadline, by_count, strict=True)), -AS_GOOD, at_least=True,
        )  # fmt: skip
        record.figures.append({
            "model": name, "deadline": str(deadline), "runs": len(seconds), "kept": kept, "in_time":
            sum(s <= deadline.seconds for s in seconds) / len(seconds), "seconds": spread(seconds), "one_run": one_run,
            "late": sum("late" in run.found.flags for run in of_deadline),
            "passes": spread([float(run.found.passes.run) for run in of_deadline]),
            "r": spread(at_deadline), "r_by_count": spread(by_count),
            "expected_error": statistics.median(expected), "error": statistics.median(true),
        })  # fmt: skip
        print(f"{name}, {deadline}: kept {kept:.1%}, {statistics.median(seconds):.4f} s", flush=True)
    record.save()


def refusal(bench: Bench, deadline: Deadline) -> UsageError | None:
    """Return the error of a deadline that is too short in all of some tries."""
    for n in range(PROBES):
        try:
            bench.explain(n, deadline)
        except UsageError as error:
            last = error
        else:
            return None
    return last


def compare(bench: Bench, runs: Sequence[Run]) -> Iterator[tuple[float, float, float, float]]:
    """Yield for each run: r at the deadline, r of as many passes, the expected error, and the true one."""
    for n, run in enumerate(runs):
        r = bench.likeness(n, run.found)
        counted = bench.explain(n, run.found.passes.run).found
        yield r, bench.likeness(n, counted), run.found.passes.error, 1 - max(r, 0) ** 2


def subjects(models: Path | None, photos: Path | None, folder: Path) -> Iterator[tuple[str, Path, Sequence[ImageLike]]]:
    """Yield the name of each model, its bundle, and what it explains."""
    export_model(MODEL, folder / "demo.fcam", preprocessing={"preset": "unit"})
    yield "demo", folder / "demo.fcam", [draw_scene(seed, (96, 96), 1 + seed % 2).image for seed in range(10)]
    if models is not None and photos is not None:
        files = [path for name, path in photos_of(photos).items() if "mask" not in name]
        for name, fields in WANTED.items():
            for path in sorted(p for p in models.glob(f"{name}*.onnx") if "fp16" not in p.stem):
                export_model(path, folder / f"{path.stem}.fcam", preprocessing=fields)
                yield path.stem, folder / f"{path.stem}.fcam", files


def row_of(f: Figures) -> list[str]:
    """Return a row of the table of README.md."""
    t, r, other = f["seconds"], f["r"], f["r_by_count"]
    return [
        f"{f['model']}, {f['deadline']}", str(f["runs"]), f"{f['kept']:.1%}",
        *(f"{1e3 * s:.1f} ms" for s in (t["p50"], t["p95"], t["max"], f["one_run"])),
        str(f["late"]), f"{f['passes']['p50']:.0f}", f"{r['p50']:.4f} ({r['min']:.3f})",
        f"{other['p50']:.4f} ({other['min']:.3f})", f"{f['expected_error']:.1e} / {f['error']:.1e}",
    ]  # fmt: skip


def draw(report: dict[str, Any], out: Path) -> None:
    """Write the table into README.md."""
    stage = report["stages"]["deadline"]
    left = [f"- left out: {o['what']}: {o['why'].partition(': ')[2]}" for o in stage["left_out"]]
    load = " to ".join(f"{load:.1f}" for load in report["load"])
    load = f"{report['date']}, {report['machine']['cores']} cores, load of the machine {load}."
    rows = [row_of(f) for f in stage["figures"]]
    made = "\n".join([load, "", table(COLUMNS, rows), *[""] * bool(left), *left])
    readme = out / "README.md"
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    replace_file(readme, fill(text, {"deadline": made}).encode())


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of ONNX files")
    parser.add_argument("--photos", type=Path, help="folder of photos for them")
    parser.add_argument("--only", nargs="*", default=[""], help="how names of models begin")
    parser.add_argument("--deadlines", nargs="+", default=DEADLINES)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--draw", action="store_true", help="measure nothing: the table from the last result")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/ and README.md")
    asked = parser.parse_args(arguments)
    target = asked.out / "results" / "deadline.json"
    if asked.draw:
        draw(json.loads(target.read_text()), asked.out)
        return 0
    deadlines = [d for d in map(parse_budget, asked.deadlines) if isinstance(d, Deadline)]
    loads = [os.getloadavg()[0]]

    def work(record: Record) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, bundle, photos in subjects(asked.models, asked.photos, Path(folder)):
                if name.startswith(tuple(asked.only)):
                    measure(record, name, Bench(bundle, photos, asked.threads), deadlines, asked.runs)

    found = guarded(work)
    loads.append(os.getloadavg()[0])
    report = {
        "date": time.strftime("%Y-%m-%d"), "machine": describe(), "versions": versions(), "load": loads,
        "stages": {"deadline": found},
    }  # fmt: skip
    target.parent.mkdir(parents=True, exist_ok=True)
    write(report, target)
    draw(json.loads(target.read_text()), asked.out)
    print(f"everything is in {target}")
    return 0 if found["status"] == "done" else 1


if __name__ == "__main__":
    sys.exit(main())
