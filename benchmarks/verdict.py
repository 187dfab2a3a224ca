"""The verdicts of `explain(verify=True)`: how often right maps are doubted, and wrong ones believed.

    python benchmarks/verdict.py [--models FOLDER --photos FOLDER] [--scene-models FOLDER] [--scenes N] [--shuffles N]
                                 [--only NAME...] [--work FOLDER]

Models are ONNX files of ImageNet classifiers and of two small tasks, photos those that `annotations.json` beside them
names; models of the drawn scenes are the built-in one and those of a folder, as `promise.py` trains them into
build/promise/models. Three kinds of maps are verified:

- the model's own: one of the top class that lies *on the object* must not be unsupported (false alarm);
- maps *off the object*: the own one flipped, shuffled or inverted, and that of another picture, where exact masks or
  boxes say that they miss the object: none should be supported (miss);
- those of the top class of the model with all its weights shuffled (arXiv 1810.03292): at most 5 % may be supported.
  Where the last layer alone is shuffled, the model still answers to what it sees, by wrong names, and so may its maps.

The limits in `runtime/probes/verdict.py` were chosen while the models of `FITTED` were looked at; all others only show
them. Writes results/verdict.json, and its table into README.md; a run of some models leaves the figures of the others.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from cpu.readme import fill
from cpu.subjects import WANTED
from faithfulness import BACKGROUND

from fusioncam.export import export_model
from fusioncam.export.randomise import randomised_bundle
from fusioncam.files import replace_file
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Manifest, read_bundle
from fusioncam.output import json_bytes, write_atomically
from fusioncam.runtime import read_image
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.engine import Clock, ExplainRequest, MaskedPasses, Task
from fusioncam.runtime.evaluation.annotations import in_model_input, read_annotations
from fusioncam.runtime.evaluation.metrics.localisation import energy, pointing
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import METHODS
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.probes import verdict as limits
from fusioncam.runtime.probes.controls import flipped, shuffled
from fusioncam.runtime.probes.probe import Subject
from fusioncam.runtime.probes.verdict import Circumstances, Trial, judge

HERE = Path(__file__).parent
BUILT_IN = "shapes, the built-in model"
FITTED = (BUILT_IN, "mobilenet", "squeezenet", "cifar10", "vww")  # looked at while the rule was made
PREPROCESSING = {**WANTED, "vww": {"preset": "unit"}, "cifar10": {"preset": "raw"}}
BUDGET = 128  # passes for a map: the maps need not be exact, for their verdict is on what they show
RANKS = {"top": 0, "third": 2}
ALL_METHODS = ("fusion_cam", "grad_cam", "score_cam")
WORDS = ("supported", "weak", "unsupported")
WRONG: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flipped": flipped,
    "shuffled": shuffled,
    "inverted": lambda m: 1 - m,
}

Region = Callable[[int], np.ndarray | None]
"""Returns the object (H, W) of a class at the size of the model's input; None where nobody knows."""


@dataclass(frozen=True)
class Seen:
    """A picture to explain, where its objects are, and whether all of its classes are known."""

    photo: np.ndarray
    region: Region
    known: bool = True


@dataclass(frozen=True)
class Model:
    """A model to explain, and its pictures."""

    name: str
    file: Path
    options: Mapping[str, Any]
    seen: Callable[[Manifest], list[Seen]]

    @property
    def fitted(self) -> bool:
        """Return whether the limits were fitted on this model."""
        return self.name.startswith(FITTED)


def models(asked: argparse.Namespace) -> Iterator[Model]:
    """Yield the models with their pictures."""
    trained = sorted(asked.scene_models.glob("*.onnx")) if asked.scene_models else []
    yield Model(BUILT_IN, MODEL, {}, lambda manifest: scenes(asked.scenes, manifest))
    for file in trained:
        yield Model(f"scenes: {file.stem}", file, {}, lambda manifest: scenes(asked.scenes, manifest))
    for file in sorted(asked.models.glob("*.onnx")) if asked.models and asked.photos else ():
        wanted = next((fields for part, fields in PREPROCESSING.items() if file.stem.startswith(part)), None)
        if wanted is not None and "fp16" not in file.stem:
            yield Model(file.stem, file, {"preprocessing": wanted}, lambda manifest: photos(asked.photos, manifest))


def scenes(count: int, manifest: Manifest) -> list[Seen]:
    """Return scenes of one and two objects that no model was trained on, with exact masks."""
    drawn = [draw_scene(seed, objects=1 + seed % 2) for seed in range(count)]

    def region_of(masks: Mapping[int, np.ndarray]) -> Region:
        return lambda c: in_model_input(masks[c], manifest.preprocessing) if c in masks else None

    return [Seen(scene.image, region_of(scene.masks)) for scene in drawn]


def photos(folder: Path, manifest: Manifest) -> list[Seen]:
    """Return the photos that are annotated; their boxes count for models of ImageNet only."""
    known = manifest.classes in (1000, BACKGROUND)
    classes = manifest.classes if known else 1000
    notes = read_annotations(
        folder / "annotations.json", manifest.labels if known else None, classes, int(classes == BACKGROUND)
    )
    files = {n: file for n, file in photos_of(folder, leave_out=notes.mask_files).items() if n in notes.entries}
    notes = notes.matched_to(files)

    def region_of(name: str, photo: np.ndarray) -> Region:
        def region(c: int) -> np.ndarray | None:
            if not known or c not in notes.accepted(name):
                return None
            return in_model_input(notes.region(name, (photo.shape[0], photo.shape[1]), c), manifest.preprocessing)

        return region

    read = [(name, read_image(file)) for name, file in files.items()]
    return [Seen(photo, region_of(name, photo), known) for name, photo in read]


def measure(model: Model, shuffles: int, work: Path) -> dict[str, Any]:
    """Return the counts of verdicts on the maps of a model, by kind of map."""
    folder = work / model.name.replace(": ", "-").replace(", ", "-").replace(" ", "-")
    bundle = folder / "model.fcam"
    if not bundle.exists():
        export_model(model.file, bundle, **model.options)
    manifest = read_bundle(bundle)
    seen = model.seen(manifest)
    counts: dict[str, Counter[str]] = {}
    for kind, word in own_maps(bundle, seen):
        counts.setdefault(kind, Counter())[word] += 1
    copies = [("weights", f"shuffled-{seed}.fcam", seed, None) for seed in range(1, shuffles + 1)]
    for what, name, seed, last in (*copies, ("last layer", "last-layer.fcam", 1, 1)):
        if not (folder / name).exists():
            randomised_bundle(bundle, folder / name, seed, last)
        for kind, word in own_maps(folder / name, seen):
            if kind.startswith("top"):
                method = kind.rpartition(", ")[2]
                counts.setdefault(f"shuffled {what}, {method}", Counter())[word] += 1
    told = {kind: {word: of_kind[word] for word in WORDS} for kind, of_kind in sorted(counts.items())}
    return {"name": model.name, "fitted": model.fitted, "pictures": len(seen), "shuffles": shuffles, "counts": told}


def own_maps(bundle: Path, seen: list[Seen]) -> Iterator[tuple[str, str]]:
    """Yield the kind of each map, and the word of its verdict: of own maps, and of wrong ones made of them."""
    explainer = Explainer(bundle, budget=BUDGET)
    before: np.ndarray | None = None
    for picture in seen:
        ranks = {name: rank for name, rank in RANKS.items() if rank < explainer.manifest.classes}
        _, x = as_input(picture.photo, explainer.manifest.preprocessing)
        request = ExplainRequest(x, lambda p, ranks=ranks: by_rank(p, ranks), METHODS, BUDGET, verify=True)
        (found,) = explainer.pipeline.run([explainer.pipeline.task(request)], METHODS, verify=True)
        for rank, e in zip(ranks, found, strict=True):
            region = picture.region(e.class_index) if rank == "top" else None
            wrong = {} if region is None else {name: make(e.maps["fusion_cam"]) for name, make in WRONG.items()}
            if region is not None and before is not None:
                wrong["another"] = before
            wrong = {name: m for name, m in wrong.items() if region is not None and is_off(m, region)}
            own = {m: e.maps[m] for m in ALL_METHODS[1:] if e.maps[m].any()}
            (verdicts,) = explainer.pipeline.run([judged(explainer, x, e, own | wrong)], METHODS, verify=True)
            assert e.verdict is not None
            if e.verdict.method == "fusion_cam":
                verdicts["fusion_cam"] = e.verdict.name
            for name in ALL_METHODS:
                word = verdicts.get(name, "unsupported")  # a blank map
                place = f", {place_of(e.maps[name], region, picture.known)}" if rank == "top" else ""
                yield f"{rank} class{place}, {name}", word
            yield from ((f"off the object, {name}", verdicts[name]) for name in wrong)
            if rank == "top":
                before = e.maps["fusion_cam"]


def by_rank(chances: np.ndarray, ranks: Mapping[str, int]) -> list[int]:
    """Return the classes of some ranks."""
    order = np.argsort(-chances, kind="stable")
    return [int(order[rank]) for rank in ranks.values()]


def judged(explainer: Explainer, x: np.ndarray, e: Explanation, maps: Mapping[str, np.ndarray]) -> Task[dict[str, str]]:
    """Return the words of the verdicts on other maps of an explanation, as its own method's would be."""
    ending, c = explainer.manifest.ending, e.class_index
    assert e.verdict is not None
    assert e.logits is not None
    subject = Subject(x, limits.STEPS)
    trials = {name: Trial(subject, name, m.astype(np.float32)) for name, m in maps.items()}
    makers = {key: make for trial in trials.values() for key, make in trial.pictures.items()}
    in_order = list(makers.values())
    rows = yield from MaskedPasses(x, Clock()).of_pictures(len(in_order), lambda i: in_order[i]())
    known = dict(zip(makers, probabilities(rows, ending)[:, c].tolist() if makers else (), strict=True))
    top = ending == "sigmoid" or c == int(e.logits.argmax())
    met = Circumstances(e.probability, top, False, e.verdict.numbers.get("flip"), e.verdict.numbers.get("agreement"))
    return {name: judge("grad_cam", trial.figures(known), met).name for name, trial in trials.items()}


def place_of(saliency: np.ndarray, region: np.ndarray | None, known: bool) -> str:
    """Return where a map lies."""
    if region is None:
        return "class not there" if known else "place unknown"
    if is_on(saliency, region):
        return "on the object"
    return "off the object" if is_off(saliency, region) else "partly on it"


def is_on(saliency: np.ndarray, region: np.ndarray) -> bool:
    """Return whether the map's maximum lies on the object, and more of its sum lies on it than by chance."""
    return pointing(saliency, region) > 0 and energy(saliency, region) > region.mean()


def is_off(saliency: np.ndarray, region: np.ndarray) -> bool:
    """Return whether the map's maximum misses the object, and less of its sum lies on it than by chance."""
    return pointing(saliency, region) == 0 and energy(saliency, region) < region.mean()


def table(found: list[dict[str, Any]], date: str) -> str:
    """Return the table of all models, those that the limits were fitted on first, and the sums of both halves."""
    lines = [
        "| model | own maps: n | supported | unsupported | on the object: n | supported | unsupported: false alarm "
        "| off the object: n | supported: miss | shuffled weights: n | supported: miss | last layer: n | supported |",
        "|---|" + "---:|" * 12,
    ]
    for fitted in (True, False):
        half = [f for f in found if f["fitted"] is fitted]
        lines += [row(f["name"], f["counts"]) for f in half]
        together: Counter[tuple[str, str]] = Counter()
        for f in half:
            together.update({(kind, word): n for kind, words in f["counts"].items() for word, n in words.items()})
        counts = {kind: {word: together[kind, word] for word in WORDS} for kind, _ in together}
        name = "**all that were looked at**" if fitted else "**all held out**"
        lines.append(row(name, counts))
    pictures, copies = (
        " or ".join(map(str, sorted({f[key] for f in found}, reverse=True))) for key in ("pictures", "shuffles")
    )
    about = f"{date}: {len(found)} models, {pictures} pictures for each, {copies} copies with shuffled weights."
    return "\n".join([about, "", *lines])


def row(name: str, counts: Mapping[str, Mapping[str, int]]) -> str:
    """Return the row of a model: numbers of maps, and shares of verdicts."""

    def share(kind: str, *words: str) -> list[str]:
        chosen = [of_kind for k, of_kind in counts.items() if k.startswith(kind)]
        n = sum(sum(of_kind.values()) for of_kind in chosen)
        return [str(n), *(f"{sum(of[w] for of in chosen) / n:.1%}" if n else "" for w in words)]

    cells = [
        *share("top class", "supported", "unsupported"),
        *share("top class, on", "supported", "unsupported"),
        *share("off", "supported"),
        *share("shuffled weights", "supported"),
        *share("shuffled last layer", "supported"),
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def main(arguments: list[str] | None = None) -> int:
    """Verify maps of all models, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of ONNX files")
    parser.add_argument("--photos", type=Path, help="folder with annotations.json")
    parser.add_argument("--scene-models", type=Path, help="folder of ONNX files that classify the drawn scenes")
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--shuffles", type=int, default=3, help="shuffled copies of each model")
    parser.add_argument("--only", nargs="*", help="how names of models begin")
    parser.add_argument("--work", type=Path, default=Path("build/verdict"))
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/ and README.md")
    asked = parser.parse_args(arguments)
    target = asked.out / "results" / "verdict.json"
    report = json.loads(target.read_text()) if target.exists() else {"models": []}
    known = {found["name"]: found for found in report["models"]}
    for model in models(asked):
        if asked.only and not model.name.startswith(tuple(asked.only)):
            continue
        print(model.name, flush=True)
        known[model.name] = measure(model, asked.shuffles, asked.work)
        date, found = datetime.now().astimezone().date().isoformat(), list(known.values())
        report = {"date": date, "machine": describe(), "versions": versions(), "limits": settings(), "models": found}
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, json_bytes(report))
    readme = asked.out / "README.md"
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    replace_file(readme, fill(text, {"verdict": table(report["models"], report["date"])}).encode())
    return 0


def settings() -> dict[str, float]:
    """Return the limits of the verdicts, and the budget of the maps."""
    names = ("STEPS", "SUPPORTED", "UNSUPPORTED", "LEAST_LEAD", "LEAST_CHANCE", "LEAST_FLIP", "LEAST_AGREEMENT")
    return {"budget": BUDGET, **{name.lower(): getattr(limits, name) for name in names}}


if __name__ == "__main__":
    sys.exit(main())
