"""The check of a bundle against its source: equal logits, a gradient like central differences, little drift."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnxruntime import InferenceSession

from fusioncam.drift import Drift
from fusioncam.errors import BundleError, FusionCamError, ModelError, UsageError
from fusioncam.export.bundle import read_frozen
from fusioncam.export.checking.gradient import compare_gradient
from fusioncam.export.checking.source import open_exact, read_own, source_outputs
from fusioncam.export.checking.targets import compare_prototypes, compare_targets
from fusioncam.export.class_vectors import WEIGHTS_NAME, class_logits
from fusioncam.export.endings.outputs import as_source, comparable, sides
from fusioncam.export.lowering.quantised import counts_whole
from fusioncam.export.options import Photos
from fusioncam.export.precision.calibration_batches import Photo, checked_photos
from fusioncam.export.precision.drift import LOGIT_TOLERANCE, NO_DRIFT, Finding, measure_drift, output_of, tail_findings
from fusioncam.export.precision.score_graph import rounding_session
from fusioncam.export.random_pictures import pictures
from fusioncam.export.readers import reader_named
from fusioncam.export.reading.file import read_model
from fusioncam.export.reading.nodes import all_nodes
from fusioncam.export.reading.shapes import IS_RANDOM, repeats
from fusioncam.export.sessions import failing_as
from fusioncam.export.single.verify import compare_variants, logits_of_single
from fusioncam.further_inputs import drawn
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import (
    EXPLAIN_GRAPH,
    HEAD_GRAPH,
    SCORE_GRAPH,
    SINGLE_GRAPH,
    Manifest,
    read_bundle,
    sha256,
)

# Of scores in float16 beside a float32 model, as a root mean square: it tells damage. Maps decide what is good enough.
SCORE_TOLERANCE = 0.1
SIGMOID_DIGITS = 1e-7  # onnxruntime's sigmoid is exact to the digits of 1, however small its result is
MOST_PHOTOS = 32  # whose drift is measured: bounds the time
ROUNDING = ("QuantizeLinear", "Round")


def check(
    bundle: Path, source: Path | None = None, photos: Photos | None = None, accept_drift: bool = False
) -> list[Finding]:
    """Compare a bundle with its source, and return the findings.

    Args:
        bundle: The bundle's folder.
        source: The model it was made from; by default the one the manifest names.
        photos: For a bundle whose masked passes are of another precision: gives photos to compare maps on, as for
            `export_model`. Of more than 32, 32 are taken at even distances. By default the drift that the manifest
            holds, measured on photos of the calibration; without one, that on one picture of random patches.
        accept_drift: Whether maps may drift beyond the limits.

    Raises:
        BundleError: The folder is no bundle, a file of it is missing or was changed, or they do not belong together.
        UsageError: The source is not where it was, or there are no maps to compare, or no photos.
    """
    manifest = read_bundle(bundle)
    drifts = manifest.score_precision != manifest.precision
    if photos is not None and not drifts:
        raise UsageError("photos measure the drift of fp16 or int8 scores, and this bundle has neither; leave them out")
    if accept_drift and not drifts:
        raise UsageError(NO_DRIFT)
    source = source or (bundle / manifest.source.path).resolve()
    if not source.is_file():
        raise UsageError(f"the source model is not at {source}; say where it is with --source")
    changed = Finding("source is the one exported (sha256)", float(sha256(source) != manifest.source.sha256), 0.0)
    # A graph that cannot be read or run is the fault of the bundle: no other cause is left here.
    apart = f"the files of {bundle} do not belong together"
    with failing_as(lambda why: BundleError(f"{apart} ({why}); export the model again"), (FusionCamError, MemoryError)):
        findings = [changed, *compare_logits(bundle, manifest, source)]
        if manifest.gradient:
            findings += compare_gradient(bundle, manifest)
            findings += compare_variants(bundle, manifest, pictures(manifest, 1)[0])
        if drifts:
            drift = manifest.drift if photos is None else None
            drift = drift or drift_of(bundle, manifest, photos, MOST_PHOTOS)
            findings += tail_findings(drift, manifest.score_precision, accept_drift)
        return findings


def drift_of(bundle: Path, manifest: Manifest, photos: Photos | None, most: int, seen: bool = False) -> Drift:
    """Measure how far maps drift by the scores of a bundle.

    Args:
        bundle: The folder.
        manifest: The bundle's.
        photos: See `check`; None takes one picture of random patches.
        most: Photos at most, taken at even distances.
        seen: Whether the scores were calibrated on these photos.
    """
    patches = [Photo("random patches", x) for x in pictures(manifest, 1)]
    spread = patches if photos is None else _spread(photos, manifest, most)
    return measure_drift(*_open(bundle, manifest), manifest, spread, seen)


def _spread(photos: Photos, manifest: Manifest, most: int) -> Iterator[Photo]:
    """Yield so many photos at even distances; they are read twice, for there may be many to keep."""
    prep = manifest.preprocessing
    count = sum(1 for _ in checked_photos(photos(prep), prep.shape))
    picked = set(np.linspace(0, count - 1, min(most, count)).round().astype(int).tolist())
    return (photo for n, photo in enumerate(checked_photos(photos(prep), prep.shape)) if n in picked)


def compare_logits(bundle: Path, manifest: Manifest, source: Path) -> list[Finding]:
    """Compare every graph with the source, on a batch of three pictures that the source sees one by one.

    Where tensors are quantised, onnxruntime runs without optimizations and on one thread: both change sums in their
    last digit, and rounding turns that into whole steps. So does a source that counts in whole numbers, beside graphs
    that round real ones. Of maps and embeddings, targets are compared, too.
    """
    images = pictures(manifest, 3)
    optimize = not any(node.op_type in ROUNDING for node in ir.load(bundle / EXPLAIN_GRAPH).graph)
    stepped = not optimize and any(map(counts_whole, all_nodes(read_model(source).graph.node)))
    expected = source_outputs(manifest, source, images, optimize, read_frozen(bundle), read_own(bundle))
    if manifest.form.scored:
        head = open_exact(bundle / HEAD_GRAPH, optimize) if manifest.has_head else None
        explain, score = _open(bundle, manifest, optimize)
        findings = compare_targets(explain, score, head, manifest, images, expected, stepped)
        if manifest.form.prototypes is not None:
            frozen = read_frozen(bundle)
            prototypes = source_outputs(manifest, source, images, optimize, frozen, prototypes=True)
            findings.append(compare_prototypes(explain, manifest, images, prototypes))
        return findings
    if manifest.source.class_vectors:
        expected = _by_class_vectors(bundle, manifest, expected)
    logarithm = manifest.source.logarithm
    if logarithm is None:
        logarithm = (manifest.source.ending or manifest.ending) == "softmax" and bool((expected <= 0).all())
    expected = comparable(expected, manifest.source, logarithm)
    scale = float(np.abs(expected).max()) or 1.0
    closing = manifest.source.ending == "sigmoid" and not logarithm
    rounding = manifest.source.rounding + (SIGMOID_DIGITS * abs(manifest.source.scale) if closing else 0.0)
    findings = []
    explain, score = _open(bundle, manifest, optimize)
    ask = partial(output_of, form=manifest.form, images=images, others=drawn(manifest.inputs, len(images)))
    logits_by_graph = {
        SCORE_GRAPH: (ask(score), manifest.score_precision),
        EXPLAIN_GRAPH: (ask(explain), manifest.precision),
    }
    if manifest.has_head:
        logits_by_graph[HEAD_GRAPH] = (_unmasked(bundle, manifest, images, optimize), manifest.precision)
    if manifest.has_single:
        logits_by_graph[SINGLE_GRAPH] = (logits_of_single(bundle, images, optimize), manifest.precision)
    again = {SCORE_GRAPH: ask(score), EXPLAIN_GRAPH: ask(explain)}
    for name, (logits, precision) in logits_by_graph.items():
        if name in again and not repeats(logits, again[name]):
            findings.append(Finding(f"{name} {IS_RANDOM}", 1.0, 0.0))
        if precision == "int8":
            findings.append(_rounded_logits(logits, logits_by_graph[EXPLAIN_GRAPH][0]))
            continue
        halved = precision != manifest.precision
        with np.errstate(all="ignore"):  # as in `output_of`
            made = [as_source(side, manifest, logarithm) for side in sides(logits, manifest)]
            errors = [np.abs(s - expected) if s.shape == expected.shape else np.array(np.inf) for s in made]
            off = max(float(np.sqrt(np.square(e).mean()) if halved else e.max()) for e in errors)
            error = max(off - rounding, 0.0) / scale
        if halved and not np.isfinite(logits).all():
            error = float("nan")  # a sigmoid makes 1 of infinity, and would hide it
        limit = SCORE_TOLERANCE if halved else LOGIT_TOLERANCE["float16" if stepped else precision]
        findings.append(Finding(f"output of {name} equals the source's", error, limit))
    return findings


def _by_class_vectors(bundle: Path, manifest: Manifest, outputs: Array) -> Array:
    """Return the logits (N, classes) that the class vectors of a bundle make of embeddings of its source."""
    graph = ir.external_data.load_to_model(ir.load(bundle / EXPLAIN_GRAPH)).graph
    if (matrix := graph.initializers.get(WEIGHTS_NAME)) is None or matrix.const_value is None:
        raise BundleError(f"{bundle / EXPLAIN_GRAPH} has no {WEIGHTS_NAME!r}; export the model again")
    return class_logits(reader_named(manifest.reader).compute(outputs), matrix.const_value.numpy())


def _unmasked(bundle: Path, manifest: Manifest, images: Array, optimize: bool) -> Array:
    """Return the logits (N, classes) of the head under masks of ones."""
    head = open_exact(bundle / HEAD_GRAPH, optimize)
    masks = np.ones((2, 1, *manifest.layer.grid), np.float32)
    others, rows = drawn(manifest.inputs, len(images)), []
    for n, x in enumerate(images):
        feeds = {"image": x[None], "masks": masks, **{name: values[n : n + 1] for name, values in others.items()}}
        rows.append(head.run(["logits"], feeds)[0][1:])
    return np.concatenate(rows)


def _rounded_logits(logits: Array, exact: Array) -> Finding:
    """Compare logits in int8 with those of the explain graph: a softmax would blow up the difference, or hide it."""
    error = float(np.sqrt(np.square(logits.astype(np.float64) - exact).mean())) / (float(exact.std()) or 1.0)
    return Finding(f"logits of {SCORE_GRAPH} are near those of {EXPLAIN_GRAPH}", error, LOGIT_TOLERANCE["int8"])


def _open(bundle: Path, manifest: Manifest, optimize: bool = True) -> tuple[InferenceSession, InferenceSession]:
    """Open the explain graph and the score graph; a score graph brought to float16 rounds as on a GPU."""
    halved = manifest.score_precision != manifest.precision and manifest.score_precision == "float16"
    try:
        explain = open_exact(bundle / EXPLAIN_GRAPH, optimize)
        score = rounding_session(bundle / SCORE_GRAPH) if halved else open_exact(bundle / SCORE_GRAPH, optimize)
    except ModelError as error:
        raise BundleError(f"{error}; export the model again") from error
    inputs, targets = ["image", *(i.tensor for i in manifest.inputs)], [t.name for t in manifest.form.targets]
    promised = {EXPLAIN_GRAPH: [*inputs, *targets], SCORE_GRAPH: [*inputs, *targets * manifest.form.scored]}
    for graph, name in ((explain, EXPLAIN_GRAPH), (score, SCORE_GRAPH)):
        if (taken := [i.name for i in graph.get_inputs()]) != promised[name]:
            raise BundleError(f"{bundle / name} takes {taken} in place of {promised[name]}; export the model again")
    return explain, score
