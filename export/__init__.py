"""Build time: an image classifier becomes a bundle of plain ONNX graphs that also yield activations and gradients."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fusioncam.errors import ModelError, OutputError, UsageError
from fusioncam.export.batch.dynamic import NOT_BY_IMAGE, quantise_by_image
from fusioncam.export.bundle import explain_graph, whole_folder, write_graphs
from fusioncam.export.canonical import Classifier, canonicalize
from fusioncam.export.checking.check import check, compare_logits, compare_scores
from fusioncam.export.checking.liveness import why_dead
from fusioncam.export.gradient import decides_for_batch, path
from fusioncam.export.head import head_graph
from fusioncam.export.inspection import Inspection, inspect_model, manifest_layer
from fusioncam.export.layers.choice import choose_live, survey
from fusioncam.export.precision.calibration_batches import Photos, masked_pictures
from fusioncam.export.precision.drift import Finding
from fusioncam.export.precision.score_graph import refusal, score_graph
from fusioncam.export.reading.folder import model_file
from fusioncam.export.reading.from_torch import save_onnx
from fusioncam.export.single import Forms, checked_forms, single_graph, unrolled_graphs, write_forms
from fusioncam.export.source_metadata.labels import read_labels
from fusioncam.export.source_metadata.preprocessing import read_preprocessing, refuse_rounded_away, usual_preset
from fusioncam.files import temporary_file
from fusioncam.manifest import (
    EXPLAIN_GRAPH,
    FACTS,
    HEAD_GRAPH,
    SCORE_GRAPH,
    WEIGHTS,
    Manifest,
    Source,
    sha256,
    write_manifest,
)

if TYPE_CHECKING:
    import torch

__all__ = [
    "Inspection",
    "check",
    "export_model",
    "export_torch",
    "inspect_model",
    "single_graph",
    "unrolled_graphs",
]

TOOLS = ("onnx", "onnx-ir", "onnxscript", "numpy", "fusioncam")


Labels = str | os.PathLike[str] | Sequence[str]

# What the two classes of a model of one output are called, by its own name; without one they have none.
ONE_LABEL = {"sigmoid": ("not {}", "{}"), "value": ("lower {}", "higher {}")}


@dataclass(frozen=True)
class _Wishes:
    """What the user said; each field as the argument of `export_model`."""

    layer: str | None
    size: tuple[int, int] | None
    output: str | None
    labels: Labels | None
    preprocessing: str | Mapping[str, Any] | None
    precision: str | None
    calibrate: Photos | None
    gradient: bool
    ending: str | None
    forms: Forms


def export_model(
    model: str | os.PathLike[str],
    bundle: str | os.PathLike[str],
    *,
    layer: str | None = None,
    size: tuple[int, int] | None = None,
    output: str | None = None,
    labels: Labels | None = None,
    preprocessing: str | Mapping[str, Any] | None = None,
    precision: str | None = None,
    calibrate: Photos | None = None,
    gradient: bool = True,
    ending: str | None = None,
    single: bool = False,
    shared_weights: bool = False,
    unrolled: int | None = None,
) -> Manifest:
    """Turn an ONNX classifier into a bundle.

    The bundle's graphs are run against the source before the folder is put in place, so what is there is right.

    Args:
        model: The ONNX file, or a folder as for `inspect_model`; opset 7 or later, float32 or float16, or quantised.
        bundle: The folder to make, usually `NAME.fcam`; an older bundle there is replaced.
        layer: Tensor or node to explain by; by default chosen (see `inspect_model`).
        size: (H, W) of the input, for a model that leaves them open.
        output: The output that holds the class scores, where there are several.
        labels: The names of the classes, or a text file with one a line; by default what the source says.
        preprocessing: Fields of `fusioncam.manifest.Preprocessing`, or `{"preset": NAME}` with more fields over it, or
            only the name of the preset; by default what the source says.
        precision: Type the score graph computes in: `fp32`, `fp16` for GPUs, `int8` for CPUs; by default the source's.
        calibrate: For `int8`, and only there: gives the photos to calibrate on, preprocessed (3, H, W) arrays, when
            called with the bundle's `Preprocessing`; it is called twice. For a folder of files that is
            `calibrate=fusioncam.runtime.photos_in(folder)`. Some tens of photos like those to be explained
            will do: they are seen under masks of their own activations, as the score graph will see them.
        gradient: Whether the explain graph gives gradients. Without them no operator needs a gradient rule, and
            Score-CAM and Recipro-CAM are what is left; `manifest.json` says so.
        ending: How logits become probabilities, over what the graph says: `softmax`, `sigmoid` (each class by itself: a
            multi-label model that ends in bare logits), or `value` (a regression: its outputs stay as they are). By
            default what the graph ends in, and a softmax where it ends in bare logits. One output z becomes two
            classes, of the logits -z and z, with a sigmoid unless it is a `value`.
        single: Whether the bundle also gets `fusioncam.onnx`, the whole method in one graph; see `single_graph`.
        shared_weights: Whether the masked passes in it read the weights of its explain pass: half the file, but
            onnxruntime runs them slower.
        unrolled: Whether the bundle also gets the method without a Loop, for TensorRT, and for how many masks a call;
            see `unrolled_graphs`.

    Returns:
        The manifest, as written.

    Raises:
        ModelError: The model cannot be read, is no classifier of one image, has no rule for an operator, or does not
            bear float16 or int8.
        UsageError: An argument does not fit the model, or there are no photos to calibrate on.
        ImageError: A photo to calibrate on is not as the model takes it.
        OutputError: The bundle cannot be written.
    """
    forms = Forms(single, shared_weights, unrolled)
    wishes = _Wishes(layer, size, output, labels, preprocessing, precision, calibrate, gradient, ending, forms)
    source = model_file(Path(model))
    return _export(source, source, Path(bundle), wishes)


def _export(source: Path, kept: Path, target: Path, wishes: _Wishes) -> Manifest:
    """As `export_model`; `kept` is where the source will be found later."""
    forms = checked_forms(wishes.forms, wishes.gradient)
    classifier = canonicalize(source, wishes.size, wishes.output, wishes.ending)
    model = classifier.model
    one_by_one = decides_for_batch(path(classifier.image, classifier.logits))
    if one_by_one and (forms.single or forms.unrolled):
        raise UsageError(f"node {one_by_one!r} decides once for a whole batch; leave out --single and --unrolled")
    every = {str(o.name) for node in model.graph for o in node.outputs}
    surveyed = survey(classifier, wishes.gradient)
    chosen = choose_live(surveyed, lambda c: why_dead(classifier, c, wishes.gradient), wishes.layer, every)
    dynamic = quantise_by_image(model)
    names = _labels(classifier, source.parent, wishes.labels)
    usual = usual_preset(classifier.taken.type)
    prep = read_preprocessing(model.metadata_props, source.parent, classifier.size, wishes.preprocessing or {}, usual)
    refuse_rounded_away(prep, classifier.taken.type)
    explain = explain_graph(model, chosen.name, chosen.layout, wishes.gradient)
    calibrate = wishes.calibrate
    batches = None if calibrate is None else lambda: masked_pictures(explain, calibrate(prep))
    score, score_precision = score_graph(classifier, wishes.precision, batches, prep.extremes)
    graphs = {EXPLAIN_GRAPH: explain, SCORE_GRAPH: score}
    if not one_by_one and (head := head_graph(model, chosen.name, chosen.layout, classifier.precision)) is not None:
        graphs[HEAD_GRAPH] = head
    with whole_folder(target, source) as folder:
        manifest = Manifest(
            source=_source(classifier, source, os.path.relpath(kept.resolve(), target.resolve())),
            layer=manifest_layer(surveyed, chosen, wishes.layer is None),
            classes=classifier.classes,
            ending=classifier.ending,
            gradient=wishes.gradient,
            precision=classifier.precision,
            score_precision=score_precision,
            one_by_one=one_by_one is not None,
            opset=model.opset_imports[""],
            preprocessing=prep,
            labels=names,
            tools={tool: version(tool) for tool in TOOLS},
            files=dict.fromkeys((*graphs, WEIGHTS), ""),
        )
        explain.metadata_props[FACTS] = manifest.facts
        write_graphs(folder, graphs)
        written = (*manifest.files, *write_forms(folder, manifest, forms))
        manifest = manifest.model_copy(update={"files": {name: sha256(folder / name) for name in written}})
        write_manifest(folder, manifest)
        for finding in _findings(folder, manifest, source):
            if not finding.ok and score is not model and (SCORE_GRAPH in finding.what or "Score-CAM" in finding.what):
                raise refusal(model, score_precision, finding)
            if not finding.ok and dynamic:
                raise ModelError(NOT_BY_IMAGE)
            if not finding.ok:
                raise ModelError(f"the exported graph is wrong: {finding.what}: off by {finding.error:.1e}")
    return manifest


def _findings(bundle: Path, manifest: Manifest, source: Path) -> Iterator[Finding]:
    """Compare a new bundle with its source; scores in float16 by the maps they make, too."""
    yield from compare_logits(bundle, manifest, source)
    if manifest.score_precision == "float16" != manifest.precision:
        yield from compare_scores(bundle, manifest)


def _source(classifier: Classifier, source: Path, relative: str) -> Source:
    return Source(
        path=relative.replace(os.sep, "/"),
        sha256=sha256(source),
        input=classifier.taken.name,
        output=classifier.output_name,
        channels_last=classifier.taken.channels_last,
        type=str(classifier.taken.type.numpy()),
        ending=classifier.source.ending,
        outputs=classifier.outputs,
        reach=classifier.source.reach,
        scale=classifier.source.scale,
        offset=classifier.source.offset,
        rounding=classifier.source.rounding,
        logarithm=classifier.source.logarithm,
    )


def _labels(classifier: Classifier, folder: Path, given: Labels | None) -> tuple[str, ...] | None:
    one = ONE_LABEL.get(classifier.ending) if classifier.outputs == 1 else None
    return read_labels(classifier.model.metadata_props, folder, classifier.classes, given, one)


def export_torch(
    module: "torch.nn.Module",
    example: "torch.Tensor",
    bundle: str | os.PathLike[str],
    *,
    layer: str | None = None,
    size: tuple[int, int] | None = None,
    output: str | None = None,
    labels: Labels | None = None,
    preprocessing: str | Mapping[str, Any] | None = None,
    precision: str | None = None,
    calibrate: Photos | None = None,
    gradient: bool = True,
    ending: str | None = None,
    single: bool = False,
    shared_weights: bool = False,
    unrolled: int | None = None,
) -> Manifest:
    """Turn a torch classifier into a bundle: its plain forward pass is exported first, to NAME.torch.onnx beside it.

    Args:
        module: An image classifier.
        example: One input (1, 3, H, W).
        bundle: The folder to make, usually `NAME.fcam`.
        layer: As for `export_model`, like all that follow.
        size: (H, W) of the input; that of the example.
        output: The output that holds the class scores, where there are several.
        labels: The names of the classes, or a text file.
        preprocessing: Fields of `Preprocessing`, or the name of a preset.
        precision: Type the score graph computes in.
        calibrate: Gives the photos to calibrate on.
        gradient: Whether the explain graph gives gradients.
        ending: How logits become probabilities.
        single: Whether the bundle also gets the whole method in one graph.
        shared_weights: Whether that has its weights but once.
        unrolled: Masks per call of the form without a Loop, if it is wanted.

    Raises:
        ModelError: torch is missing or cannot export the module; else as `export_model`.
    """
    forms = Forms(single, shared_weights, unrolled)
    wishes = _Wishes(layer, size, output, labels, preprocessing, precision, calibrate, gradient, ending, forms)
    target = Path(bundle)
    kept = target.parent / f"{target.name.removesuffix('.fcam')}.torch.onnx"
    try:
        with temporary_file(target.parent, ".onnx") as temporary:
            save_onnx(module, example, temporary)
            manifest = _export(temporary, kept, target, wishes)
            temporary.replace(kept)
    except OSError as error:
        raise OutputError(f"cannot write {kept} ({error.strerror or error}); choose another place with -o") from error
    return manifest
