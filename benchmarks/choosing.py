"""Choices of `docs/choosing.md`: methods by the default layer and by a finer one, on CNNs and on a transformer.

    python benchmarks/choosing.py [--models FOLDER --photos FOLDER] [--scenes N] [--only NAME...] [--work FOLDER]

Each model is evaluated twice as `fusioncam evaluate` does it: by its default layer, and by the last one before it with
a finer grid; for the transformer, whose grid is the same everywhere, by one in the middle. Photos are those that
`annotations.json` names. Scenes have exact masks, and are also counted by the size of their object. The transformer is
trained first, once (`choosing/transformer.py`, some minutes on two cores). Writes results/choosing.json, and its table
into README.md.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from choosing.transformer import make
from cpu.readme import fill
from faithfulness import BACKGROUND, OBJECTS, Subject, draw_scenes, options
from wanted import WANTED

from fusioncam.export import export_model, inspect_model
from fusioncam.files import replace_file
from fusioncam.manifest import read_bundle
from fusioncam.output import json_bytes, write_atomically
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, Evaluator
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.picture import method_title

HERE = Path(__file__).parent
METHODS = ("grad_cam", "layer_cam", "recipro_cam", "group_cam", "score_cam", "fusion_cam")
SETTINGS = Settings(("drop", "insertion", "deletion"), steps=16)
SHOWN = {
    "drop": "Average Drop ↓", "insertion": "Insertion ↑", "deletion": "Deletion ↓", "pointing": "Pointing ↑",
    "energy": "Energy ↑",
}  # fmt: skip
SMALL = 0.06  # share of the picture that an object covers
TRANSFORMER = "transformer, scenes"


def subjects(models: Path | None, photos: Path | None, scenes: int, work: Path) -> Iterator[Subject]:
    """Yield the models with their pictures."""
    for model in sorted(models.glob("*.onnx")) if models and photos else ():
        wanted = next((fields for part, fields in WANTED.items() if model.stem.startswith(part)), None)
        if wanted is not None and photos:
            yield Subject(model.stem, model, photos, photos / "annotations.json", {"preprocessing": wanted})
    drawn = draw_scenes(work / "scenes", scenes)
    for name, model in (("built-in model, scenes", MODEL), (TRANSFORMER, work / "transformer.onnx")):
        yield Subject(name, model, drawn, drawn / "annotations.json", {}, "annotated")


def layers(model: Path) -> dict[str, str]:
    """Return the default layer, and the one that is tried beside it, by what they are called."""
    inspection = inspect_model(model)
    default = inspection.default
    assert default is not None, inspection.reason
    usable = [c for c, _ in inspection.layers if c.refused is None and not c.bypassed]
    earlier = usable[: [c.name for c in usable].index(default.name)][::-1]
    if "T" in default.layout.roles:  # tokens: blocks have one grid, and a finer one is that of the stem
        same = [c for c in earlier if c.shape == default.shape]
        return {"default": default.name, "middle": same[len(same) // 2].name}
    return {"default": default.name, "finer": next(c.name for c in earlier if c.shape[1] > default.shape[1])}


def evaluate(subject: Subject, layer: str, work: Path) -> dict[str, Any]:
    """Return the figures of a model by one layer."""
    bundle = work / "layer.fcam"
    manifest = export_model(subject.model, bundle, layer=layer, **subject.options)
    notes = read_annotations(
        subject.annotations, manifest.labels, manifest.classes, int(manifest.classes == BACKGROUND)
    )
    photos = photos_of(subject.pictures, leave_out=notes.mask_files)
    photos = {name: file for name, file in photos.items() if name in notes.entries}
    config = EvaluationConfig(
        bundle, METHODS, "auto", SETTINGS, notes.matched_to(photos), subject.target == "annotated"
    )
    rows = [evaluated.row for evaluated in Evaluator(config).rows(list(photos.items()))]
    found = {"layer": list(read_bundle(bundle).layer.shape), "all": averages(rows)}
    if subject.target == "annotated":
        found["small"] = averages([row for row in rows if covered(row) < SMALL])
    return found


def covered(row: Mapping[str, Any]) -> float:
    """Return the share of a scene that the object of the explained class covers; 1 where no object has that class."""
    seed = int(Path(row["image"]).stem)
    mask = draw_scene(seed, objects=OBJECTS[seed % len(OBJECTS)]).masks.get(row["class_index"])
    return 1.0 if mask is None else float(mask.mean())


def averages(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of all metrics by method, and of how many pictures."""
    values = {
        method: {name: [row["methods"][method]["metrics"].get(name) for row in rows] for name in SHOWN}
        for method in METHODS
    }
    means = {m: {n: _mean(column) for n, column in columns.items()} for m, columns in values.items()}
    return {"n": len(rows), "methods": means}


def _mean(column: Sequence[float | None]) -> float | None:
    known = [value for value in column if value is not None]
    return round(float(np.mean(known)), 4) if known else None


def table(report: Mapping[str, Any]) -> str:
    """Return all figures as Markdown."""
    lines = [f"{report['date']}, budget `auto`, {SETTINGS.steps} steps."]
    for name, by_layer in report["subjects"].items():
        for which, found in by_layer.items():
            for part in (p for p in ("all", "small") if p in found):
                shape = " x ".join(map(str, found["layer"]))
                what = "" if part == "all" else f", objects of less than {SMALL:.0%} of the picture"
                lines += ["", f"**{name}**, {which} layer, {shape}; n = {found[part]['n']}{what}", ""]
                lines += ["| | " + " | ".join(SHOWN.values()) + " |", "|---|" + "---:|" * len(SHOWN)]
                for method, means in found[part]["methods"].items():
                    cells = ("" if means[n] is None else f"{means[n]:.3f}" for n in SHOWN)
                    lines.append(f"| {method_title(method)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate all models, and write the result after each."""
    asked = options(__doc__, 60, "choosing").parse_args(arguments)
    target = asked.out / "results" / "choosing.json"
    known = json.loads(target.read_text())["subjects"] if target.exists() else {}
    report: dict[str, Any] = {}
    asked.work.mkdir(parents=True, exist_ok=True)
    for subject in subjects(asked.models, asked.photos, asked.scenes, asked.work):
        if asked.only and not subject.name.startswith(tuple(asked.only)):
            continue
        print(subject.name, flush=True)
        if subject.name == TRANSFORMER:
            make(subject.model)
        by_layer = layers(subject.model).items()
        known[subject.name] = {which: evaluate(subject, layer, asked.work) for which, layer in by_layer}
        report = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": describe(), "versions": versions()}
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json_bytes({**report, "subjects": known}))
    readme = asked.out / "README.md"
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    replace_file(readme, fill(text, {"choosing": table({**report, "subjects": known})}).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
