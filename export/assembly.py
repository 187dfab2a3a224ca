"""From a source to its bundle: the graphs are made, written, and compared with the source before they are in place."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir as ir

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.batch.dynamic import NOT_BY_IMAGE
from fusioncam.export.bundle import Lender, explain_graph, whole_folder, write_frozen, write_graphs
from fusioncam.export.canonical import canonicalize
from fusioncam.export.checking.check import compare_logits, drift_of
from fusioncam.export.checking.liveness import live_levels, why_dead
from fusioncam.export.class_vectors import read_class_vectors
from fusioncam.export.free_size import USUAL_SIDE, asked_size, free_size, source_graph
from fusioncam.export.gradient import decides_for_batch
from fusioncam.export.head import head_graph
from fusioncam.export.layers.choice import survey
from fusioncam.export.model import CanonicalModel
from fusioncam.export.options import ExportOptions, Labels
from fusioncam.export.precision.calibration_batches import masked_pictures
from fusioncam.export.precision.drift import EXACT, NO_DRIFT, Finding, tail_findings
from fusioncam.export.precision.score_graph import refusal, score_graph
from fusioncam.export.readers.boxes import is_own, refuse_thresholds, with_thresholds
from fusioncam.export.single import check_variants, write_variants
from fusioncam.export.source_metadata.detectors import preset_of_detector
from fusioncam.export.source_metadata.labels import read_labels
from fusioncam.export.source_metadata.preprocessing import read_preprocessing, refuse_rounded_away
from fusioncam.export.tensorrt import REFUSED, refuse_graphs, suit
from fusioncam.further_inputs import refuse_inputs
from fusioncam.kernels.arrays import Array, Size
from fusioncam.manifest import (
    EXPLAIN_GRAPH,
    FACTS,
    FROZEN_INPUTS,
    HEAD_GRAPH,
    READER_GRAPH,
    SCORE_GRAPH,
    SOURCE_GRAPH,
    WEIGHTS,
    Manifest,
    Preprocessing,
    Source,
    sha256,
    write_manifest,
)

OF_ENDING = ("ending", "reach", "scale", "offset", "rounding", "logarithm")  # fields of both `ModelEnding` and `Source`
DRIFT_PHOTOS = 8  # of the calibration, whose drift is measured
TOOLS = ("onnx", "onnx-ir", "onnxscript", "numpy", "fusioncam")

# Names of the two classes of a model of one output, made of its own name; without one the classes have no names.
ONE_LABEL = {"sigmoid": ("not {}", "{}"), "value": ("lower {}", "higher {}")}


@dataclass(frozen=True)
class Draft:
    """A bundle that is not written yet: a manifest without digests, graphs by file name, and the canonical model.

    `frozen` holds the values of the source's inputs that are constants of the graphs.
    """

    manifest: Manifest
    graphs: dict[str, ir.Model]
    model: ir.Model
    was_dynamic: bool  # the source quantises a whole batch at once
    frozen: Mapping[str, Array]


def assemble(source: Path, kept: Path, target: Path, options: ExportOptions) -> Manifest:
    """Make the bundle of a source, and return its manifest.

    Args:
        source: The ONNX file.
        kept: The place where the source will be found later.
        target: The folder of the bundle.
        options: All options, with their defaults.

    Raises:
        FusionCamError: As `export_model`.
    """
    check_variants(options)
    draft = make_draft(source, options)
    with whole_folder(target, source) as folder:
        path_of_source = os.path.relpath(kept.resolve(), target.resolve()).replace(os.sep, "/")
        manifest = write_draft(folder, draft, path_of_source, options)
        hold(draft, compare_logits(folder, manifest, source))
        if manifest.score_precision != manifest.precision:
            manifest = _with_drift(folder, draft, manifest, options)
        if SOURCE_GRAPH in draft.graphs:
            manifest = manifest.model_copy(update={"free_size": free_size(folder, manifest, options)})
            write_manifest(folder, manifest)
    return manifest


def hold(draft: Draft, findings: Sequence[Finding]) -> None:
    """Raise ModelError for the first comparison that failed."""
    for finding in findings:
        if not finding.ok:
            raise _refusal(draft, finding)


def _with_drift(folder: Path, draft: Draft, manifest: Manifest, options: ExportOptions) -> Manifest:
    """Measure how far maps drift by the scores of a new bundle, refuse too much, and return the manifest that says it.

    float16 comes without photos: a picture of random patches stands for them, and the manifest says nothing.
    """
    photos, accepts = options["calibrate"], options["accept_drift"]
    drift = drift_of(folder, manifest, photos, DRIFT_PHOTOS, seen=photos is not None)
    findings = tail_findings(drift, manifest.score_precision, accepts)
    hold(draft, findings)
    over = not all(finding.within for finding in findings)
    if photos is None and not over:
        return manifest
    manifest = manifest.model_copy(update={"drift": drift.model_copy(update={"accepted": over})})
    write_manifest(folder, manifest)
    return manifest


def make_draft(source: Path, options: ExportOptions) -> Draft:
    """Make the graphs and the manifest of a source; where any size is wanted, the source is one of the graphs."""
    refuse_thresholds(options)
    gradient, folder = options["gradient"], source.parent
    size, free = asked_size(options["size"])
    canonical = _canonical(source, options, size, free)
    model, scoring = canonical.model, canonical.scoring
    one_by_one = decides_for_batch(canonical.image, canonical.output)
    _refuse_unfit(canonical, one_by_one, options, free)
    surveyed = survey(canonical, gradient)
    levels = live_levels(canonical, surveyed, gradient) if options["layer"] is None else []
    layer, *further = levels or [surveyed.choose_live(lambda c: why_dead(canonical, c, gradient), options["layer"])]
    labels = _labels(canonical, folder, options["labels"])
    prep = _preprocessing(canonical, folder, options["preprocessing"])
    of_levels = [(level.name, level.layout) for level in further]
    explain = explain_graph(canonical.whole, layer.name, layer.layout, gradient, scoring, of_levels)
    calibrate = options["calibrate"]
    batches = None if calibrate is None else lambda: masked_pictures(explain, scoring.form, calibrate(prep))
    score, score_precision = score_graph(canonical, options["precision"], batches, prep.extremes, options["symmetric"])
    if options["accept_drift"] and score_precision == canonical.precision:
        raise UsageError(NO_DRIFT)
    graphs = {EXPLAIN_GRAPH: explain, SCORE_GRAPH: score}
    # With several levels no one layer holds all places that Recipro-CAM would show.
    masks = not (one_by_one or levels)
    head = head_graph(model, layer.name, layer.layout, canonical.precision, scoring) if masks else None
    if head is not None:
        graphs[HEAD_GRAPH] = head
    if options["single_for"] == "tensorrt":
        refuse_graphs(graphs)
    if (boxes := canonical.reading.boxes) is not None and boxes.own is not None:
        graphs[READER_GRAPH] = boxes.own[1].model
    if free:
        graphs[SOURCE_GRAPH] = source_graph(source, score_precision)
    described = tuple(surveyed.describe(each, by_default=options["layer"] is None) for each in (layer, *further))
    if levels:  # which together see everything
        described = tuple(each.model_copy(update={"branches": (), "early": False}) for each in described)
    manifest = Manifest(
        source=_source(canonical, sha256(source)),
        layer=described[0],
        task=canonical.task,
        reader=canonical.reading.reader_name,
        classes=canonical.classes,
        map_size=canonical.map_size,
        detector=with_thresholds(canonical.detector, options),
        levels=described[1:],
        ending=canonical.ending,
        gradient=gradient,
        precision=canonical.precision,
        score_precision=score_precision,
        one_by_one=one_by_one is not None,
        opset=model.opset_imports[""],
        preprocessing=prep,
        labels=labels,
        tools={tool: version(tool) for tool in TOOLS},
        inputs=canonical.further,
        files=dict.fromkeys((*graphs, WEIGHTS, *[FROZEN_INPUTS] * bool(canonical.frozen)), ""),
    )
    return Draft(manifest, graphs, model, canonical.dynamic, canonical.frozen)


def _refuse_unfit(canonical: CanonicalModel, one_by_one: str | None, options: ExportOptions, free: bool) -> None:
    """Refuse options that are not for every model."""
    if one_by_one and (options["single"] or options["unrolled"]):
        raise UsageError(f"node {one_by_one!r} decides once for a whole batch; leave out --single and --unrolled")
    if canonical.reading.boxes is not None and canonical.reading.boxes.in_stages:
        for option, given in {"--precision": options["precision"], "--size any": free}.items():
            if given:
                raise UsageError(f"{option} is not for detectors that propose boxes for a second stage; leave it out")
    asked = {"--single": options["single"], "--unrolled": options["unrolled"], "--size any": free}
    for option in (option for option, given in asked.items() if given):
        refuse_inputs(canonical.further, option)


def _canonical(source: Path, options: ExportOptions, size: Size | None, free: bool) -> CanonicalModel:
    """Return the model in canonical form, of a usual size where any is wanted."""
    given = options["class_vectors"]
    if free and given is not None:
        raise UsageError("a model with class vectors has a bundle of one size; say which with --size H W")
    if free and is_own(options["reader"]):
        raise UsageError("a reader of one's own reads outputs of one size; say which with --size H W")
    canonical = canonicalize(
        source,
        size,
        output=options["output"],
        ending=options["ending"],
        task=options["task"],
        reader=options["reader"],
        side=USUAL_SIDE if free else None,
        layout=options["layout"],
        image=options["image"],
        inputs=options["inputs"],
        vectors=None if given is None else read_class_vectors(given, options["class_scale"]),
        refused=REFUSED if options["single_for"] == "tensorrt" else None,
    )
    if options["single_for"] == "tensorrt":
        for graph in {id(m): m for m in (canonical.model, canonical.whole)}.values():
            suit(graph)
    return canonical


def _labels(canonical: CanonicalModel, folder: Path, asked: Labels | None) -> tuple[str, ...] | None:
    """Return the names of the classes; an embedding has none."""
    if canonical.task == "embed":
        if asked is not None:
            raise UsageError("an embedding has no classes to name; leave --labels out")
        return None
    one = ONE_LABEL.get(canonical.ending) if canonical.outputs == 1 and canonical.classes == 2 else None
    return read_labels(canonical.model.metadata_props, folder, canonical.classes, asked, one)


def _preprocessing(canonical: CanonicalModel, folder: Path, asked: str | Mapping[str, Any] | None) -> Preprocessing:
    """Return the preprocessing: the user's, that of the source, or a guess by the type of input and the reader."""
    metadata, size, taken = canonical.model.metadata_props, canonical.size, canonical.taken
    anchors = None if canonical.detector is None else canonical.detector.anchors
    usual = preset_of_detector(canonical.reading.reader_name, anchors, size, canonical.image)
    prep = read_preprocessing(metadata, folder, size, asked or {}, taken.type, taken.channels, usual)
    refuse_rounded_away(prep, taken.type)
    return prep


def _source(canonical: CanonicalModel, digest: str) -> Source:
    """Describe the source, but for its path, as the manifest does."""
    return Source(
        path="",
        sha256=digest,
        input=canonical.taken.name,
        output=canonical.reading.name,
        channels_last=canonical.taken.channels_last,
        channel_axis=canonical.taken.channel_axis,
        type=str(canonical.taken.type.numpy()),
        outputs=canonical.outputs,
        argmax=canonical.reading.argmax,
        class_vectors=canonical.class_vectors,
        tensors=canonical.reading.tensors,
        bypassed=() if (boxes := canonical.reading.boxes) is None else boxes.bypassed,
        prototypes=None if boxes is None or boxes.prototypes is None else boxes.prototypes[0],
        **{name: getattr(canonical.source, name) for name in OF_ENDING},
    )


def write_draft(
    folder: Path, draft: Draft, path_of_source: str, options: ExportOptions, lender: Lender | None = None
) -> Manifest:
    """Write the graphs and the manifest, and return the manifest, which has the digests of all files now.

    Args:
        folder: The folder.
        draft: The bundle.
        path_of_source: The place of the source, relative to the bundle.
        options: All options.
        lender: A bundle whose weights this one shares.
    """
    source = draft.manifest.source.model_copy(update={"path": path_of_source})
    manifest = draft.manifest.model_copy(update={"source": source})
    draft.graphs[EXPLAIN_GRAPH].metadata_props[FACTS] = manifest.facts
    write_graphs(folder, draft.graphs, lender)
    if draft.frozen:
        write_frozen(folder, draft.frozen)
    written = (*manifest.files, *write_variants(folder, manifest, options))
    manifest = manifest.model_copy(update={"files": {name: sha256(folder / name) for name in written}})
    write_manifest(folder, manifest)
    return manifest


def _refusal(draft: Draft, finding: Finding) -> ModelError:
    """Return the error for a comparison that failed, by what was changed on the way from the source."""
    of_scores = SCORE_GRAPH in finding.what or EXACT in finding.what
    if of_scores and draft.manifest.score_precision != draft.manifest.precision:
        return refusal(draft.model, draft.manifest.score_precision, finding)
    if draft.was_dynamic:
        return ModelError(NOT_BY_IMAGE)
    return ModelError(f"the exported graph is wrong: {finding.what}: off by {finding.error:.1e}")
