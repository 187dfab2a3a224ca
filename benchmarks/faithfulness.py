"""The maps to trust: `fusioncam evaluate` over pretrained models and photos, and over drawn scenes with exact masks.

    python benchmarks/faithfulness.py [--models FOLDER --photos FOLDER] [--scenes N] [--only NAME...] [--work FOLDER]

Models are ONNX files of ImageNet classifiers, photos those that `annotations.json` beside them names. The scenes are
seen by two models: the built-in one, trained to look at the object, and one that nobody told where to look, left out
where its file is missing (it takes a few minutes to make:
`python benchmarks/demo_model.py --place-weight 0 --output WORK/plain-shapes.onnx`). Writes
results/faithfulness.json, and its tables into README.md. What was finished is kept in WORK, so an interrupted run goes
on; a run of one model leaves the figures of the others.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cpu.readme import fill
from cpu.subjects import WANTED

from fusioncam.export import export_model
from fusioncam.export.randomise import randomised_bundle
from fusioncam.files import replace_file
from fusioncam.manifest import read_bundle
from fusioncam.output import encode_png, json_bytes, write_atomically
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import CLASSES, draw_scene
from fusioncam.runtime.evaluation.annotations import read_annotations
from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, Evaluator
from fusioncam.runtime.evaluation.metrics.catalogue import METRICS
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings
from fusioncam.runtime.evaluation.report.summary import summarise
from fusioncam.runtime.evaluation.run import about_of, evaluate_photos, settings_of, write_results
from fusioncam.runtime.evaluation.store.store import Store
from fusioncam.runtime.methods import FUSED, fusion_cam
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.picture import method_title

HERE = Path(__file__).parent
METHODS = (
    *reversed(FUSED),
    *("grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "layer_cam", "score_cam", "group_cam", "recipro_cam"),
    fusion_cam("layer_cam", "group_cam"),
)
SETTINGS = Settings(("drop", "insertion", "deletion", "road"), percentiles=(10, 30, 50, 70, 90))
SHOWN = ("drop", "increase", "insertion", "deletion", "road", "pointing", "energy", "sanity")
BACKGROUND = 1001  # classes of models whose class 0 is a background that ImageNet's numbers do not count
PLAIN = "plain-shapes.onnx"
OBJECTS = (1, 2)  # in scene after scene
SCENES = ("shapes, trained to look at the object", "shapes, not told where to look")


@dataclass(frozen=True)
class Subject:
    """A model, pictures, and their annotations."""

    name: str
    model: Path
    pictures: Path
    annotations: Path
    options: Mapping[str, Any]
    target: str = "top"


def subjects(models: Path | None, photos: Path | None, scenes: int, work: Path) -> Iterator[Subject]:
    """Yield the subjects to evaluate."""
    for model in sorted(models.glob("*.onnx")) if models and photos else ():
        wanted = next((fields for part, fields in WANTED.items() if model.stem.startswith(part)), None)
        if wanted is not None and photos:
            yield Subject(model.stem, model, photos, photos / "annotations.json", {"preprocessing": wanted})
    drawn = draw_scenes(work / "scenes", scenes)
    for name, model in zip(SCENES, (MODEL, work / PLAIN), strict=True):
        if model.exists():
            yield Subject(name, model, drawn, drawn / "annotations.json", {}, "annotated")


def draw_scenes(folder: Path, count: int) -> Path:
    """Draw scenes that no model was trained on, with the exact masks of their objects as COCO's run lengths."""
    folder.mkdir(parents=True, exist_ok=True)
    images, objects = [], []
    for seed in range(count):
        scene = draw_scene(seed, objects=OBJECTS[seed % len(OBJECTS)])
        name, (height, width) = f"{seed:05}.png", scene.image.shape[:2]
        write_atomically(folder / name, encode_png(scene.image))
        images.append({"id": seed, "file_name": name, "height": height, "width": width})
        for class_index, mask in scene.masks.items():
            code = {"size": [height, width], "counts": run_lengths(mask)}
            objects.append({"image_id": seed, "category_id": class_index, "segmentation": code, "iscrowd": 1})
    categories = [{"id": n, "name": name} for n, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": objects, "categories": categories}
    write_atomically(folder / "annotations.json", json_bytes(content))
    return folder


def run_lengths(mask: np.ndarray) -> list[int]:
    """Return the lengths of the runs outside and inside in turns, column by column, as COCO counts them."""
    flat = np.concatenate([[False], mask.T.ravel(), [not mask.T.ravel()[-1]]])
    return [int(n) for n in np.diff(np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1])]))]


def evaluate(subject: Subject, work: Path) -> dict[str, Any]:
    """Return all figures of one subject."""
    folder = work / subject.name.replace(", ", "-").replace(" ", "-")
    bundle = folder / "model.fcam"
    if not bundle.exists():
        export_model(subject.model, bundle, **subject.options)
    manifest = read_bundle(bundle)
    offset = int(manifest.classes == BACKGROUND)
    notes = read_annotations(subject.annotations, manifest.labels, manifest.classes, offset)
    photos = photos_of(subject.pictures, leave_out=notes.mask_files)
    photos = {name: file for name, file in photos.items() if name in notes.entries}
    with tempfile.TemporaryDirectory() as temporary:
        shuffled = Path(temporary) / "shuffled.fcam"
        randomised_bundle(bundle, shuffled)
        config = EvaluationConfig(
            bundle, METHODS, faithfulness=SETTINGS, annotations=notes.matched_to(photos),
            annotated=subject.target == "annotated", random_bundle=shuffled,
        )  # fmt: skip
        with Store(folder / "rows", settings_of(config, manifest, subject.pictures)) as store:
            rows = evaluate_photos(
                photos, lambda some: Evaluator(config).rows(some), store, lambda n, of: print(f" {n} of {of}")
            )
            write_results(store, config, rows, about_of(config, manifest))
    shown = {name: METRICS[name] for name in SHOWN}
    summary = summarise(rows, METHODS, shown)
    return {
        "name": subject.name,
        "layer": list(manifest.layer.shape),
        "class_explained": subject.target,
        "photos": summary["photos"],
        "metrics": summary["metrics"],
        "methods": {
            m: {key: found[key] for key in ("metrics", "against_first", "flags")}
            for m, found in summary["methods"].items()
        },
        "wins": wins(rows),
    }


def wins(rows: list[Any]) -> dict[str, dict[str, float]]:
    """Return the share of pictures on which Fusion-CAM is strictly better than both of its maps, by metric."""
    found: dict[str, dict[str, float]] = {}
    for name in SHOWN:
        sign = 1 if METRICS[name].better == "higher" else -1
        values = [
            [row["methods"][m]["metrics"].get(name) for m in ("fusion_cam", "grad_cam", "score_cam")]
            for row in rows
            if "error" not in row
        ]
        whole = np.array([v for v in values if None not in v], np.float64).reshape(-1, 3) * sign
        if len(whole):
            best = whole[:, 1:].max(axis=1)
            found[name] = {"better": float((whole[:, 0] > best).mean()), "equal": float((whole[:, 0] == best).mean())}
    return found


def table(figures: Mapping[str, Any]) -> str:
    """Return a subject's figures as Markdown: means with their 95 % intervals below; the best mean is bold."""
    metrics, photos = figures["metrics"], figures["photos"]
    channels, height, width = figures["layer"]
    explained = {
        "top": f"the top class is explained, right on {photos['correct']} of them",
        "annotated": "the likeliest class of what is there is explained",
    }
    lines = [
        f"**{figures['name']}**, layer {channels} x {height} x {width}, {photos['evaluated']} pictures; "
        f"{explained[figures['class_explained']]}",
        "",
        "| | " + " | ".join(f"{m['label']} {'↑' if m['better'] == 'higher' else '↓'}" for m in metrics.values()) + " |",
        "|---|" + "---:|" * len(metrics),
    ]
    for method, found in figures["methods"].items():
        cells = [cell(found["metrics"][name], method in metrics[name]["best"]) for name in metrics]
        lines.append(f"| {method_title(method)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(facts: Mapping[str, Any], best: bool) -> str:
    """Return a mean and its interval."""
    if facts["mean"] is None:
        return ""
    mean = f"**{facts['mean']:.3f}**" if best else f"{facts['mean']:.3f}"
    around = "" if facts["low"] is None else f"<br><sub>{facts['low']:.3f} to {facts['high']:.3f}</sub>"
    return mean + around


def options(description: str | None, scenes: int, work: str) -> argparse.ArgumentParser:
    """Return the parser of a command that evaluates models on photos and on drawn scenes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of ONNX files")
    parser.add_argument("--photos", type=Path, help="folder with annotations.json")
    parser.add_argument("--scenes", type=int, default=scenes)
    parser.add_argument("--only", nargs="*", help="how names of subjects begin")
    parser.add_argument("--work", type=Path, default=Path("build", work))
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/ and README.md")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Evaluate all subjects, and write the result."""
    asked = options(__doc__, 100, "faithfulness").parse_args(arguments)
    target = asked.out / "results" / "faithfulness.json"
    report = json.loads(target.read_text()) if target.exists() else {"subjects": []}
    known = {figures["name"]: figures for figures in report["subjects"]}
    for subject in subjects(asked.models, asked.photos, asked.scenes, asked.work):
        if asked.only and not subject.name.startswith(tuple(asked.only)):
            continue
        print(subject.name)
        known[subject.name] = evaluate(subject, asked.work)
        content = {
            "machine": describe(),
            "versions": versions(),
            "settings": settings(),
            "subjects": list(known.values()),
        }
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json_bytes(content))
    readme = asked.out / "README.md"
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    tables = "\n\n".join(table(figures) for figures in known.values())
    replace_file(readme, fill(text, {"faithfulness": tables}).encode())
    return 0


def settings() -> dict[str, Any]:
    """Return the settings of the measurement."""
    return {
        "methods": list(METHODS),
        "budget": "exact",
        "steps": SETTINGS.steps,
        "road_percentiles": list(SETTINGS.percentiles),
        "road_noise": SETTINGS.noise,
    }


if __name__ == "__main__":
    sys.exit(main())
