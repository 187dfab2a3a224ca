"""Detections: do the maps of the demo's detector lie on the object, and does its similarity hang on what they show?

    python benchmarks/detections.py [--detections N] [--pictures N] [--out FOLDER]

The pictures are held-out scenes of one to three objects, and crowds of objects of all sizes; nobody looked at them
while the detector was trained.

- *average precision*: COCO's, of the first held-out pictures of both kinds.
- *pointing, energy*: of detections that are right (the object's class, an overlap of at least a half), whether the
  map's maximum lies in the object's exact mask, and how much of its sum does. *over chance* divides that by the share
  of the picture that the box covers.
- *insertion, deletion*: areas under the similarity (D-RISE's: the best overlap times probability), divided by that of
  the whole picture, while pixels enter a blurred picture or leave, the most salient first.
- *shuffled weights*: maps of the same boxes by a copy of the model with shuffled weights (1810.03292); the model itself
  is asked for their insertion and deletion.
- *D-RISE by passes*: its deletion after so many random masks, beside the passes of the other methods.

Writes results/detections.json, and its tables into README.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from cpu.readme import fill, table
from demo.precision import average_precisions, without_duplicates
from targets import cell, facts

from fusioncam import Explainer, Explanation
from fusioncam.export import export_model
from fusioncam.export.randomise import randomised_bundle
from fusioncam.files import replace_file
from fusioncam.kernels.boxes import overlaps
from fusioncam.output import json_bytes, write_atomically
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.demo import DETECTOR
from fusioncam.runtime.demo.crowds import SIZE, Crowd, draw_crowd, draw_objects
from fusioncam.runtime.demo.scenes import CLASSES, sample_layout
from fusioncam.runtime.evaluation.metrics.localisation import energy, pointing
from fusioncam.runtime.evaluation.statistics import means
from fusioncam.runtime.picture import method_title
from fusioncam.runtime.probes.pixel_curves import curve_probe
from fusioncam.runtime.probes.probe import Map, Subject
from fusioncam.runtime.targets.detections import Detection
from fusioncam.runtime.targets.resolved import ResolvedTarget

HERE = Path(__file__).parent
METHODS = ("fusion_cam", "grad_cam", "score_cam", "layer_cam")
WITNESS = "rise"
BUDGETS = (64, 256, 512)  # masks of D-RISE
FIRST_SEED = 600_000  # of pictures that nobody looked at before
HALF, STEPS, BATCH = 0.5, 16, 16
KINDS = ("scenes", "crowds")
PLACES = ("pointing", "energy", "over chance")
CURVES = ("insertion", "deletion")
SHUFFLED = ("pointing", "energy", *CURVES)


@dataclass(frozen=True)
class Case:
    """A right detection: of an object of a picture, with the object's mask (H, W)."""

    detection: Detection
    mask: np.ndarray

    @property
    def target(self) -> ResolvedTarget:
        """Return the same box and class for any model, at the same anchor."""
        found = self.detection
        tensors = {
            "class_index": np.array(found.class_index, np.int64),
            "box": np.array(found.box_on_input, np.float32),
            "anchor": np.array(found.anchor, np.int64),
            "weights": np.array([0, 0, 0, 0, 1], np.float32),
        }
        return ResolvedTarget("box", found.class_index, found.label, tensors)

    @property
    def share(self) -> float:
        """Return the share of the picture that the box covers."""
        x1, y1, x2, y2 = self.detection.box
        return (x2 - x1) * (y2 - y1) / self.mask.size


def drawn(kind: str, number: int, first: int) -> Crowd:
    """Draw a held-out picture of a kind."""
    if kind == "crowds":
        return draw_crowd(first + number)
    return draw_objects(sample_layout(first + number, 1 + number % 3), SIZE)


def precision(kind: str, pictures: int) -> dict[str, float]:
    """Return the average precisions on so many pictures."""
    session = onnxruntime.InferenceSession(DETECTOR, providers=["CPUExecutionProvider"])
    crowds = [drawn(kind, n, 0) for n in range(pictures)]
    answers = [session.run(None, {"images": tensor_of(crowd.image)[None]})[0][0] for crowd in crowds]
    return average_precisions(crowds, [without_duplicates(answer) for answer in answers], len(CLASSES))


def tensor_of(image: np.ndarray) -> np.ndarray:
    """Return the model's input (3, H, W) of an image (H, W, 3) of its size."""
    return np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255


def right(explainer: Explainer, picture: Crowd) -> list[Case]:
    """Return the right detections of a picture, at most one for each object."""
    found, cases = explainer.detections(picture.image), []
    for seen in picture.objects:
        mine = [d for d in found if d.class_index == seen.class_index]
        shares = overlaps(np.array(seen.box), np.array([d.box for d in mine]).reshape(-1, 4))
        if (shares >= HALF).any():
            cases.append(Case(mine[int(shares.argmax())], seen.mask))
    return cases


def pictures_with(explainer: Explainer, kind: str, detections: int) -> Iterator[tuple[Crowd, list[Case]]]:
    """Yield pictures with right detections until there are so many."""
    for number in count():
        if detections <= 0:
            return
        picture = drawn(kind, number, FIRST_SEED)
        cases = right(explainer, picture)
        detections -= len(cases)
        if cases:
            yield picture, cases


class Similarity:
    """The similarity of pictures to a detection, by the score graph alone."""

    def __init__(self, bundle: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        path = bundle / "score.onnx"
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def __call__(self, pictures: Sequence[np.ndarray], target: ResolvedTarget) -> list[float]:
        """Return it for pictures (3, H, W)."""
        tensors = {name: tensor[None] for name, tensor in target.tensors.items()}
        batches = (np.stack(pictures[n : n + BATCH]) for n in range(0, len(pictures), BATCH))
        return [float(p) for x in batches for p in self._session.run(["confidences"], {"image": x, **tensors})[0][:, 0]]


def places_of(saliency: np.ndarray, case: Case) -> dict[str, float]:
    """Return where a map lies."""
    on_object = energy(saliency, case.mask)
    return {"pointing": pointing(saliency, case.mask), "energy": on_object, "over chance": on_object / case.share}


def curves_of(saliency: np.ndarray, x: np.ndarray, case: Case, similarity: Similarity) -> dict[str, float]:
    """Return insertion and deletion of a map, relative to the similarity of the whole picture."""
    figures = {}
    for metric in CURVES:
        probe = curve_probe(metric)(Subject(x, STEPS), Map("own", saliency))
        values = similarity([make() for make in probe.pictures.values()], case.target)
        area = probe.read(dict(zip(probe.pictures, values, strict=True))).values[metric]
        figures[metric] = area / case.detection.score
    return figures


def explained(explainer: Explainer, picture: Crowd, cases: Sequence[Case]) -> list[Explanation]:
    """Explain the cases of a picture together."""
    return list(explainer.explain_batch([picture.image], target=[[case.target for case in cases]]))


def measure(kind: str, bundle: Path, shuffled: Path, detections: int) -> dict[str, Any]:
    """Return the figures of the pictures of a kind: of each method the means over pictures."""
    ours, similarity = Explainer(bundle, methods=METHODS, threads=1), Similarity(bundle)
    random = Explainer(shuffled, methods=METHODS, threads=1)
    witnesses = {str(n): Explainer(bundle, methods=(WITNESS,), budget=n, threads=1) for n in BUDGETS}
    columns: dict[tuple[str, str], list[float]] = {}
    total, scenes, passes = 0, 0, dict[str, list[int]]()
    for picture, cases in pictures_with(ours, kind, detections):
        x, total, scenes = tensor_of(picture.image), total + len(cases), scenes + 1
        made = explained(ours, picture, cases)
        found = by_method(made)
        passes.setdefault("ours", []).append(made[0].passes.run)
        for name, witness in witnesses.items():
            made = explained(witness, picture, cases)
            passes.setdefault(name, []).append(made[0].passes.run)
            found[f"{WITNESS} {name}"] = [e.maps[WITNESS] for e in made]
        of_random = by_method(explained(random, picture, cases))
        found |= {f"shuffled {method}": maps for method, maps in of_random.items()}
        for name, maps in found.items():
            pairs = zip(maps, cases, strict=True)
            add(columns, name, [places_of(m, case) | curves_of(m, x, case, similarity) for m, case in pairs])
    summary = means({key: np.array(column) for key, column in columns.items()})
    figures: dict[str, dict[str, Any]] = {}
    for (name, metric), mean in summary.items():
        figures.setdefault(name, {})[metric] = facts(mean)
    return {
        "kind": kind,
        "pictures": scenes,
        "detections": total,
        "passes": {name: float(np.mean(of_pictures)) for name, of_pictures in passes.items()},
        "figures": figures,
    }


def by_method(made: Sequence[Explanation]) -> dict[str, list[np.ndarray]]:
    """Return the maps of explanations by method."""
    return {method: [e.maps[method] for e in made] for method in METHODS}


def add(columns: dict[tuple[str, str], list[float]], name: str, each: Sequence[Mapping[str, float]]) -> None:
    """Add the means over the detections of a picture to the columns."""
    for metric in each[0]:
        columns.setdefault((name, metric), []).append(float(np.mean([figures[metric] for figures in each])))


def of_kind(found: Mapping[str, Any]) -> str:
    """Return the figures of a kind of picture in Markdown."""
    passes, figures, rows = found["passes"], found["figures"], []
    for name, of_name in figures.items():
        if name.startswith("shuffled "):
            continue
        method, _, budget = name.partition(" ")
        random = figures.get(f"shuffled {name}", {})
        run = passes[budget] if budget else passes["ours"]
        title = "D-RISE" if method == WITNESS else method_title(method)
        shuffled = [cell(random[metric]) if random else "" for metric in SHUFFLED]
        rows.append([title, f"{run:.0f}", *(cell(of_name[metric]) for metric in (*PLACES, *CURVES)), *shuffled])
    columns = ("", "passes", *PLACES, *CURVES, "shuffled weights: pointing", *SHUFFLED[1:])
    head = f"**{found['kind']}**: {found['detections']} right detections in {found['pictures']} pictures."
    return f"{head}\n\n{table(columns, rows)}"


def of_precision(found: Mapping[str, Mapping[str, float]], pictures: int) -> str:
    """Return the average precisions in Markdown."""
    names = list(dict.fromkeys(name for of_kind in found.values() for name in of_kind))
    rows = [[kind, *(f"{of_kind[n]:.3f}" if n in of_kind else "" for n in names)] for kind, of_kind in found.items()]
    return (
        f"Average precision on {pictures} held-out pictures of each kind, seeds from 0:\n\n{table(('', *names), rows)}"
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure everything, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detections", type=int, default=50, help="of each kind of picture, at least")
    parser.add_argument("--pictures", type=int, default=500, help="of each kind, for the average precision")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/ and README.md")
    asked = parser.parse_args(arguments)
    precisions = {kind: precision(kind, asked.pictures) for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        bundle, shuffled = Path(folder) / "model.fcam", Path(folder) / "shuffled.fcam"
        manifest = export_model(DETECTOR, bundle)
        randomised_bundle(bundle, shuffled)
        found = [measure(kind, bundle, shuffled, asked.detections) for kind in KINDS]
    result = {
        "date": datetime.now().date().isoformat(),
        "machine": describe(),
        "versions": versions(),
        "model": {"file": DETECTOR.name, "sha256": manifest.source.sha256, "bytes": DETECTOR.stat().st_size},
        "settings": {"methods": METHODS, "budget": "exact", "first_seed": FIRST_SEED, "steps": STEPS},
        "precision": {"pictures": asked.pictures, "first_seed": 0, **precisions},
        "kinds": found,
    }
    target = asked.out / "results" / "detections.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json_bytes(result))
    readme = asked.out / "README.md"
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    head = f"{result['date']}, `{DETECTOR.name}` ({manifest.source.sha256[:8]}), one copy with shuffled weights."
    parts = [head, of_precision(precisions, asked.pictures), *map(of_kind, found)]
    replace_file(readme, fill(text, {"detections": "\n\n".join(parts)}).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
