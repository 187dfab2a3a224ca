"""The tail of int8: how far maps by int8 scores are from those by float32 scores, on photos not calibrated on.

    python benchmarks/int8.py --models FOLDER --photos FOLDER [--only NAME...] [--out JSON]

Every second photo of the folder calibrates; the others are explained by all channels, and maps are compared, as
`fusioncam check --photos` does. Three variants: int8 as `fusioncam export --precision int8` makes it, the same without
second passes of the heaviest channels, and `--symmetric`. Explanations are timed in one process, each photo by float32
and by the variants in turns. The table that is printed is that of benchmarks/README.md.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from fusioncam import Explainer, export_model
from fusioncam.drift import NEAR
from fusioncam.export import assembly
from fusioncam.export.options import ExportOptions
from fusioncam.export.precision.drift import correlation
from fusioncam.files import replace_file
from fusioncam.kernels import rescoring
from fusioncam.manifest import Preprocessing
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.photos.model_input import as_input

RESULTS = Path(__file__).parent / "results" / "int8.json"
# How known files want their pictures; others say so themselves, or are taken to want 0..1.
WANTED: dict[str, dict[str, Any]] = {
    "mobilenet": {"preset": "tf"},
    "squeezenet": {"preset": "raw", "mean": (103.94, 116.78, 123.68), "channel_order": "bgr"},
    "cifar": {"preset": "raw"},
    "vww": {"preset": "unit"},
}
ONCE, AS_EXPORTED, SYMMETRIC = "int8, no second passes", "int8", "int8, symmetric"
VARIANTS = (ONCE, AS_EXPORTED, SYMMETRIC)
METHODS = ("score_cam", "fusion_cam")


def given(photos: Mapping[str, Path], preprocessing: Preprocessing) -> Iterator[tuple[str, Any]]:
    """Photos as an export takes them, by name."""
    return ((name, as_input(path, preprocessing)[1]) for name, path in photos.items())


@contextmanager
def passed_again(variant: str) -> Iterator[None]:
    """Without second passes inside, for the variant that has none."""
    with mock.patch.object(rescoring, "MOST", 0 if variant == ONCE else rescoring.MOST):
        yield


def measure(model: Path, photos: Mapping[str, Path], work: Path) -> list[dict[str, Any]]:
    """The drift of each variant of a model and its time, one row per variant."""
    names = list(photos)
    seen, unseen = ({n: photos[n] for n in names[start::2]} for start in (0, 1))
    wanted = next((fields for part, fields in WANTED.items() if model.stem.startswith(part)), None)
    bundles = {name: work / f"{name}.fcam" for name in ("float32", AS_EXPORTED, SYMMETRIC)}
    for name, bundle in bundles.items():
        options: ExportOptions = {"preprocessing": wanted}
        if name != "float32":
            calibration: ExportOptions = {"precision": "int8", "calibrate": lambda prep: given(seen, prep)}
            options |= {**calibration, "symmetric": name == SYMMETRIC, "accept_drift": True}
        with mock.patch.object(assembly, "DRIFT_PHOTOS", 1):  # it is measured below
            export_model(model, bundle, **options)
    seconds, r = explained({**bundles, ONCE: bundles[AS_EXPORTED]}, unseen)
    rows = []
    for variant in VARIANTS:
        faster = statistics.median(seconds["float32"]) / statistics.median(seconds[variant])
        rows.append({
            "date": time.strftime("%Y-%m-%d"), "model": model.stem, "variant": variant, "photos": len(unseen),
            "seconds": seconds[variant], "faster": faster, **{m: tail(r[variant, m], unseen) for m in METHODS},
        })  # fmt: skip
        print(row(rows[-1]), flush=True)
    return rows


def explained(
    bundles: Mapping[str, Path], photos: Mapping[str, Path]
) -> tuple[dict[str, list[float]], dict[tuple[str, str], list[float]]]:
    """Seconds of each explanation, in turns, and r of its maps with those by float32, by variant and method."""
    explainers = {name: Explainer(bundle, methods=["grad_cam", *METHODS]) for name, bundle in bundles.items()}
    seconds: dict[str, list[float]] = {name: [] for name in explainers}
    r: dict[tuple[str, str], list[float]] = {(name, m): [] for name in explainers for m in METHODS}
    for n, photo in enumerate([next(iter(photos.values())), *photos.values()]):  # the first is not counted
        maps = {}
        for name, explainer in explainers.items():
            with passed_again(name):
                start = time.perf_counter()
                maps[name] = explainer.explain(photo).maps
            if n:
                seconds[name].append(time.perf_counter() - start)
        for (name, m), found in r.items():
            if n:
                found.append(correlation(maps["float32"][m], maps[name][m]))
    return seconds, r


def tail(r: Sequence[float], photos: Mapping[str, Path]) -> dict[str, Any]:
    """The figures of the manifest's `drift`, of one method."""
    worst, photo = min(zip(r, photos, strict=True))
    return {
        "worst": worst, "photo": photo, "below": sum(v < NEAR for v in r) / len(r), "median": statistics.median(r)
    }  # fmt: skip


def row(found: Mapping[str, Any]) -> str:
    """A line of the table."""
    cells = [found["model"], found["variant"]]
    for method in METHODS:
        r = found[method]
        cells += [f"{r['worst']:.4f} ({r['photo']})", f"{r['below']:.0%}", f"{r['median']:.4f}"]
    return f"| {' | '.join([*cells, format(found['faster'], '.2f')])} |"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table of benchmarks/README.md."""
    parts = [f"{m}: {k}" for m in ("Score-CAM", "Fusion-CAM") for k in ("worst r", "below .99", "median r")]
    head = ["model", "variant", *parts, "faster than float32"]
    return "\n".join([f"| {' | '.join(head)} |", f"|---|---|{'---:|' * 7}", *map(row, rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure all models, print the table and write the figures."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--models", type=Path, required=True, help="folder of float32 ONNX files")
    asked.add_argument("--photos", type=Path, required=True, help="folder of photos; masks (*mask.*) are left out")
    asked.add_argument("--only", nargs="*", default=[""], help="models whose names begin so")
    asked.add_argument("--out", type=Path, default=RESULTS, help="JSON to write; rows of other models in it are kept")
    options = asked.parse_args(arguments)
    photos = {n: p for n, p in photos_of(options.photos).items() if not p.stem.endswith("mask")}
    models = [m for m in sorted(options.models.glob("*.onnx")) if m.stem.startswith(tuple(options.only))]
    rows: list[dict[str, Any]] = json.loads(options.out.read_bytes())["rows"] if options.out.exists() else []
    for model in models:
        if "fp16" in model.stem:  # only a float32 model can be brought to int8
            continue
        with tempfile.TemporaryDirectory() as work:
            found = measure(model, photos, Path(work))
        rows = sorted([*(r for r in rows if r["model"] != model.stem), *found], key=lambda r: str(r["model"]))
        replace_file(options.out, (json.dumps({"rows": rows}, indent=1) + "\n").encode())
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
