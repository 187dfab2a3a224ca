"""RISE beside Score-CAM and Fusion-CAM: what their maps are worth, and the passes they take.

    python benchmarks/rise.py [--scenes N] [--work FOLDER] [--out FOLDER]

The built-in classifier explains the likeliest class of what is there in drawn scenes, by each method alone and by as
many passes as it asks for. Writes results/rise.json, and its table into README.md. What was finished is kept in WORK.
"""

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from cpu.readme import fill
from faithfulness import HERE, cell, draw_scenes

from fusioncam.export import export_model
from fusioncam.files import replace_file
from fusioncam.manifest import read_bundle
from fusioncam.output import json_bytes, write_atomically
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, Evaluator
from fusioncam.runtime.evaluation.metrics.catalogue import METRICS
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings
from fusioncam.runtime.evaluation.report.summary import summarise
from fusioncam.runtime.evaluation.run import evaluate_photos, settings_of
from fusioncam.runtime.evaluation.store.store import Store
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.picture import method_title

METHODS = ("fusion_cam", "score_cam", "grad_cam", "rise")
SETTINGS = Settings(("drop", "insertion", "deletion"))
SHOWN = ("deletion", "insertion", "drop", "pointing", "energy")


def evaluate(method: str, bundle: Path, scenes: Path, work: Path) -> dict[str, Any]:
    """Return the figures and the passes of a method alone."""
    manifest = read_bundle(bundle)
    notes = read_annotations(scenes / "annotations.json", manifest.labels, manifest.classes, 0)
    photos = {name: file for name, file in photos_of(scenes).items() if name in notes.entries}
    config = EvaluationConfig(
        bundle, (method,), faithfulness=SETTINGS, annotations=notes.matched_to(photos), annotated=True
    )
    with Store(work / method.replace(":", "-"), settings_of(config, manifest, scenes)) as store:
        rows = evaluate_photos(photos, lambda some: Evaluator(config).rows(some), store, lambda n, of: print(n, of))
    passes = [row["passes"]["run"] for row in rows]
    return {
        "metrics": summarise(rows, (method,), {name: METRICS[name] for name in SHOWN})["methods"][method]["metrics"],
        "passes": {"mean": float(np.mean(passes)), "least": min(passes), "most": max(passes)},
        "cut_short": sum("cut_short" in row["flags"] for row in rows),
        "pictures": len(rows),
    }


def table(report: dict[str, Any]) -> str:
    """Return the figures as Markdown: means with their 95 % intervals below."""
    marks = {"higher": "↑", "lower": "↓"}
    lines = [
        f"{report['pictures']} scenes, {report['date']}",
        "",
        "| | " + " | ".join(f"{METRICS[m].label} {marks[METRICS[m].better]}" for m in SHOWN) + " | passes |",
        "|---|" + "---:|" * (len(SHOWN) + 1),
    ]
    for method, found in report["methods"].items():
        passes = found["passes"]
        ran = f"{passes['mean']:.0f}<br><sub>{passes['least']} to {passes['most']}</sub>"
        cells = [cell(found["metrics"][name], best=False) for name in SHOWN]
        lines.append(f"| {method_title(method)} | " + " | ".join([*cells, ran]) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate all methods, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--work", type=Path, default=Path("build", "rise"))
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/ and README.md")
    asked = parser.parse_args(arguments)
    scenes, bundle = draw_scenes(asked.work / "scenes", asked.scenes), asked.work / "model.fcam"
    if not bundle.exists():
        export_model(MODEL, bundle)
    methods = {method: evaluate(method, bundle, scenes, asked.work) for method in METHODS}
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": describe(),
        "versions": versions(),
        "pictures": asked.scenes,
        "methods": methods,
    }
    target = asked.out / "results" / "rise.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json_bytes(report))
    readme = asked.out / "README.md"
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    replace_file(readme, fill(text, {"rise": table(json.loads(json_bytes(report)))}).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
