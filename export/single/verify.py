"""Comparing the variants of a bundle with its own explain and score graphs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession, RunOptions

from fusioncam.export.precision.drift import Finding, Question, usual_question
from fusioncam.export.precision.evidence import evidence_names, evidence_of
from fusioncam.export.sessions import open_session
from fusioncam.forms import ACTIVATIONS
from fusioncam.kernels import reference, rescoring
from fusioncam.kernels.arrays import Array
from fusioncam.kernels.masks import MaskMaker
from fusioncam.manifest import CHUNK_GRAPH, EXPLAIN_GRAPH, FUSE_GRAPH, SCORE_GRAPH, SINGLE_GRAPH, Manifest

MAPS = ("fusion_cam", "grad_cam", "score_cam")
# Masks may differ in their last digit, and float16 and int8 then round some pixels to the next step.
LIMITS = {"float32": 1e-4, "float16": 1e-2, "int8": 5e-2}


def compare_variants(bundle: Path, manifest: Manifest, image: Array) -> list[Finding]:
    """Return how far the maps of all variants in a bundle are from those of the method in NumPy.

    Args:
        bundle: The folder.
        manifest: The manifest of the bundle.
        image: A picture (C, H, W) float32, preprocessed, which is explained for one target, see `usual_target`.

    Raises:
        BundleError: A graph cannot be loaded.
    """
    variants = {SINGLE_GRAPH: _by_single, f"{CHUNK_GRAPH} and {FUSE_GRAPH}": _by_chunks}
    variants = {name: run for name, run in variants.items() if set(name.split(" and ")) <= manifest.files.keys()}
    if not variants:
        return []
    explain, score = (open_session(bundle / name) for name in (EXPLAIN_GRAPH, SCORE_GRAPH))
    question = usual_question(explain, manifest, image)
    feeds = {"image": image[None], **question.targets}
    names = (manifest.form.output.name, *evidence_names(manifest))
    seen = dict(zip(names, explain.run(names, feeds), strict=True))
    exact = explain if manifest.score_precision == "int8" else score
    reference_maps = _by_numpy(score, exact, question, image, seen)
    limit = LIMITS[manifest.score_precision]
    findings = []
    for name, run in variants.items():
        maps = run(bundle, feeds, seen)
        errors = [np.abs(maps[m][0] - reference_maps[m]).max() for m in MAPS]
        findings.append(Finding(f"maps of {name} are those of the method", float(np.max(errors)), limit))
    return findings


def logits_of_single(bundle: Path, images: Array, optimize: bool) -> Array:
    """Return the logits (N, classes) of pictures by the single graph, without its masked passes."""
    session, options = open_session(bundle / SINGLE_GRAPH, optimize, threads=0 if optimize else 1), RunOptions()
    options.only_execute_path_to_fetches = True
    top = np.full(1, -1, np.int64)
    rows = [session.run(["logits"], {"image": x[None], "class_index": top}, options)[0] for x in images]
    return np.concatenate(rows)


def _by_single(bundle: Path, feeds: dict[str, Array], seen: dict[str, Array]) -> dict[str, Array]:
    session = open_session(bundle / SINGLE_GRAPH)
    session.patience = max(of.shape[1] for name, of in seen.items() if name.startswith(ACTIVATIONS))
    return dict(zip(MAPS, session.run(MAPS, feeds), strict=True))


def _by_chunks(bundle: Path, feeds: dict[str, Array], seen: dict[str, Array]) -> dict[str, Array]:
    chunk, fuse = (open_session(bundle / name) for name in (CHUNK_GRAPH, FUSE_GRAPH))
    (masks,) = next(i.shape for i in chunk.get_inputs() if i.name == "channels")
    (channels,) = next(i.shape for i in fuse.get_inputs() if i.name == "scores")
    scores = np.empty(channels, np.float32)
    for start in range(0, channels, masks):
        block = np.minimum(np.arange(start, start + masks), channels - 1)
        scores[block] = _run(chunk, ["scores"], {**feeds, **seen, "channels": block})[0]
    return dict(zip(MAPS, _run(fuse, MAPS, {**feeds, **seen, "scores": scores}), strict=True))


def _run(graph: InferenceSession, outputs: Sequence[str], values: Mapping[str, Array]) -> list[Array]:
    """Run a graph with those of the values that it takes."""
    return list(graph.run(outputs, {i.name: values[i.name] for i in graph.get_inputs()}))


def _by_numpy(
    score: InferenceSession, exact: InferenceSession, question: Question, image: Array, seen: dict[str, Array]
) -> dict[str, Array]:
    """Return the maps by `kernels/reference.py`; `exact` passes the full-size maps, `score` those of channels."""
    activations, gradients, summed = evidence_of(question.manifest, seen)
    assert gradients is not None, "Fusion-CAM has a gradient"
    masks, int8 = MaskMaker(activations, image), question.manifest.score_precision == "int8"

    def confidence(m: Array) -> float:
        return float(question.ask(exact, (image * m)[None].astype(np.float32))[1][0])

    scores = np.full(len(activations), question.ask(exact, 0 * image[None])[0][0], np.float64)
    live = np.flatnonzero(~masks.zero & ~masks.constant)
    coarse = question.masked_scores(score, masks, live, image)
    again = rescoring.heaviest(coarse) if int8 else live[:0]
    scores[live] = rescoring.corrected(coarse, again, question.masked_scores(exact, masks, live[again], image))
    return reference.fusion_cam(summed, gradients.astype(np.float64), scores, confidence, image.shape[1:])
