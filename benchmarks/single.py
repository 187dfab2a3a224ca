"""The single graph beside the runtime: are its maps the same, and then, how long does it take, and how much memory?

    python benchmarks/single.py [--models FOLDER --photos FOLDER] [--only NAME...] [--rounds N] [--threads N]

Every ONNX file of the folder, or else the built-in model, is exported with its single graph, and that is written with
shared weights as well. First all maps are held against those of `Explainer` in its exact mode, on several photos and
classes; then one photo is explained in turns by each, with as many threads; last, each explains in a process of its
own, whose peak memory is taken. Writes results/single.json. Exit status 1 if a map is wrong.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from cpu.subjects import WANTED
from record import Figures, Record, guarded, passed, spread, write

from fusioncam import Explainer
from fusioncam.export import export_model, single_graph
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import SINGLE_GRAPH
from fusioncam.runtime.bench import memory, turns
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.photos.model_input import ImageLike, as_input

HERE = Path(__file__).resolve().parent
MAPS = ("fusion_cam", "grad_cam", "score_cam")
SINGLE, SHARED = "single graph", "shared.onnx"
SAME, SLOWEST = 1e-4, 1.15
CLASSES = (-1, 0, 1)
MEGABYTE = 1 << 20


class Single:
    """Runs a single graph.

    Args:
        path: The ONNX file.
        threads: Of onnxruntime.
    """

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def explain(self, x: Array, class_index: int = -1) -> dict[str, Array]:
        """The maps (1, H, W) of a preprocessed picture (3, H, W)."""
        feeds = {"image": x[None], "class_index": np.array([class_index], np.int64)}
        return dict(zip(MAPS, self._session.run(MAPS, feeds), strict=True))


def prepared(model: Path, folder: Path) -> Path:
    """The bundle of a model, and both its single graphs."""
    bundle = folder / f"{model.stem}.fcam"
    wanted = next((fields for part, fields in WANTED.items() if model.stem.startswith(part)), None)
    raw = {"preset": "raw" if model.stem.startswith("cifar") else "unit"}
    export_model(model, bundle, preprocessing=raw if wanted is None and model != MODEL else wanted, single=True)
    (folder / SHARED).write_bytes(single_graph(bundle, shared_weights=True))
    return bundle


def farthest(found: dict[str, Array], wanted: dict[str, Array]) -> float:
    """The largest difference between maps."""
    return max(float(np.abs(found[m][0] - wanted[m]).max()) for m in MAPS)


def compare(record: Record, bundle: Path, pictures: Sequence[Array], threads: int) -> None:
    """Compare all maps of the two."""
    explainer = Explainer(bundle, threads=threads)
    graphs = {name: Single(path, threads) for name, path in files_of(bundle).items()}
    worst = dict.fromkeys(graphs, 0.0)
    for x in pictures:
        for c in (c for c in CLASSES if c < explainer.manifest.classes):
            wanted = explainer.explain(x, None if c < 0 else c).maps
            for name, graph in graphs.items():
                worst[name] = max(worst[name], farthest(graph.explain(x, c), wanted))
    for name, error in worst.items():
        record.check(f"{bundle.stem}: maps by the {name} are the runtime's", error, SAME, pictures=len(pictures))


def files_of(bundle: Path) -> dict[str, Path]:
    """The single graphs by what to call them."""
    return {SINGLE: bundle / SINGLE_GRAPH, f"{SINGLE}, shared weights": bundle.parent / SHARED}


def time_in_turns(record: Record, bundle: Path, x: Array, rounds: int, threads: int) -> None:
    """Seconds of an explanation, and how often those of the runtime, round by round."""
    explainer = Explainer(bundle, threads=threads)
    graphs = {name: Single(path, threads) for name, path in files_of(bundle).items()}
    work: dict[str, Callable[[], object]] = {"runtime": lambda: explainer.explain(x)}
    work |= {name: partial(graph.explain, x) for name, graph in graphs.items()}
    for explain in work.values():
        explain()
    seconds = turns.in_turns(work, rounds, rest=turns.REST)
    for name, path in files_of(bundle).items():
        ratios = [a / b for a, b in zip(seconds[name], seconds["runtime"], strict=True)]
        times: Figures = {"seconds": spread(seconds[name]), "times_runtime": spread(ratios)}
        record.figures.append({"model": bundle.stem, "what": name, "file_bytes": path.stat().st_size, **times})
        print(f"{bundle.stem}, {name}: {statistics.median(ratios):.3f} times the runtime")
        if name == SINGLE:
            record.target(f"{bundle.stem}: seconds over the runtime's", statistics.median(ratios), SLOWEST)
    times = {"chunk": explainer.chunk, "seconds": spread(seconds["runtime"])}
    record.figures.append({"model": bundle.stem, "what": "runtime", **times})


def weigh(record: Record, bundle: Path, x: Array, threads: int) -> None:
    """Measure the peak memory of each form, in a process of its own."""
    picture = bundle.parent / "picture.npy"
    np.save(picture, x)
    for name, path in {"runtime": bundle, **files_of(bundle)}.items():
        asked = {"path": str(path), "picture": str(picture), "threads": threads}
        found = memory.in_fresh_process([str(HERE / "single.py"), "--memory"], asked)
        record.figures.append({"model": bundle.stem, "what": name, "memory_bytes": found._asdict()})
        if found.added is not None:
            print(f"{bundle.stem}, {name}: {found.added / MEGABYTE:.0f} MB over the loaded model")


def load(asked: dict[str, Any]) -> Callable[[], object]:
    """Load and explain once, as `weigh` asks of another process."""
    path, x, threads = Path(asked["path"]), np.load(asked["picture"]), asked["threads"]
    subject = Explainer(path, threads=threads) if path.is_dir() else Single(path, threads)
    return lambda: subject.explain(x)


def measure(record: Record, model: Path, photos: Sequence[ImageLike], rounds: int, threads: int) -> None:
    """All of one model."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = prepared(model, Path(folder))
        preprocessing = Explainer(bundle).manifest.preprocessing
        pictures = [as_input(photo, preprocessing)[1] for photo in photos]
        compare(record, bundle, pictures, threads)
        time_in_turns(record, bundle, pictures[0], rounds, threads)
        weigh(record, bundle, pictures[0], threads)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of ONNX files")
    parser.add_argument("--photos", type=Path, help="folder of pictures")
    parser.add_argument("--only", nargs="*", help="how names of models begin")
    parser.add_argument("--count", type=int, default=3, help="photos that are compared")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/")
    parser.add_argument("--memory", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.memory:
        memory.answer(load)
        return 0
    if (asked.models is None) != (asked.photos is None):
        parser.error("--models and --photos go together")
    photos: list[ImageLike] = [draw_scene(seed, objects=2).image for seed in range(asked.count)]
    if asked.photos:
        photos[:] = [path for _, path in sorted(photos_of(asked.photos).items())][: asked.count]
    settings = {"rounds": asked.rounds, "threads": asked.threads, "photos": len(photos), "classes": CLASSES}
    report: dict[str, Any] = {
        "benchmark": "single", "machine": describe(), "versions": versions(), "settings": settings, "stages": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as cache:
        os.environ["FUSIONCAM_CACHE"] = cache  # what was found best on another day does not count
        for model in sorted(asked.models.glob("*.onnx")) if asked.models else [MODEL]:
            if asked.only and not model.stem.startswith(tuple(asked.only)):
                continue
            found = guarded(lambda record, m=model: measure(record, m, photos, asked.rounds, asked.threads))  # type: ignore[misc]
            report["stages"][model.stem] = found
            for check in found["checks"]:
                print(f"{'ok   ' if check['ok'] else 'WRONG'} {check['what']}: {check['found']:.1e}")
            if found["status"] != "done":
                print(f"{model.stem}: {found['status']}, {found['reason']}")
            report["passed"] = passed(report["stages"])
            write(report, asked.out / "results" / "single.json")
    return 0 if report.get("passed") else 1


if __name__ == "__main__":
    sys.exit(main())
