"""Detections: do the maps of the demo's detector lie on the object, and does its similarity hang on what they show?

    python benchmarks/detections.py [--detections N] [--pictures N] [--first-seed N] [--out FOLDER]

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
- *D-RISE by passes*: its deletion after so many random masks, and from how many on it is as low as Fusion-CAM's.
- *weights of Score-CAM*: `score_cam_probability` weighs channels by the similarity itself, as D-RISE weighs masks;
  `score_cam_increase` by its increase over the blank picture.
- *moved*: Fusion-CAM's map, its blocks in another order: what the areas are of a map that knows nothing.
- *less Fusion-CAM's*: differences on the same pictures; *rings*, whose middle is no part of them, and other objects.

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
from cpu.readme import fill
from demo.precision import average_precisions, without_duplicates
from detections.makers import BUDGETS, METHODS, MOVED, OURS, SHUFFLED, VARIANTS, WITNESS, makers
from detections.report import COMPARED, CURVES, of_kind, of_precision
from targets import facts

from fusioncam import Explainer
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
from fusioncam.runtime.evaluation.statistics import means, paired
from fusioncam.runtime.probes.controls import shuffled as moved
from fusioncam.runtime.probes.pixel_curves import curve_probe
from fusioncam.runtime.probes.probe import Map, Subject
from fusioncam.runtime.targets.detections import Detection
from fusioncam.runtime.targets.resolved import ResolvedTarget

HERE = Path(__file__).parent
FIRST_SEED = 800_000  # of pictures that nobody looked at before
HALF, STEPS, BATCH = 0.5, 16, 16
KINDS = ("scenes", "crowds")
RING = "ring"


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


def pictures_with(explainer: Explainer, kind: str, detections: int, first: int) -> Iterator[tuple[Crowd, list[Case]]]:
    """Yield pictures with right detections until there are so many."""
    for number in count():
        if detections <= 0:
            return
        picture = drawn(kind, number, first)
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


def measure(kind: str, bundle: Path, shuffled: Path, detections: int, first: int) -> dict[str, Any]:
    """Return the figures of the pictures of a kind: of each method the means over pictures."""
    similarity, every = Similarity(bundle), list(makers(bundle, shuffled))
    columns, passes, hits = dict[tuple[str, str], list[float]](), dict[str, list[int]](), dict[str, list[Any]]()
    total = 0
    for picture, cases in pictures_with(every[0].explainer, kind, detections, first):
        x, total, found = tensor_of(picture.image), total + len(cases), dict[str, list[np.ndarray]]()
        for maker in every:
            maps, run = maker.maps(picture.image, [case.target for case in cases])
            found |= maps
            for name in maps:
                passes.setdefault(name, []).append(run)
        found[MOVED] = [moved(m) for m in found[OURS]]
        for name, of_cases in found.items():
            pairs = list(zip(of_cases, cases, strict=True))
            each = [places_of(m, case) | curves_of(m, x, case, similarity) for m, case in pairs]
            add(columns, name, each)
            hits.setdefault(name, []).extend(
                (CLASSES[c.detection.class_index] == RING, f["pointing"]) for c, f in zip(cases, each, strict=True)
            )
    arrays = {key: np.array(column) for key, column in columns.items()}
    less = differences(arrays)
    figures: dict[str, dict[str, Any]] = {}
    for (name, metric), mean in means(arrays).items():
        figures.setdefault(name, {})[metric] = facts(mean)
    return {
        "kind": kind,
        "pictures": len(next(iter(columns.values()))),
        "detections": total,
        "passes": {name: float(np.mean(of_pictures)) for name, of_pictures in passes.items()},
        "figures": figures,
        "less_fusion_cam": less,
        "hits": {name: hits_of(pairs) for name, pairs in hits.items()},
        "masks_at_equal_deletion": fewest(less),
    }


def hits_of(pairs: Sequence[tuple[bool, float]]) -> dict[str, list[int]]:
    """Return how many rings were hit, and of how many, and the same of other objects."""
    rings, others = ([hit for is_ring, hit in pairs if is_ring is wanted] for wanted in (True, False))
    return {"rings": [int(sum(rings)), len(rings)], "others": [int(sum(others)), len(others)]}


def differences(columns: Mapping[tuple[str, str], np.ndarray]) -> dict[str, dict[str, Any]]:
    """Return the means of the figures of every map of the model less those of Fusion-CAM, on the same pictures."""
    names = [n for n in dict.fromkeys(name for name, _ in columns) if n != OURS and SHUFFLED not in n]
    less: dict[str, dict[str, Any]] = {name: {} for name in names}
    for metric, better in COMPARED.items():
        of_metric = {name: columns[name, metric] for name in (OURS, *names)}
        for found in paired(of_metric, better, [(name, OURS) for name in names]):
            less[found.first][metric] = facts(found.difference)
    return less


def fewest(less: Mapping[str, Mapping[str, Any]]) -> int | None:
    """Return the fewest masks from which on D-RISE's mean deletion is no higher than Fusion-CAM's, of `differences`."""
    higher = [n for n in BUDGETS if less[f"{WITNESS} {n}"]["deletion"]["mean"] > 0]
    return next((n for n in BUDGETS if n > max(higher, default=0)), None)


def add(columns: dict[tuple[str, str], list[float]], name: str, each: Sequence[Mapping[str, float]]) -> None:
    """Add the means over the detections of a picture to the columns."""
    for metric in each[0]:
        columns.setdefault((name, metric), []).append(float(np.mean([figures[metric] for figures in each])))


def main(arguments: list[str] | None = None) -> int:
    """Measure everything, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detections", type=int, default=50, help="of each kind of picture, at least")
    parser.add_argument("--pictures", type=int, default=500, help="of each kind, for the average precision")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED, help="of the pictures that are explained")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/ and README.md")
    asked = parser.parse_args(arguments)
    precisions = {kind: precision(kind, asked.pictures) for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        bundle, shuffled = Path(folder) / "model.fcam", Path(folder) / "shuffled.fcam"
        manifest = export_model(DETECTOR, bundle)
        randomised_bundle(bundle, shuffled)
        found = [measure(kind, bundle, shuffled, asked.detections, asked.first_seed) for kind in KINDS]
    result = {
        "date": datetime.now().date().isoformat(),
        "machine": describe(),
        "versions": versions(),
        "model": {"file": DETECTOR.name, "sha256": manifest.source.sha256, "bytes": DETECTOR.stat().st_size},
        "settings": {
            "methods": (*METHODS, *VARIANTS),
            "budget": "exact",
            "first_seed": asked.first_seed,
            "steps": STEPS,
        },
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
