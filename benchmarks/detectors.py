"""Detectors of libraries: the same detections as by each library's own post-processing, and its gradients.

    python benchmarks/detectors.py [--only NAME...] [--again] [--models FOLDER] [--photos FOLDER]

Every family is built with random weights, whose last layers give some tens of detections. Five photos go through the
library itself and through the bundle of its ONNX file:

- search: boxes (relative to the longer side of the photo), scores and classes after our search for duplicates in the
  very numbers that the file gives above its own search, or the library's;
- numbers: boxes and scores of all anchors or queries, before any search, of the bundle beside those of the file;
- end to end: both, from photo to detections;
- of detectors that segment instances, how many pixels of all masks differ; the library drops empty masks;
- of two photos, the gradient of the best detection's score at each level, beside that of torch in float64.

Random weights may give thousands of boxes over each other, so that an overlap at the very threshold falls on the other
side by the last digit of the input (Ultralytics moves classes 7680 pixels apart, which rounds by up to 0.06 pixels). So
the least score is chosen for each photo: 60 to 120 boxes exceed it, or fewer. It happens all the same, then the search
and the numbers are equal and the detections from end to end are not. Figures that are not finite are null: the
detections do not match, or no tensor of torch is the layer.

Writes results/detectors.json after each family, and its table into README.md; what the file holds already is kept,
unless --again is given.
"""

import argparse
import importlib
import json
import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from cpu.readme import fill
from detectors.family import CONF, Detector, Found
from detectors.published import overlap
from zoo.autograd import Tape, forms, is_same

from fusioncam import Explainer
from fusioncam.export import export_model
from fusioncam.export.checking.boxes import off_boxes
from fusioncam.export.checking.source import source_runner
from fusioncam.forms import ACTIVATIONS, GRADIENTS, of_level
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import Manifest
from fusioncam.runtime.prepared import prepare
from fusioncam.runtime.targets.detections import Anchors, Coordinates, Detection

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "detectors.json"
README = HERE / "README.md"
PHOTOS = HERE.parent.parent / "shared" / "assets" / "images"
PICTURES = ("skimage_coffee.png", "coral_parrot.jpg", "captum_zebra.jpg", "gradcam_puppies.jpg", "coral_pets.jpg")
LIBRARIES = (
    "detectors.published", "detectors.of_transformers", "detectors.of_ultralytics", "detectors.of_torchvision",
)  # fmt: skip
VERSIONS = ("torch", "torchvision", "ultralytics", "transformers", "onnx", "onnxruntime")
CANDIDATES = 60, 120  # boxes of a photo before the search for duplicates, at most
OF_GRADIENT = 2  # photos whose gradients are compared
TOLERANCE, OF_GRADIENTS = 1e-4, 1e-5
TIE = 1e-6
OF_ROW = ("box", "score", "gradient")
COLUMNS = (
    "model", "of", "reader", "detections in five photos", "search: boxes", "scores", "numbers", "end to end: boxes",
    "scores", "gradient",
)  # fmt: skip


def main() -> None:
    """Compare what is asked for, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=[""], metavar="NAME", help="beginnings of names")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--models", type=Path, required=True, metavar="FOLDER", help="for files that are made")
    parser.add_argument("--photos", type=Path, default=PHOTOS, metavar="FOLDER")
    parser.add_argument("-o", "--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    asked.models.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = json.loads(asked.out.read_text()) if asked.out.exists() else {"detectors": {}}
    photos = [asked.photos / name for name in PICTURES]
    for library in map(importlib.import_module, LIBRARIES):
        for name in library.NAMES:
            if not name.startswith(tuple(asked.only)) or (name in found["detectors"] and not asked.again):
                continue
            row = _row(library, name, asked.models, photos)
            found["detectors"] = dict(sorted({**found["detectors"], name: row}.items()))
            versions = {n: str(sys.modules[n].__version__) for n in VERSIONS if n in sys.modules}
            known = {**found.get("versions", {}), **versions}
            found |= {"date": date.today().isoformat(), "versions": dict(sorted(known.items()))}
            asked.out.write_text(json.dumps(found, indent=1) + "\n")
            print("ok  " if row.get("ok") else "FAIL", name, json.dumps(row), flush=True)
    if asked.out == RESULTS:
        text = fill(README.read_text(), {"detectors": _table(found)})
        README.write_text(text)


def _table(found: dict[str, Any]) -> str:
    """Return the table of all families."""
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    lines = [
        f"{found['date']}, random weights, 320 x 320 pixels; {versions}.", "",
        f"| {' | '.join(COLUMNS)} |", f"|{'---|' * 4}{'---:|' * (len(COLUMNS) - 4)}",
    ]  # fmt: skip
    for name, row in found["detectors"].items():
        if "error" in row:
            lines.append(f"| {name} | | {row['error']} |{' |' * (len(COLUMNS) - 3)}")
            continue
        counts = ", ".join(str(a) if a == b else f"{a} / {b}" for a, b in row["detections"])
        search = row.get("search", {})
        figures = [search.get("box"), search.get("score"), row.get("numbers"), *(row[n] for n in OF_ROW)]
        cells = [name, row["library"], f"`{row['reader']}`", counts, *map(_shown, figures)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.0e}"


def _row(library: Any, name: str, folder: Path, photos: list[Path]) -> dict[str, Any]:
    """Return the figures of a detector."""
    start = time.monotonic()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            place = folder / name
            place.mkdir(exist_ok=True)
            detector = library.make(name, place, photos)
            row = _compared(detector, place / "bundle.fcam", photos)
    except Exception as error:
        traceback.print_exc()
        return {"ok": False, "error": f"{type(error).__name__}: {error}".splitlines()[0][:300]}
    return {**row, "seconds": round(time.monotonic() - start, 1)}


def _compared(detector: Detector, bundle: Path, photos: list[Path]) -> dict[str, Any]:
    """Return how far detections and gradients are from the library's."""
    manifest = export_model(detector.source, bundle, conf=CONF, **detector.options)
    explainer = Explainer(bundle)
    run_source = source_runner(manifest, detector.source)
    confs = [_conf_of(explainer, detector.pictures(photo)) for photo in photos]
    library = [detector.find(detector.pictures(photo), conf) for photo, conf in zip(photos, confs, strict=True)]
    network = detector.module.double()
    counts, numbers, searches, errors, gradients, compared, masks = [], [], [], [], [], 0, np.zeros(2, int)
    for photo, conf, expected in zip(photos, confs, library, strict=True):
        given = detector.pictures(photo)
        prepared = prepare(given, manifest.preprocessing)
        size = prepared.photo.size
        longer, on_photo = max(size or manifest.preprocessing.size), isinstance(given, Path)
        of_source = run_source(prepared.x[None].astype(np.float32))
        exact = manifest.model_copy(update={"ending": "value"})
        whole = explainer.pipeline.anchors(given)
        places = Coordinates.of(size, manifest.preprocessing)
        in_source = Anchors(of_source[0], exact, places, whole.prototypes).found(conf)
        if detector.search is None:
            searches.append(off(expected, _found(_with_masks(in_source), on_photo), longer))
        else:
            of_library = detector.search(given, prepared.x, conf)
            searches.append(off(of_library, _found(in_source, on_photo), longer))
        numbers.append(off_boxes(whole.form[None], manifest, of_source))
        every = explainer.detections(given, conf=conf)
        mine = _with_masks(every)
        found = _found(mine, on_photo)
        counts.append([len(expected.scores), len(found.scores)])
        errors.append(off(expected, found, longer))
        masks += off_masks(expected, found, [d.mask_on_input for d in mine])
        if every and compared < OF_GRADIENT:
            compared += 1
            gradients += off_gradients(network, detector, manifest, bundle, prepared.x, every[0])
    in_search, end_to_end = (_worst(each) for each in (searches, errors))
    figures = in_search["box"], in_search["score"], max(numbers)
    ok = all(f is not None and f <= TOLERANCE for f in figures) and max(gradients, default=np.inf) <= OF_GRADIENTS
    return {
        "ok": ok, "library": detector.library, "reader": manifest.reader, "ending": manifest.ending,
        "levels": 1 + len(manifest.levels), "detections": counts, "search": in_search,
        "numbers": _finite(max(numbers)), **end_to_end, "gradient": _finite(max(gradients, default=np.inf)),
        **({"mask_pixels": masks.tolist()} if masks.any() else {}),
    }  # fmt: skip


def _found(detections: list[Detection], on_photo: bool) -> Found:
    """Return detections as a library's are: clipped to the photo, or as they are on the input."""
    box = "box" if on_photo else "box_on_input"
    return Found(*(np.array([getattr(d, name) for d in detections]) for name in (box, "score", "class_index")))


def _with_masks(detections: list[Detection]) -> list[Detection]:
    """Return detections without those whose masks are empty, which libraries drop."""
    return [d for d in detections if (mask := d.mask_on_input) is None or mask.any()]


def _worst(errors: list[tuple[float, float, int]]) -> dict[str, Any]:
    boxes, scores, ties = zip(*errors, strict=True)
    return {"box": _finite(max(boxes)), "score": _finite(max(scores)), "ties": sum(ties)}


def _conf_of(explainer: Explainer, given: Any) -> float:
    """Return a threshold that `CANDIDATES` boxes of a picture exceed, in the widest gap; at least `CONF`."""
    every = np.array([d.score for d in explainer.detections(given, conf=CONF, iou=1.0)])
    first, last = CANDIDATES
    if len(every) <= first + 1:
        return CONF
    gap = first + int(np.diff(every[first:last]).argmin())
    return float(every[gap : gap + 2].mean())


def _finite(figure: float) -> float | None:
    return float(figure) if np.isfinite(figure) else None


def off(expected: Found, found: Found, longer: int) -> tuple[float, float, int]:
    """Return the largest differences of boxes and scores, infinity where detections have no counterpart, and the ties.

    On an even ground cells give the same scores, and of such duplicates either may be kept: a detection
    whose counterpart has its score to the last digit and overlaps it counts as a tie, and its box is not compared.
    """
    if len(expected.scores) != len(found.scores):
        return np.inf, np.inf, 0
    boxes, scores, ties = [0.0], [0.0], 0
    for box, score, class_ in zip(expected.boxes, expected.scores, expected.classes, strict=True):
        sides, points = np.abs(found.boxes - box).max(axis=1) / longer, np.abs(found.scores - score)
        n = int(np.where(found.classes == class_, sides + points, np.inf).argmin())
        tied = bool(sides[n] > TOLERANCE and points[n] < TIE and overlap(found.boxes[n], box) > 0)
        ties += tied
        scores.append(float(points[n]))
        boxes.append(0.0 if tied else float(sides[n]) if found.classes[n] == class_ else np.inf)
    return max(boxes), max(scores), ties


def off_masks(expected: Found, found: Found, masks: list[Any]) -> Array:
    """Return how many pixels of masks differ, and of how many, where the box of a detection has its counterpart."""
    pixels = np.zeros(2, int)
    for n, mask in enumerate(() if expected.masks is None else expected.masks):
        sides = np.abs(found.boxes - expected.boxes[n]).max(axis=1)
        for k in np.flatnonzero((sides < 1e-2) & (found.classes == expected.classes[n]))[:1]:
            pixels += (mask != masks[k]).sum(), mask.sum()
    return pixels


def off_gradients(
    network: torch.nn.Module, detector: Detector, manifest: Manifest, bundle: Path, x: Array, best: Any
) -> list[float]:
    """Return how far the gradients of a detection's score are from torch's, relative to their norm, at each level."""
    feeds: Mapping[str, Array] = {
        **manifest.form.placeholders(1), "image": x[None].astype(np.float32),
        "class_index": np.array([best.class_index]), "anchor": np.array([best.anchor]),
        "box": np.array([best.box_on_input], np.float32),
    }  # fmt: skip
    session = onnxruntime.InferenceSession(bundle / "explain.onnx", providers=["CPUExecutionProvider"])
    run = dict(zip((o.name for o in session.get_outputs()), session.run(None, feeds), strict=True))
    image = torch.from_numpy(x[None]).double().requires_grad_()
    with Tape() as tape:
        numbers = detector.explained(network.requires_grad_(False)(image), manifest.ending)
    score = numbers[best.anchor, best.class_index]
    if manifest.detector is not None and not manifest.detector.nms and detector.closing != "softmax":
        score = numbers[:, best.class_index].max()  # in float64 a TopK may give queries another order
    errors, explained = [], False
    for n, layer in enumerate((manifest.layer, *manifest.levels)):
        activations, gradient = (run[of_level(kind, n)][0] for kind in (ACTIVATIONS, GRADIENTS))
        explained |= bool(np.any(gradient))
        near = [t for t in tape.seen.values() if any(is_same(a, activations) for a in forms(t.detach().numpy(), layer))]
        found = torch.autograd.grad(score, near, retain_graph=True, allow_unused=True) if near else ()
        of_level_ = [
            _distance(form, gradient)
            for tensor, g in zip(near, found, strict=True)
            for a, form in zip(
                forms(tensor.detach().numpy(), layer),
                forms((torch.zeros_like(tensor) if g is None else g).numpy(), layer),
                strict=True,
            )
            if is_same(a, activations)
        ]
        errors.append(min(of_level_, default=np.inf))
    return errors if explained else [np.inf]


def _distance(expected: Array, found: Array) -> float:
    norm = float(np.linalg.norm(expected))
    return float(np.linalg.norm(expected - found)) / (norm or 1.0)


if __name__ == "__main__":
    main()
