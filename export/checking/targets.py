"""Maps and embeddings of a bundle, and the scores of targets, compared with the outputs of its source."""

import numpy as np
from onnxruntime import InferenceSession

from fusioncam.export.checking.boxes import off_boxes, random_boxes, score_boxes
from fusioncam.export.endings.outputs import as_source, sides
from fusioncam.export.precision.drift import LOGIT_TOLERANCE, Finding, output_of
from fusioncam.export.readers import reader_named
from fusioncam.export.reading.shapes import IS_RANDOM, repeats
from fusioncam.forms import CONFIDENCES, PROTOTYPES, SCORES, Form
from fusioncam.further_inputs import drawn
from fusioncam.kernels.arrays import Array, Float64Array
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH, Manifest

SCORE_TOLERANCE = 0.1  # of scores in float16 beside a float32 model, as for logits
Targets = dict[str, Array]


def compare_targets(
    explain: InferenceSession,
    score: InferenceSession,
    head: InferenceSession | None,
    manifest: Manifest,
    images: Array,
    source: Array,
    stepped: bool = False,
) -> list[Finding]:
    """Compare the normal form with the source, and scores and confidences of random targets with those by NumPy.

    Args:
        explain: Session of the explain graph.
        score: Session of the score graph.
        head: Session of the head graph, where there is one.
        manifest: The bundle's.
        images: Pictures (N, 3, H, W).
        source: Outputs of the source for them.
        stepped: Whether the source rounds otherwise than the bundle, now and then to the next number.
    """
    form, others = manifest.form, drawn(manifest.inputs, len(images))
    output = output_of(explain, form, images, others)
    targets = random_targets(form, output)
    findings = [
        Finding(f"output of {EXPLAIN_GRAPH} equals the source's", *_off_source(output, manifest, source, stepped))
    ]
    scores, confidences = compute_scores(manifest, output, targets)
    scale = 1.0 if form.kind == "embedding" else float(np.abs(output).max()) or 1.0
    exact, as_values = LOGIT_TOLERANCE[manifest.precision], manifest.ending == "value" and form.detector is None

    def compare(name: str, found: list[Array], precision: str, row: slice | None = None) -> None:
        pairs = ((found[0], scores, scale), (found[1], confidences, scale if as_values else 1.0))
        if form.detector is not None and found[0].ndim > 1:  # both are the similarity there
            pairs = ((found[0], confidences, 1.0), (found[1], confidences, 1.0))
        for what, (mine, wanted, size) in zip((SCORES, CONFIDENCES), pairs, strict=True):
            expected = np.diag(wanted) if mine.ndim == 1 else wanted if row is None else wanted[row]
            text = f"{what} of targets by {name} are those of the source's output"
            if precision == manifest.precision:
                findings.append(Finding(text, float(np.abs(mine - expected).max()) / size, exact))
                continue
            rough = float(np.sqrt(np.square(mine - expected).mean()))
            if precision == "int8":
                size = float(np.std(expected)) or 1.0
            findings.append(
                Finding(text, rough / size, LOGIT_TOLERANCE["int8"] if precision == "int8" else SCORE_TOLERANCE)
            )

    names = [SCORES, CONFIDENCES]
    compare(EXPLAIN_GRAPH, explain.run(names, {"image": images, **others, **targets}), manifest.precision)
    half = images.astype(np.float16) if score.get_inputs()[0].type == "tensor(float16)" else images
    feeds = {"image": half, **others, **targets}
    compare(SCORE_GRAPH, found := score.run(names, feeds), manifest.score_precision)
    if not repeats(found[0], score.run(names, feeds)[0]):
        findings.append(Finding(f"{SCORE_GRAPH} {IS_RANDOM}", 1.0, 0.0))
    if head is not None:
        masks = np.ones((2, 1, *manifest.layer.grid), np.float32)
        first = {name: rows[:1] for name, rows in others.items()}
        unmasked = head.run(names, {"image": images[:1], "masks": masks, **first, **targets})
        compare(HEAD_GRAPH, [each[:1] for each in unmasked], manifest.precision, slice(1))
    return findings


def compare_prototypes(explain: InferenceSession, manifest: Manifest, images: Array, source: Array) -> Finding:
    """Compare the prototypes of instance masks with the source's (N, P, h, w), relative to their largest number."""
    feeds = {"image": images, **drawn(manifest.inputs, len(images)), **manifest.form.placeholders(len(images))}
    (found,) = explain.run([PROTOTYPES], feeds)
    off = np.abs(found - source).max() if found.shape == source.shape else np.inf
    text = f"{PROTOTYPES} of {EXPLAIN_GRAPH} equal the source's"
    return Finding(text, float(off) / (float(np.abs(source).max()) or 1.0), LOGIT_TOLERANCE[manifest.precision])


def random_targets(form: Form, output: Array) -> Targets:
    """Return targets at random, one for each picture of a normal form (N, ...); the last is a maximum, of maps."""
    count = len(output)
    rng, targets = np.random.default_rng(0), form.placeholders(count)
    if form.kind == "embedding":
        return {"reference": rng.normal(size=(count, *form.output.shape)).astype(np.float32)}
    if form.detector is not None:
        return random_boxes(form, output)
    classes, *size = form.output.shape
    targets["class_index"] = rng.integers(classes, size=count)
    targets["region"] = (rng.random((count, *size)) * (rng.random((count, *size)) < 0.5)).astype(np.float32)
    targets["region"][:, 0] += 0.5  # none is empty
    targets["peak"][-1] = True
    return targets


def compute_scores(manifest: Manifest, output: Array, targets: Targets) -> tuple[Float64Array, Float64Array]:
    """Return scores and confidences (N, T) of T targets on the normal form of N pictures, in float64."""
    exact = output.astype(np.float64)
    if manifest.detector is not None:
        return score_boxes(manifest, output, targets)
    if manifest.form.kind == "embedding":
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (exact, targets["reference"].astype(np.float64))]
        return unit[0] @ unit[1].T, unit[0] @ unit[1].T
    values = [exact, _probabilities(exact, manifest.ending)]
    scores, confidences = (
        np.stack([_of_target(v, targets, t) for t in range(len(targets["peak"]))], 1) for v in values
    )
    return scores, confidences


def _probabilities(logits: Array, ending: str) -> Array:
    if ending == "value":
        return logits
    if ending == "sigmoid":
        return np.asarray(np.exp(-np.logaddexp(0, -logits)))
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _of_target(values: Array, targets: Targets, t: int) -> Array:
    """Return the number of one target for each picture."""
    maps, region = values[:, targets["class_index"][t]], targets["region"][t].astype(np.float64)
    if targets["peak"][t]:
        return np.asarray(maps[:, region > 0].max(axis=1))
    return np.asarray((maps * region).reshape(len(maps), -1).sum(axis=1) / region.sum())


def _off_source(output: Array, manifest: Manifest, source: Array, stepped: bool) -> tuple[float, float]:
    """Return how far the normal form is from the source's output, relative to its largest number, and the limit."""
    limit = LOGIT_TOLERANCE["float16" if stepped else manifest.precision]
    if manifest.detector is not None:
        return off_boxes(output, manifest, source), limit
    if manifest.source.argmax:
        # The best class there is the best one here, unless others are as good but for rounding.
        ranked = np.sort(output, axis=1)
        other = (output.argmax(axis=1).ravel() != source.ravel()) * (ranked[:, -1] - ranked[:, -2]).ravel()
        return float(other.max()) / (float(np.abs(output).max()) or 1.0), limit
    read = reader_named(manifest.reader).compute(source)
    made = [as_source(side, manifest, bool(manifest.source.logarithm)) for side in sides(output, manifest)]
    errors = [float(np.abs(m - read).max()) if m.shape == read.shape else float("inf") for m in made]
    return max(errors) / (float(np.abs(read).max()) or 1.0), limit
