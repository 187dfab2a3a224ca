"""A bundle as one self-contained graph, to be run from C++, JavaScript or anything else with onnxruntime."""

import os
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes

from fusioncam.errors import BundleError, ModelError, UsageError
from fusioncam.export.options import DEFAULTS, ExportOptions
from fusioncam.export.sessions import failing_as
from fusioncam.export.single.loop import loop_graph
from fusioncam.export.single.metadata import metadata
from fusioncam.export.single.parts import scoring_only
from fusioncam.export.single.unrolled import chunk_graph, fuse_graph
from fusioncam.export.single.widen import widened
from fusioncam.manifest import (
    CHUNK,
    CHUNK_GRAPH,
    EXPLAIN_GRAPH,
    FUSE_GRAPH,
    SCORE_GRAPH,
    SINGLE_GRAPH,
    Manifest,
    read_bundle,
)

__all__ = ["check_variants", "single_graph", "unrolled_graphs", "write_variants"]

MOST_BYTES = 2**31 - 2**24  # of the weights in one file: protobuf holds 2 GB at most, nodes and names included
IR_VERSION = 9  # old enough for any onnxruntime since 2023, new enough for opset 20
MOST_CHUNK = 4096
FOR = ("any", "tensorrt")
OF_SINGLE = {"shared_weights": "--shared-weights", "chunk": "--chunk"}


def check_variants(options: ExportOptions) -> None:
    """Check that the options of the single and the unrolled graphs make sense together.

    Raises:
        UsageError: They do not.
    """
    single, unrolled = options["single"], options["unrolled"]
    for name, option in OF_SINGLE.items():
        if options[name] != DEFAULTS[name] and not single:  # type: ignore[literal-required]
            raise UsageError(f"{option} is an option of the single graph; add --single")
    if options["single_for"] not in FOR:
        raise UsageError(f"--for takes {' or '.join(FOR)}, not {options['single_for']!r}")
    if not 1 <= options["chunk"] <= MOST_CHUNK:
        raise UsageError(f"--chunk takes a number of masks from 1 to {MOST_CHUNK}, not {options['chunk']}")
    if unrolled is not None and not 1 <= unrolled <= MOST_CHUNK:
        raise UsageError(f"--unrolled takes a number of masks from 1 to {MOST_CHUNK}, not {unrolled}")
    if (single or unrolled) and not options["gradient"]:
        name = "--single" if single else "--unrolled"
        raise UsageError(f"{name} needs the gradient, for Fusion-CAM; leave --no-gradient out")


def single_graph(
    bundle: str | os.PathLike[str], *, shared_weights: bool = False, chunk: int = CHUNK, single_for: str = "any"
) -> bytes:
    """Return the single graph of a bundle, serialised.

    Inputs are `image` (1, C, H, W) float32, preprocessed, and a target, one row of each of its tensors:

    - of a classifier `class_index` (1,) int64, where -1 is the top class;
    - of maps also `region` (1, h', w') float32 and `peak` (1,) bool: a region of zeros is where the class wins, or all
      of a map of values, and class -1 is the one that covers most, or that has the highest mean in a region;
    - of boxes also `box` (1, 4) float32 in pixels of the input, `anchor` (1,) int64 and `weights` (1, 5) float32, see
      `Form`: what is zero, or below zero, is the detection that fits the rest best;
    - of an embedding `reference` (1, D) float32.

    Outputs are `fusion_cam`, `grad_cam` and `score_cam` (1, H, W) float32 in [0, 1], and `logits`, `detections` or
    `embedding`. All but vectors also have `scores` (1,) and `confidences` (1,), maps and boxes `explained_class` (1,),
    maps `explained_region`, boxes `explained_box` and `explained_anchor`.

    Args:
        bundle: The folder.
        shared_weights: Whether the masked passes read the weights of the explain pass: half the file, less speed.
        chunk: Masked pictures per turn of the Loop.
        single_for: `any` onnxruntime, or `tensorrt`, which computes float16 scores in float16.

    Raises:
        BundleError: The folder is no bundle, or a file of it is missing or was changed.
        UsageError: The bundle has no gradient, its model decides once for a whole batch, or an option makes no sense.
        ModelError: The graph would be larger than the 2 GB a file can hold.
    """
    folder, manifest = _suited(bundle)
    options = ExportOptions(single=True, shared_weights=shared_weights, chunk=chunk, single_for=single_for)
    check_variants({**DEFAULTS, **options})
    return _single(folder, manifest, options)


def unrolled_graphs(bundle: str | os.PathLike[str], masks: int) -> dict[str, bytes]:
    """Return the variant of a bundle without Loop, serialised, by file name; see `chunk_graph` and `fuse_graph`.

    Args:
        bundle: The folder.
        masks: Masked pictures per call of `chunk.onnx`.

    Raises:
        BundleError, UsageError, ModelError: As for `single_graph`.
    """
    folder, manifest = _suited(bundle)
    check_variants({**DEFAULTS, "unrolled": masks})
    return _unrolled(folder, manifest, masks)


def write_variants(folder: Path, manifest: Manifest, options: ExportOptions) -> list[str]:
    """Write the graphs that the options ask for into a folder with a bundle's graphs, and return their file names."""
    if options["single"] or options["unrolled"] is not None:
        _refuse_others(manifest)
    graphs = {SINGLE_GRAPH: _single(folder, manifest, options)} if options["single"] else {}
    if options["unrolled"] is not None:
        graphs |= _unrolled(folder, manifest, options["unrolled"])
    for name, data in graphs.items():
        (folder / name).write_bytes(data)
    return list(graphs)


def _refuse_others(manifest: Manifest) -> None:
    """Raise UsageError for a model that takes no pictures."""
    kind = manifest.preprocessing.kind
    if kind != "pictures":
        raise UsageError(f"one graph of the whole method is for pictures, and the model takes {kind}; use Explainer")


def _suited(bundle: str | os.PathLike[str]) -> tuple[Path, Manifest]:
    """Return the folder of a bundle and its manifest; raises UsageError where it cannot have a single graph."""
    folder = Path(bundle)
    manifest = read_bundle(folder)
    _refuse_others(manifest)
    if not manifest.gradient:
        raise UsageError(f"{folder} has no gradient, which Fusion-CAM needs; export it without --no-gradient")
    if manifest.one_by_one:
        raise UsageError(
            f"the model of {folder} decides once for a whole batch, so a batch of masks would mix them; use Explainer"
        )
    return folder, manifest


def _single(folder: Path, manifest: Manifest, options: ExportOptions) -> bytes:
    model, score, exact = _load(folder, EXPLAIN_GRAPH), _load(folder, SCORE_GRAPH), _scoring(folder, manifest)
    shared = options["shared_weights"]
    if manifest.score_precision == "float16" and options["single_for"] == "any" and not shared:
        score = widened(score)
    loop_graph(model.graph, score, exact, manifest, options["chunk"], shared)
    return _serialised(model, manifest)


def _unrolled(folder: Path, manifest: Manifest, masks: int) -> dict[str, bytes]:
    score = _load(folder, SCORE_GRAPH)
    exact = _scoring(folder, manifest) if manifest.score_precision == "int8" else score
    graphs = {CHUNK_GRAPH: chunk_graph(score, manifest, masks), FUSE_GRAPH: fuse_graph(exact, manifest)}
    return {name: _serialised(model, manifest) for name, model in graphs.items()}


def _scoring(folder: Path, manifest: Manifest) -> ir.Model:
    """Return the part of the explain graph that scores pictures."""
    return scoring_only(_load(folder, EXPLAIN_GRAPH), manifest.form)


def _load(folder: Path, name: str) -> ir.Model:
    """Return a graph of the bundle with its weights."""
    with failing_as(lambda why: BundleError(f"cannot load {folder / name}: {why}; export the model again"), passing=()):
        return ir.external_data.load_to_model(ir.load(folder / name))


def _serialised(model: ir.Model, manifest: Manifest) -> bytes:
    passes.RemoveUnusedNodesPass()(model)
    model.metadata_props.clear()
    model.metadata_props.update(metadata(manifest))
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "fusioncam", manifest.tools.get("fusioncam")
    model.graph.name = "fusioncam"
    graphs = (model.graph, *model.graph.subgraphs())
    size = sum(v.const_value.nbytes for g in graphs for v in g.initializers.values() if v.const_value is not None)
    if size > MOST_BYTES:
        remedy = "leave --single and --unrolled out, or share the weights with --shared-weights"
        raise ModelError(f"the graph would take {size / 1e9:.1f} GB, and an ONNX file holds 2 GB at most; {remedy}")
    return bytes(ir.to_proto(model).SerializeToString())
