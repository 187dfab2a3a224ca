"""The price of a detector's maps: exact ones beside as many bare passes of the model, and `auto` beside exact.

    python benchmarks/detector_cost.py MODEL.onnx PHOTO... [--size H W] [--conf P] [--detections N] [--rounds N]

The same process runs both in turn, after a round that does not count: Fusion-CAM of a photo's best detection, all of
its level's channels, and as many passes of the source through onnxruntime, in the same chunks, of pictures that are
there already. Their ratio is taken round by round, of the time on the clock and of the processor's.

`auto` explains the best detections of a photo together, as the command does: its passes, and the correlation of its
maps with the exact ones. Writes results/detector_cost.json, and its table into README.md.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from cpu.readme import fill, table

from fusioncam import Box, Explainer
from fusioncam.export import export_model
from fusioncam.files import replace_file
from fusioncam.output import json_bytes, write_atomically
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.picture import method_title

HERE = Path(__file__).parent
METHODS = ("score_cam", "fusion_cam")
EXACT, AUTO = "exact", "auto"


def cost(source: Path, bundle: Path, photo: Path, rounds: int) -> dict[str, Any]:
    """Return the times of exact maps of the best detection over those of as many bare passes, by round."""
    plain = onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"])
    with Explainer(bundle, methods=("fusion_cam",)) as explainer:
        size, chunk = explainer.manifest.preprocessing.size, explainer.chunk
        passes = explainer.explain(photo, target=Box()).passes.run
        sizes = [chunk] * (passes // chunk) + [n for n in (passes % chunk,) if n]
        noise = np.random.default_rng(0).random((chunk, 3, *size), np.float32)  # contents do not change the time
        given = {n: {plain.get_inputs()[0].name: noise[:n]} for n in set(sizes)}

        def bare() -> None:
            for n in sizes:
                plain.run(None, given[n])

        spent = [(_spent(lambda: explainer.explain(photo, target=Box())), _spent(bare)) for _ in range(rounds + 1)][1:]
    return {
        "photo": photo.name, "passes": passes, "chunk": chunk, "bare_seconds": [bare[0] for _, bare in spent],
        "clock": [ours[0] / bare[0] for ours, bare in spent], "processor": [ours[1] / bare[1] for ours, bare in spent],
    }  # fmt: skip


def _spent(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds of some work: on the clock, and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


def promise(bundle: Path, photo: Path, detections: int) -> dict[str, Any]:
    """Return the passes of `auto` and of exact maps for the best detections together, and how far the maps agree."""
    made = {}
    for budget in (EXACT, AUTO):
        with Explainer(bundle, methods=METHODS, budget=budget) as explainer:
            made[budget] = explainer.explain_batch([photo], top=detections)
    pairs = list(zip(made[EXACT], made[AUTO], strict=True))
    return {
        "photo": photo.name, "detections": len(pairs), "exact": made[EXACT][0].passes.run,
        "auto": made[AUTO][0].passes.run, "flags": sorted({f for _, auto in pairs for f in auto.flags}),
        **{m: [_correlation(e.maps[m], a.maps[m]) for e, a in pairs] for m in METHODS},
    }  # fmt: skip


def _correlation(exact: np.ndarray, other: np.ndarray) -> float | None:
    """Return the correlation of two maps; None where one is blank."""
    return float(np.corrcoef(exact.ravel(), other.ravel())[0, 1]) if exact.std() and other.std() else None


def tables(report: dict[str, Any]) -> str:
    """Return the figures as Markdown."""
    costs = [
        [
            c["photo"],
            str(c["passes"]),
            f"{np.median(c['bare_seconds']):.2f} s",
            *map(_spread, (c["clock"], c["processor"])),
        ]
        for c in report["cost"]
    ]
    kept = [
        [p["photo"], str(p["detections"]), f"{p['exact']} / {p['auto']}", f"{p['exact'] / p['auto']:.1f}"]
        + [_worst(p[m]) for m in METHODS]
        for p in report["promise"]
    ]
    head = f"{report['date']}, {report['model']}, {report['rounds']} rounds, {report['machine']['cores']} cores."
    costly = ("photo", "passes", "bare passes", "exact / bare, clock", "exact / bare, processor")
    gained = ("photo", "detections", "passes, exact / auto", "gain", *(f"{method_title(m)}, worst r" for m in METHODS))
    return "\n".join((head, "", table(costly, costs), "", table(gained, kept)))


def _worst(correlations: list[float | None]) -> str:
    found = [r for r in correlations if r is not None]
    blank = len(correlations) - len(found)
    return (f"{min(found):.4f}" if found else "") + f" ({blank} blank)" * bool(blank)


def _spread(ratios: list[float]) -> str:
    return f"{np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def main(arguments: list[str] | None = None) -> int:
    """Measure a model on photos, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--size", type=int, nargs=2, help="height and width, where the model takes any")
    parser.add_argument("--conf", type=float, help="the least score of a detection; random weights want a small one")
    parser.add_argument("--detections", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/ and README.md")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, "model.fcam")
        export_model(asked.model, bundle, size=asked.size and tuple(asked.size), conf=asked.conf)
        report = {
            "date": datetime.now(UTC).date().isoformat(), "machine": describe(), "versions": versions(),
            "model": asked.model.name, "rounds": asked.rounds,
            "cost": [cost(asked.model, bundle, photo, asked.rounds) for photo in asked.photos],
            "promise": [promise(bundle, photo, asked.detections) for photo in asked.photos],
        }  # fmt: skip
    target = asked.out / "results" / "detector_cost.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json_bytes(report))
    readme = asked.out / "README.md"
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    replace_file(readme, fill(text, {"detector cost": tables(report)}).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
