"""Graphs and maps on Qualcomm's NPU, or on its simulator, against those by the CPU.

    python benchmarks/qnn.py --models FOLDER... [--maps NAME... --photos FOLDER] [--middle] [--pictures FOLDER]

Every graph of every model, and of every bundle among them, runs a random picture on both: the nodes that are left to
the CPU, by operator, and for each output the correlation and the largest difference. The Explainer on the provider
qnn, which lets no node fall back, then explains photos by the models of --maps: per photo and method the correlation
and the largest difference of the maps. The simulator is slow, so its times say nothing and are not kept. What is
printed are the tables of the docs.
"""

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from wanted import WANTED

from fusioncam import Explainer, export_model
from fusioncam.errors import FusionCamError
from fusioncam.export.canonical import canonicalize
from fusioncam.export.layers.choice import survey
from fusioncam.files import replace_file
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH
from fusioncam.runtime.photos.folder import photos_of
from fusioncam.runtime.providers.naming import resolve
from fusioncam.runtime.sessions.open import Opening, create_session, open_session
from fusioncam.runtime.sessions.placement import left_to_cpu, placed_nodes

RESULTS = Path(__file__).parent / "results" / "qnn.json"
GRAPHS = (EXPLAIN_GRAPH, SCORE_GRAPH, HEAD_GRAPH)
METHODS = ("grad_cam", "score_cam", "fusion_cam")
PREPROCESSING = {**WANTED, "cifar": {"preset": "raw"}, "vww": {"preset": "unit"}}
SIZES = {"N": 1, "M": 1}
Row = dict[str, Any]


def bundles_of(folder: Path, work: Path, middle: bool) -> Iterator[Path]:
    """Yield the bundles in `folder`, and those of its ONNX files, by the default layer and by one in the middle."""
    yield from sorted(path.parent for path in folder.glob("*/manifest.json"))
    for source in sorted(folder.glob("*.onnx")):
        if source.name.endswith(".torch.onnx"):  # lies beside its bundle
            continue
        wanted = next((fields for part, fields in PREPROCESSING.items() if source.stem.startswith(part)), None)
        names: dict[str, str | None] = {source.stem: None}
        if middle:
            layers = [c.name for c in survey(canonicalize(source)).candidates if not c.bypassed]
            names[f"{source.stem}, middle layer"] = layers[len(layers) // 2]
        for name, layer in names.items():
            export_model(source, work / f"{name}.fcam", layer=layer, preprocessing=wanted)
            yield work / f"{name}.fcam"


def graph_rows(bundle: Path) -> Iterator[Row]:
    """Yield how the graphs of a bundle fare on the NPU, a row for each."""
    for graph in GRAPHS:
        if (bundle / graph).is_file():
            yield {"bundle": bundle.stem, "graph": graph, **graph_row(bundle / graph)}


def graph_row(path: Path) -> Row:
    """Return the nodes that the NPU leaves, and how close its outputs are; or why it does not run."""
    opening = Opening(resolve(["qnn"]), sizes=SIZES)
    try:
        session, _ = create_session(path, opening)
    except FusionCamError as error:
        return {"error": str(error)}
    nodes = placed_nodes(session)
    row: Row = {"nodes": len(nodes), "left": dict(Counter(n.operator for n in left_to_cpu(nodes, opening.specs)))}
    cpu, rng, feeds = open_session(path), np.random.default_rng(0), {}
    for value in cpu.get_inputs():
        shape = [d if isinstance(d, int) else 1 for d in value.shape]
        top = value.type == "tensor(int64)"
        feeds[value.name] = np.full(shape, -1) if top else rng.uniform(0, 1, shape).astype(np.float32)
    outputs = zip(cpu.get_outputs(), session.run(None, feeds), cpu.run(None, feeds), strict=True)
    return row | {"outputs": {value.name: distance(got, expected) for value, got, expected in outputs}}


def distance(got: np.ndarray, expected: np.ndarray) -> Row:
    """Return correlation, largest difference, and the range that it is to be seen in."""
    a, b = got.astype(np.float64).ravel(), expected.astype(np.float64).ravel()
    r = float(np.corrcoef(a, b)[0, 1]) if np.ptp(a) and np.ptp(b) else float(np.array_equal(a, b))
    return {"r": round(r, 6), "largest": float(np.abs(a - b).max()), "range": float(np.ptp(b))}


def map_rows(bundle: Path, photos: dict[str, Path], pictures: Path | None) -> Iterator[Row]:
    """Yield how close maps by the NPU are to those by the CPU, a row for each photo."""
    npu, cpu = (Explainer(bundle, [provider], METHODS) for provider in ("qnn", "cpu"))
    for name, photo in photos.items():
        expected = cpu.explain(photo)
        got = npu.explain(photo, expected.class_index)
        if pictures is not None:
            both = [np.hstack([e.maps[m] for m in METHODS]) for e in (expected, got)]
            shown = np.vstack([*both, np.abs(both[0] - both[1]) * 20]).clip(0, 1) * 255
            cv2.imwrite(str(pictures / f"{bundle.stem}-{name}.png"), shown.astype(np.uint8))
        yield {
            "bundle": bundle.stem, "photo": name, "class": expected.class_index, "passes": got.passes.run,
            "probability": [expected.probability, got.probability], "flags": [list(expected.flags), list(got.flags)],
            "same_top": got.logits is not None and int(got.logits.argmax()) == expected.class_index,
            "maps": {m: distance(got.maps[m], expected.maps[m]) for m in METHODS},
        }  # fmt: skip


def graphs_table(rows: Sequence[Row]) -> str:
    """Return a row per bundle: the operators that each graph leaves, or the smallest correlation of its outputs."""
    lines = ["| network | explain | score | head |", "|---|---|---|---|"]
    for bundle in dict.fromkeys(row["bundle"] for row in rows):
        of_bundle = {row["graph"]: cell(row) for row in rows if row["bundle"] == bundle}
        lines.append(f"| {bundle} | {' | '.join(of_bundle.get(graph, '') for graph in GRAPHS)} |")
    return "\n".join(lines)


def cell(row: Row) -> str:
    """Return the entry of the table for one graph."""
    if "error" in row:
        return "refused"
    if row["left"]:
        return "leaves " + ", ".join(f"{n} {operator}" for operator, n in row["left"].items())
    return ", ".join(f"{output['r']:.5f}" for output in row["outputs"].values())


def maps_table(rows: Sequence[Row]) -> str:
    """Return a row per bundle and method: the least correlation, and the largest difference, over its photos."""
    lines = ["| model | map | photos | smallest r | largest difference |", "|---|---|---:|---:|---:|"]
    for bundle in dict.fromkeys(row["bundle"] for row in rows):
        for method in METHODS:
            found = [row["maps"][method] for row in rows if row["bundle"] == bundle]
            least, most = min(f["r"] for f in found), max(f["largest"] for f in found)
            lines.append(f"| {bundle} | {method} | {len(found)} | {least:.5f} | {most:.4f} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, keep the figures, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, nargs="+", required=True, help="folders of ONNX files or bundles")
    parser.add_argument(
        "--maps", nargs="*", default=[], help="beginnings of the names of models whose maps are compared"
    )
    parser.add_argument("--photos", type=Path, help="folder of photos for the maps")
    parser.add_argument("--most", type=int, default=6, help="photos per model")
    parser.add_argument("--middle", action="store_true", help="models by a layer in the middle, too")
    parser.add_argument(
        "--pictures", type=Path, help="folder for pictures: maps by CPU and NPU, and 20 x the difference"
    )
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    photos = dict(list(photos_of(asked.photos).items())[: asked.most]) if asked.photos else {}
    found: dict[str, list[Row]] = {"graphs": [], "maps": []}
    with tempfile.TemporaryDirectory() as work:
        for folder in asked.models:
            for bundle in bundles_of(folder, Path(work), asked.middle):
                found["graphs"] += graph_rows(bundle)
                if bundle.stem.startswith(tuple(asked.maps)) and ", middle" not in bundle.stem:
                    found["maps"] += map_rows(bundle, photos, asked.pictures)
                print(f"{bundle.stem}: done", flush=True)
                replace_file(asked.out, (json.dumps(found, indent=1) + "\n").encode())
    print(graphs_table(found["graphs"]), maps_table(found["maps"]), sep="\n\n")


if __name__ == "__main__":
    main()
