"""Targets that are no classes: do the maps of a segment, and of a likeness, lie on what the target is about?

    python benchmarks/targets.py [--scenes N] [--out FOLDER]

The models are the demo's, the pictures drawn scenes, beyond those that were looked at while the models were trained.

- *segments*: the map of each object that the segmenter finds should have its maximum inside the object's exact mask.
- *likeness*: scenes of two objects, one of which stands alone in a reference. Where the embedder finds that reference
  among 200, the map of the likeness to it should have its maximum inside the shared object's mask. By chance it would
  be as often inside as the mask is large; an embedder that saw just any object would be right half of the time.
- *shuffled weights*: the same targets of copies of the models whose weights are shuffled (arXiv 1810.03292).
- *ten targets*: how many passes they take, by the passes of one.

Writes results/targets.json, and its tables into README.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from cpu.readme import fill, table
from onnx import TensorProto, helper, numpy_helper

from fusioncam import Explainer, Like, Region, Target
from fusioncam.export import export_model
from fusioncam.export.randomise import randomised_bundle
from fusioncam.files import replace_file
from fusioncam.output import json_bytes, write_atomically
from fusioncam.runtime.bench.machine import describe, versions
from fusioncam.runtime.demo import EMBEDDER, SEGMENTER
from fusioncam.runtime.demo.pairs import draw_pair
from fusioncam.runtime.demo.scenes import SIZE, draw_scene
from fusioncam.runtime.evaluation.metrics.localisation import energy, pointing
from fusioncam.runtime.evaluation.statistics import Mean, means
from fusioncam.runtime.picture import method_title

HERE = Path(__file__).parent
METHODS = ("fusion_cam", "grad_cam", "score_cam", "layer_cam")
FIRST_SEED = 600_000  # of scenes that nobody looked at before
OBJECTS, GALLERY, TARGETS, WIDE = 2, 200, 10, 512
MEASURES = {"pointing": pointing, "energy": energy}


@dataclass(frozen=True)
class Case:
    """A target of a picture, and where its evidence lies.

    Attributes:
        image: (H, W, 3) uint8.
        target: The target.
        fixed: The same target for another model: with the exact region, where the model would choose its own.
        mask: (H, W) bool, the object that the target is about.
        found: Whether the model is right about it; only then its map is held against the mask.
    """

    image: np.ndarray
    target: Target
    fixed: Target
    mask: np.ndarray
    found: bool


@dataclass(frozen=True)
class Subject:
    """A model with the cases that are asked of it.

    Attributes:
        name: What is asked.
        model: Its ONNX file.
        layer: The target layer; None for the default one.
        found: What the model is right about.
        cases: Cases of so many scenes, one list for each.
    """

    name: str
    model: Path
    layer: str | None
    found: str
    cases: Callable[[int], Iterator[list[Case]]]


def outputs_of(model: Path, images: list[np.ndarray]) -> np.ndarray:
    """Return the model's outputs of images (H, W, 3), by onnxruntime alone."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    batch = (np.stack(images).transpose(0, 3, 1, 2).astype(np.float32) / 255 - 0.5) / 0.25
    return np.asarray(session.run(None, {"image": batch})[0])


def segments(count: int) -> Iterator[list[Case]]:
    """Yield a case for each object of `count` scenes; it is found if its class wins most of its cells."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        scene = draw_scene(seed, SIZE, OBJECTS)
        winner = outputs_of(SEGMENTER, [scene.image])[0].argmax(axis=0)
        fine = winner.repeat(SIZE[0] // len(winner), axis=0).repeat(SIZE[1] // winner.shape[1], axis=1)
        yield [
            Case(scene.image, Region(1 + c), Region(1 + c, mask=mask), mask, bool((fine[mask] == 1 + c).mean() > 0.5))
            for c, mask in scene.masks.items()
        ]


def likenesses(count: int) -> Iterator[list[Case]]:
    """Yield a case for each of `count` pairs; it is found if its reference is the nearest of `GALLERY`."""
    pairs = [draw_pair(seed, SIZE, OBJECTS) for seed in range(FIRST_SEED, FIRST_SEED + max(count, GALLERY))]
    scenes = outputs_of(EMBEDDER, [pair.scene.image for pair in pairs[:count]])
    references = outputs_of(EMBEDDER, [pair.reference.image for pair in pairs])
    for n, pair in enumerate(pairs[:count]):
        start = n // GALLERY * GALLERY
        nearest = start + int((references[start : start + GALLERY] @ scenes[n]).argmax())
        mask = pair.scene.masks[pair.class_index]
        like = Like(pair.reference.image)
        yield [Case(pair.scene.image, like, like, mask, nearest == n)]


SEGMENTS = Subject("segments", SEGMENTER, None, "most of its cells won", segments)
SUBJECTS = (
    SEGMENTS,
    replace(SEGMENTS, name="segments, by the encoder's last layer", layer="relu_6"),
    Subject("likeness", EMBEDDER, None, f"reference found among {GALLERY}", likenesses),
)


def held(explainer: Explainer, pictures: list[list[Case]], fixed: bool = False) -> dict[str, Any]:
    """Hold maps against the masks: by method the pointing and the energy, means over pictures with 95 % intervals."""
    values: dict[tuple[str, str], list[float]] = {(m, name): [] for m in METHODS for name in MEASURES}
    for cases in filter(None, pictures):
        asked = [case.fixed if fixed else case.target for case in cases]
        found = explainer.explain_batch([case.image for case in cases], target=asked)
        for (method, name), of_pictures in values.items():
            each = [MEASURES[name](e.maps[method], case.mask) for e, case in zip(found, cases, strict=True)]
            of_pictures.append(float(np.mean(each)))
    summary = means({key: np.array(column) for key, column in values.items()})
    return {m: {name: facts(summary[m, name]) for name in MEASURES} for m in METHODS}


def facts(mean: Mean) -> dict[str, float | None]:
    """Return a mean as JSON holds it, where nothing stands for an interval of too few pictures."""
    return {name: number if np.isfinite(number) else None for name, number in mean._asdict().items()}


def measure(subject: Subject, count: int, folder: Path) -> dict[str, Any]:
    """Return the figures of a subject."""
    bundle, shuffled = folder / "model.fcam", folder / "shuffled.fcam"
    export_model(subject.model, bundle, layer=subject.layer)
    randomised_bundle(bundle, shuffled)
    pictures = list(subject.cases(count))
    found = [[case for case in cases if case.found] for cases in pictures]
    every = [case for cases in pictures for case in cases]
    explainer = Explainer(bundle, methods=METHODS)
    return {
        "name": subject.name,
        "model": subject.model.name,
        "layer": list(explainer.manifest.layer.shape),
        "scenes": count,
        "targets": len(every),
        "found": float(np.mean([case.found for case in every])),
        "found_means": subject.found,
        "area": float(np.mean([case.mask.mean() for case in every if case.found])),
        "methods": held(explainer, found),
        "shuffled": held(Explainer(shuffled, methods=METHODS), found, fixed=True),
        "passes": passes(explainer, every[0].image, [case.fixed for case in every[:TARGETS]]),
    }


def passes(explainer: Explainer, image: np.ndarray, targets: list[Target]) -> dict[str, int]:
    """Return the channels of the layer, and the masked passes of a picture with the first target and with all."""
    counts = {"channels": explainer.manifest.layer.shape[0]}
    for number in (1, len(targets)):
        (first, *_) = explainer.explain_batch([image], target=[targets[:number]])
        counts[str(number)] = first.passes.run
    return counts


def wide_passes(folder: Path) -> dict[str, int]:
    """Return the passes of a segmenter with random weights, whose layer is as wide as those of usual networks."""
    rng = np.random.default_rng(0)
    shapes = {"first": (WIDE, 3, 8, 8), "last": (9, WIDE, 1, 1)}
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["image", "first"], ["features"], strides=[8, 8]),
        helper.make_node("Relu", ["features"], ["layer"]),
        helper.make_node("Conv", ["layer", "last"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, *SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 9, 12, 12])
    graph = helper.make_graph(nodes, "wide", [image], [logits], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "wide.onnx"
    )
    export_model(folder / "wide.onnx", folder / "wide.fcam", preprocessing="unit")
    whole = np.ones(SIZE, np.uint8)
    targets: list[Target] = [Region(c, mask=whole, peak=peak) for peak in (False, True) for c in range(9)]
    return passes(Explainer(folder / "wide.fcam", methods=METHODS), draw_scene(FIRST_SEED).image, targets[:TARGETS])


def of_subject(figures: dict[str, Any]) -> str:
    """Return a subject's figures in Markdown: means with their 95 % intervals."""
    columns = ("", "pointing", "energy", "shuffled weights: pointing", "energy")
    rows = [
        [method_title(m), *(cell(figures[which][m][name]) for which in ("methods", "shuffled") for name in MEASURES)]
        for m in METHODS
    ]
    head = (
        f"**{figures['name']}**, `{figures['model']}`, layer {' x '.join(map(str, figures['layer']))}: "
        f"{figures['targets']} targets in {figures['scenes']} scenes, of which {figures['found']:.1%} are right "
        f"({figures['found_means']}) and were explained. Masks cover {figures['area']:.1%} of a scene."
    )
    return f"{head}\n\n{table(columns, rows)}"


def cell(found: Mapping[str, float | None]) -> str:
    """Return a mean and its interval."""
    mean, low, high = ("" if (x := found[name]) is None else f"{x:.3f}" for name in ("mean", "low", "high"))
    return f"{mean}<br><sub>{low} to {high}</sub>" if low else mean


def of_passes(counts: list[dict[str, int]]) -> str:
    """Return the table of passes in Markdown."""
    columns = ("channels", "one target", f"{TARGETS} targets", "ratio")
    rows = [[str(c["channels"]), str(c["1"]), str(ten := c[str(TARGETS)]), f"{ten / c['1']:.2f}"] for c in counts]
    return f"Masked passes of one picture, all methods together:\n\n{table(columns, rows)}"


def main(arguments: list[str] | None = None) -> int:
    """Measure all subjects, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results/ and README.md")
    asked = parser.parse_args(arguments)
    found = []
    for subject in SUBJECTS:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(subject, asked.scenes, Path(folder)))
        print(of_subject(found[-1]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        counts = [*(figures["passes"] for figures in found), wide_passes(Path(folder))]
    result = {
        "date": datetime.now().date().isoformat(),
        "machine": describe(),
        "versions": versions(),
        "settings": {"methods": METHODS, "budget": "exact", "first_seed": FIRST_SEED, "objects": OBJECTS},
        "subjects": found,
        "passes": counts,
    }
    target = asked.out / "results" / "targets.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json_bytes(result))
    readme = asked.out / "README.md"
    text = (readme if readme.exists() else HERE / "README.md").read_text()
    replace_file(readme, fill(text, {"targets": "\n\n".join([*map(of_subject, found), of_passes(counts)])}).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
