"""The drift of maps where the masked passes are computed in another type than the explain pass."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from onnxruntime import InferenceSession, RunOptions

from fusioncam.drift import NEAR, Drift, MethodDrift
from fusioncam.export.precision.calibration_batches import Photo
from fusioncam.export.precision.evidence import evidence_names, evidence_of
from fusioncam.export.targets.probes import usual_target
from fusioncam.forms import CONFIDENCES, SCORES, Form
from fusioncam.further_inputs import drawn
from fusioncam.kernels import reference, rescoring
from fusioncam.kernels.arrays import Array, IndexArray
from fusioncam.kernels.masks import MaskMaker
from fusioncam.manifest import Manifest

CHUNK = 8
# Channels that are passed through both graphs: those with most weight by the graph that is fast here, whose scores of
# the others are corrected. On five networks r is within .0003 of that by all channels.
CHANNELS = 128
# Relative to the largest value compared; float16 carries three digits. That of int8 is of the root mean square
# relative to the deviation: twice the worst seen with real models, whose photos patchwork exceeds.
LOGIT_TOLERANCE = {"float32": 1e-4, "float16": 2e-2, "int8": 0.8}
NO_DRIFT = "maps drift by scores in fp16 or int8, and those of this bundle are not rounded; leave --accept-drift out"
EXACT = "scores is that by exact ones"  # in what a `Finding` of maps compares
TITLES = {"score_cam": "Score-CAM", "fusion_cam": "Fusion-CAM"}


class Tail(NamedTuple):
    """Limits of the correlation r with maps by float32 scores.

    Attributes:
        worst: The least r that a photo may have.
        below: The largest share of photos that may be below `NEAR`.
        median: The least median of r.
    """

    worst: float
    below: float
    median: float


# The worst r of eleven photos on five real networks is .9975 in int8, and .9998 in float16. At .95 a peak of the map
# lies elsewhere. One photo of a few may be below `NEAR`, most may not.
TAILS = {"float16": Tail(0.99, 0.0, 0.9995), "int8": Tail(0.95, 0.25, 0.985)}


@dataclass(frozen=True)
class Finding:
    """A comparison: `error` must not exceed `limit`, or with `at_least` not be below it.

    Attributes:
        what: What is compared.
        error: The figure.
        limit: The limit.
        at_least: Whether the figure is an agreement, which must be large.
        accepted: Whether the figure may be beyond the limit.
        group: Where several findings are about one thing, that thing: they may be shown together.
        part: In a group, the figure's name there.
    """

    what: str
    error: float
    limit: float
    at_least: bool = False
    accepted: bool = False
    group: str = ""
    part: str = ""

    @property
    def within(self) -> bool:
        """Return whether the figure is within the limit."""
        return self.error >= self.limit if self.at_least else self.error <= self.limit  # NaN is neither

    @property
    def ok(self) -> bool:
        """Return whether the bundle passes."""
        return self.within or self.accepted


def output_of(graph: InferenceSession, form: Form, images: Array, others: Mapping[str, Array] | None = None) -> Array:
    """Return the normal form (N, ...) of pictures (N, C, H, W), by a graph that gives it.

    Args:
        graph: The session.
        form: The tensors of targets.
        images: The pictures.
        others: Further inputs by tensor: a row for each picture, or one for all.
    """
    names = {i.name for i in graph.get_inputs()}
    feeds = {"image": _pixels(graph, images), **repeated(others or {}, len(images))}
    feeds |= {name: rows for name, rows in form.placeholders(len(images)).items() if name in names}
    options = RunOptions()
    options.only_execute_path_to_fetches = True  # without the gradient
    return np.asarray(graph.run([form.output.name], feeds, options)[0])


def repeated(rows: Mapping[str, Array], count: int) -> dict[str, Array]:
    """Return inputs for so many pictures, those of one row repeated."""
    return {name: np.repeat(array, count, axis=0) if len(array) == 1 else array for name, array in rows.items()}


def _pixels(graph: InferenceSession, images: Array) -> Array:
    half = graph.get_inputs()[0].type == "tensor(float16)"
    with np.errstate(over="ignore"):  # infinity makes NaN, which does not pass
        return images.astype(np.float16 if half else np.float32)


@dataclass(frozen=True)
class Question:
    """One target, put to either graph of a bundle.

    Attributes:
        manifest: The bundle's.
        targets: The tensors of the target, of one row.
    """

    manifest: Manifest
    targets: Mapping[str, Array]

    @property
    def others(self) -> dict[str, Array]:
        """Return the further inputs, of one row."""
        return drawn(self.manifest.inputs, 1)

    def ask(self, graph: InferenceSession, images: Array) -> tuple[Array, Array]:
        """Return the score and the confidence of the target, both (N,), for pictures (N, C, H, W)."""
        if not self.manifest.form.scored:
            logits, (c,) = output_of(graph, self.manifest.form, images, self.others), self.targets["class_index"]
            return logits[:, c], reference.probabilities(logits, self.manifest.ending)[:, c]
        names = {i.name for i in graph.get_inputs()}
        crosswise = graph.get_outputs()[0].name == SCORES
        rows = 1 if crosswise else len(images)
        told = {n: np.repeat(v, rows, axis=0) for n, v in self.targets.items() if n in names}
        options = RunOptions()
        options.only_execute_path_to_fetches = True
        feeds = {"image": _pixels(graph, images), **told, **repeated(self.others, len(images))}
        found = graph.run([SCORES, CONFIDENCES], feeds, options)
        return found[0].reshape(-1), found[1].reshape(-1)

    def masked_scores(self, graph: InferenceSession, masks: MaskMaker, channels: IndexArray, image: Array) -> Array:
        """Return the scores (n,) float64 of x * M_k for n channels k, for x (C, H, W)."""
        scores = np.empty(len(channels))
        for start in range(0, len(channels), CHUNK):
            block = slice(start, start + CHUNK)
            pictures = np.empty((len(channels[block]), *image.shape), np.float32)
            masks.fill(channels[block], pictures)
            scores[block] = self.ask(graph, pictures)[0]
        return scores


def usual_question(explain: InferenceSession, manifest: Manifest, image: Array) -> Question:
    """Return the target that maps of a picture (C, H, W) are compared for, see `usual_target`."""
    form, others = manifest.form, drawn(manifest.inputs, 1)
    output = output_of(explain, form, image[None], others)[0]
    mirrored = output_of(explain, form, image[None, ..., ::-1], others)[0] if form.kind == "embedding" else output
    return Question(manifest, usual_target(form, output, mirrored, manifest.ending))


def measure_drift(
    explain: InferenceSession, score: InferenceSession, manifest: Manifest, photos: Iterable[Photo], seen: bool = False
) -> Drift:
    """Compare maps by the scores of the score graph with maps by those of the explain graph.

    On each photo, for one target (see `usual_target`), made as the runtime makes them: with int8 scores, the heaviest
    channels are passed again, and whole maps pass through the explain graph.

    Args:
        explain: Session of the explain graph.
        score: Session of the score graph.
        manifest: The bundle's.
        photos: One or more.
        seen: Whether the score graph was calibrated on them.
    """
    names, rows = [], []
    for photo in photos:
        names.append(photo.name)
        rows.append(_correlations(explain, score, manifest, photo.x))
    methods = {}
    for method in rows[0]:
        r = np.array([row[method] for row in rows])
        worst = int(np.argmin(r))
        methods[method] = MethodDrift(
            worst=float(r[worst]), photo=names[worst], below=float(np.mean(r < NEAR)), median=float(np.median(r))
        )
    return Drift(photos=len(names), seen=seen, methods=methods)


def tail_findings(drift: Drift, precision: str, accepted: bool) -> list[Finding]:
    """Hold a drift against the limits of the precision of its scores; a single picture must keep that of the median."""
    findings, limits = [], TAILS[precision]
    photos = f"{drift.photos} photos{' of the calibration' if drift.seen else ''}"
    for method, found in drift.methods.items():
        what = f"{TITLES[method]} by {precision} {EXACT}"
        if drift.photos == 1:
            findings.append(Finding(f"{what}: r on {found.photo}", found.worst, limits.median, True, accepted))
            continue
        group = f"{TITLES[method]} by {precision} scores, r with that by exact ones on {photos}"
        findings += [
            Finding(
                f"{what}: r of the worst of {photos}, {found.photo}",
                found.worst, limits.worst, True, accepted, group, f"worst ({found.photo})",
            ),
            Finding(
                f"{what}: share of {photos} with r below {NEAR}",
                found.below, limits.below, False, accepted, group, f"share below {NEAR}",
            ),
            Finding(f"{what}: median r of {photos}", found.median, limits.median, True, accepted, group, "median"),
        ]  # fmt: skip
    return findings


def _correlations(
    explain: InferenceSession, score: InferenceSession, manifest: Manifest, image: Array
) -> dict[str, float]:
    """Return r by method on one picture."""
    question = usual_question(explain, manifest, image)
    names = evidence_names(manifest)
    outputs = explain.run(names, {"image": image[None], **question.others, **question.targets})
    activations, gradients, summed = evidence_of(manifest, dict(zip(names, outputs, strict=True)))
    masks = MaskMaker(activations, image)
    live = np.flatnonzero(~masks.zero & ~masks.constant)
    int8 = manifest.score_precision == "int8"
    fast, slow = (score, explain) if int8 else (explain, score)  # float16 is rounded by operators of its own here

    def maps(scores: Array, graph: InferenceSession) -> Mapping[str, Array]:
        every = np.full(len(activations), question.ask(graph, 0 * image[None])[0][0], np.float64)
        every[live] = scores

        def confidence(m: Array) -> float:
            return float(question.ask(graph, (image * m)[None])[1][0])

        size = image.shape[1:]
        if gradients is not None:
            return reference.fusion_cam(summed, gradients.astype(np.float64), every, confidence, size)
        return {"score_cam": reference.score_cam(summed[~masks.zero], every[~masks.zero], size)}

    with np.errstate(all="ignore"):  # as in `_pixels`
        every = question.masked_scores(fast, masks, live, image)
        heavy = np.argsort(-every, kind="stable")[:CHANNELS]
        some = question.masked_scores(slow, masks, live[heavy], image)
        rounded = exact = rescoring.corrected(every, heavy, some)
        if int8:
            again = rescoring.heaviest(every)
            rounded = rescoring.corrected(every, again, some[: len(again)])
        else:
            exact = every
        one, two = maps(exact, explain), maps(rounded, explain if int8 else score)
    return {method: correlation(one[method], two[method]) for method in TITLES if method in one}


def correlation(one: Array, two: Array) -> float:
    """Return Pearson's correlation of two maps; 1 for equal ones, 0 where only one is flat, or holds NaN."""
    if np.array_equal(one, two):
        return 1.0
    with np.errstate(all="ignore"):
        r = float(np.corrcoef(one.ravel(), two.ravel())[0, 1])
    return r if np.isfinite(r) else 0.0
