"""Readouts: how the scores and the confidences of T targets are read out of what a session gives for pictures."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np

from fusioncam.forms import CONFIDENCES, SCORES, SIDES
from fusioncam.kernels.arrays import Array, Float32Array, Float64Array
from fusioncam.kernels.boxes import overlaps
from fusioncam.kernels.reference import log_sum_exp, probabilities
from fusioncam.manifest import Manifest
from fusioncam.runtime.targets.resolved import ResolvedTarget

LEAST = 1e-12  # product of two lengths that a cosine is divided by


class Readout(ABC):
    """The scores and confidences of T targets of one picture, for it and for masked pictures.

    What a session gives for a picture is kept as its answer: one row of numbers.

    Args:
        targets: The targets.
        ending: How logits become confidences, see the manifest.
        labels: The names of the classes, if there are any.
        numbers: How many numbers of classes an anchor of a detector has.

    Attributes:
        targets: See above; with scores and confidences once `settled`.
        outputs: The outputs of a session that answers are made of.
        local: Whether a target is at one place of the picture, so that places are weighted, too (`seen_at`).
    """

    outputs: tuple[str, ...]
    local = False

    def __init__(
        self, targets: Sequence[ResolvedTarget], ending: str, labels: Sequence[str] | None = None, numbers: int = 0
    ) -> None:
        self.targets, self._ending, self._labels, self._numbers = list(targets), ending, labels, numbers
        self._signs = np.array([t.sign for t in targets], np.float64)

    @property
    def rows(self) -> list[ResolvedTarget]:
        """Return the targets as graphs take them: a row each, or several where a target is a sum."""
        return [row for target in self.targets for row in target.rows]

    @property
    def tensors(self) -> Mapping[str, Array]:
        """Return what a session that scores pictures takes beside them, (`rows`, ...) each."""
        return {}

    @abstractmethod
    def answers(self, outputs: Sequence[Array]) -> Float32Array:
        """Return the answers (n, width) of what a session gave for n pictures, see `outputs`."""

    @abstractmethod
    def of_form(self, form: Float32Array) -> Float32Array:
        """Return the answers (n, width) to n pictures by the normal form of their outputs."""

    @abstractmethod
    def settled(self, answers: Sequence[Float32Array]) -> "Readout":
        """Return the readout whose targets have their scores and confidences, of one answer (1, ...) per row.

        Those are of the explain graph, which takes one target for each row.
        """

    def of(self, numbers: Sequence[int]) -> Self:
        """Return the readout of some of the targets."""
        return type(self)([self.targets[n] for n in numbers], self._ending, self._labels, self._numbers)

    @abstractmethod
    def scores(self, answers: Array) -> Float64Array:
        """Return the scores s (n, T)."""

    @abstractmethod
    def confidences(self, answers: Array) -> Float64Array:
        """Return the confidences p (n, T)."""

    @property
    @abstractmethod
    def extra_count(self) -> int:
        """Return E, the width of `extras`."""

    @abstractmethod
    def extras(self, answers: Array) -> Float64Array:
        """Return what `chances` needs beside the scores, (n, E)."""

    @abstractmethod
    def chances(self, scores: Array, extras: Array, n: int) -> Float64Array:
        """Return the confidences (K,) of target n by its scores (K,) and `extras` (K, E); NaN where those are NaN."""

    def read(self, form: Float32Array) -> list[ResolvedTarget]:
        """Return the targets with their scores and confidences, by the normal form of the picture's outputs."""
        return self._read(self.of_form(form[None]))

    def _read(self, answers: Array) -> list[ResolvedTarget]:
        """Return the targets with their scores and confidences, of one answer (1, width)."""
        read = zip(self.targets, self.scores(answers)[0].tolist(), self.confidences(answers)[0].tolist(), strict=True)
        return [replace(target, score=s, confidence=p) for target, s, p in read]


class ClassReadout(Readout):
    """The readout of a vector of logits, of which every target is one: an answer holds the logits (C,)."""

    outputs, extra_count = ("logits",), 1

    def __init__(
        self, targets: Sequence[ResolvedTarget], ending: str, labels: Sequence[str] | None = None, numbers: int = 0
    ) -> None:
        super().__init__(targets, ending, labels, numbers)
        self._classes = np.array([t.class_index for t in targets], np.intp)

    def answers(self, outputs: Sequence[Array]) -> Float32Array:
        """Return the logits themselves."""
        (logits,) = outputs
        return logits

    def of_form(self, form: Float32Array) -> Float32Array:
        """Return the normal form, which is the logits."""
        return form

    def settled(self, answers: Sequence[Float32Array]) -> Readout:
        """Return the readout with the top class in place of `TOP_CLASS`."""
        logits, top = answers[0], int(answers[0][0].argmax())
        named = [self._named(t, top if t.class_index < 0 else t.class_index) for t in self.targets]
        readout = ClassReadout(named, self._ending, self._labels)
        readout.targets = readout._read(logits)
        return readout

    def _named(self, target: ResolvedTarget, c: int) -> ResolvedTarget:
        label = target.label or (self._labels[c] if self._labels else None)
        return replace(target, class_index=c, label=label, tensors={"class_index": np.array(c, np.int64)})

    def scores(self, answers: Array) -> Float64Array:
        """Return the logits of the targets' classes."""
        return np.asarray(answers[:, self._classes] * self._signs)

    def confidences(self, answers: Array) -> Float64Array:
        """Return the probabilities of the targets' classes, or their values."""
        return np.asarray(probabilities(answers, self._ending)[:, self._classes] * self._signs)

    def extras(self, answers: Array) -> Float64Array:
        """Return log sum_j exp(f_j) (n, 1) over all classes j: all logits of K channels would be many."""
        return np.asarray(log_sum_exp(answers)[:, None])

    def chances(self, scores: Array, extras: Array, n: int) -> Float64Array:
        """Return the probabilities by logits and their log-sum-exp."""
        if self._ending in ("sigmoid", "value"):
            return np.asarray(probabilities(scores, self._ending))
        return np.asarray(np.exp(np.minimum(scores - extras[:, 0], 0)))  # both may have been corrected, each by itself


LOGITS = ClassReadout([], "logits")
"""The readout of all logits, for whoever reads them himself."""


class GraphReadout(Readout):
    """The readout of targets that the graphs score themselves: an answer holds T scores, then T confidences."""

    outputs: tuple[str, ...] = (SCORES, CONFIDENCES)

    @property
    def tensors(self) -> Mapping[str, Array]:
        """Return the tensors of all rows, by the names of the graph's inputs."""
        rows = self.rows
        return {name: np.stack([t.tensors[name] for t in rows]) for name in rows[0].tensors}

    def answers(self, outputs: Sequence[Array]) -> Float32Array:
        """Return scores and confidences, (n, T) each, in one array (n, 2 T)."""
        return np.concatenate([of_all.reshape(len(of_all), -1) for of_all in outputs], axis=1)

    def settled(self, answers: Sequence[Float32Array]) -> Readout:
        """Return the readout with the scores of every target's own pass."""
        of_all = np.stack(answers, axis=-1).reshape(1, -1)
        return type(self)(self._read(of_all), self._ending, self._labels, self._numbers)

    def scores(self, answers: Array) -> Float64Array:
        """Return the first half of the answers."""
        return np.asarray(answers[:, : len(self.targets)] * self._signs)

    def confidences(self, answers: Array) -> Float64Array:
        """Return the second half of the answers."""
        return np.asarray(answers[:, len(self.targets) :] * self._signs)

    @property
    def extra_count(self) -> int:
        """Return T, the number of targets."""
        return len(self.targets)

    def extras(self, answers: Array) -> Float64Array:
        """Return the confidences (n, T) themselves."""
        return self.confidences(answers)

    def chances(self, scores: Array, extras: Array, n: int) -> Float64Array:
        """Return the confidences as they were kept."""
        return np.asarray(extras[:, n])


class RegionReadout(GraphReadout):
    """The readout of maps over regions; the normal form is (n, C, h', w')."""

    def of_form(self, form: Float32Array) -> Float32Array:
        """Return the means over regions, or maxima there, of logits and of probabilities."""
        exact = form.astype(np.float64)
        sums = log_sum_exp(np.moveaxis(exact, 1, -1))
        columns = [self._over(exact[:, int(t.tensors["class_index"])], sums, t.tensors) for t in self.targets]
        return np.concatenate([np.stack(part, axis=1) for part in zip(*columns, strict=True)], axis=1).astype(
            np.float32
        )

    def _over(self, logits: Array, sums: Array, tensors: Mapping[str, Array]) -> tuple[Array, Array]:
        """Return score and confidence (n,) of logits (n, h', w') of one class."""
        chances = np.exp(logits - sums)
        if self._ending in ("sigmoid", "value"):
            chances = probabilities(logits, self._ending)
        region = tensors["region"].astype(np.float64)
        inside, weights = region > 0, region / region.sum()
        if tensors["peak"]:
            return logits[:, inside].max(axis=1), chances[:, inside].max(axis=1)
        return (logits * weights).sum(axis=(1, 2)), (chances * weights).sum(axis=(1, 2))


class LikenessReadout(GraphReadout):
    """The readout of likeness to references; the normal form is (n, D)."""

    def of_form(self, form: Float32Array) -> Float32Array:
        """Return the cosines, as scores and as confidences."""
        vectors, references = (a.astype(np.float64) for a in (form, self.tensors["reference"]))
        lengths = np.outer(np.linalg.norm(vectors, axis=1), np.linalg.norm(references, axis=1))
        cosines = vectors @ references.T / np.maximum(lengths, LEAST)
        return np.concatenate([cosines, cosines], axis=1).astype(np.float32)


class BoxReadout(GraphReadout):
    """The readout of detections; the normal form is (n, A, 4 + numbers of classes + extras).

    An answer holds the likeness of every row to what is detected: max_a IoU(box, box_a) p_a[class], arXiv 2006.03204
    with the probability of the class in place of the cosine of all scores. It is score and confidence; of a sum, the
    score is the sum of the parts and the confidence their mean.
    """

    outputs = (CONFIDENCES,)
    local = True

    def of_form(self, form: Float32Array) -> Float32Array:
        """Return the likenesses (n, rows), in float64 up to the end."""
        exact = form.astype(np.float64)
        boxes, numbers = exact[..., :SIDES], exact[..., SIDES:]
        columns = [self._likeness(boxes, numbers, t.tensors) for t in self.rows]
        return np.stack(columns, axis=1).astype(np.float32)

    def _likeness(self, boxes: Array, numbers: Array, tensors: Mapping[str, Array]) -> Array:
        """Return the likeness (n,) of one row; where its class has no weight, the overlap of the anchor's own box."""
        shares = overlaps(tensors["box"], boxes)
        likeness = shares * self._chances(numbers, int(tensors["class_index"]))
        if tensors["weights"][SIDES]:
            return np.asarray(likeness.max(axis=1))
        anchor = int(tensors["anchor"])
        own = likeness.argmax(axis=1) if anchor < 0 else np.full(len(boxes), anchor)
        return np.asarray(shares[np.arange(len(boxes)), own])

    def _chances(self, numbers: Array, column: int) -> Array:
        """Return the probabilities (n, A) of a class, or of a keypoint beyond the classes, which has a logit."""
        if column >= self._numbers:
            return probabilities(numbers[..., column], "sigmoid")
        if self._ending in ("sigmoid", "value"):
            return probabilities(numbers[..., column], self._ending)
        return np.asarray(np.exp(numbers[..., column] - log_sum_exp(numbers[..., : self._numbers])))

    def scores(self, answers: Array) -> Float64Array:
        """Return the likenesses, added up where a target is a sum."""
        return np.asarray(np.add.reduceat(answers.astype(np.float64), self._starts, axis=1))

    def confidences(self, answers: Array) -> Float64Array:
        """Return the likenesses, and their mean where a target is a sum."""
        return np.asarray(self.scores(answers) / [len(t.rows) for t in self.targets])

    def chances(self, scores: Array, extras: Array, n: int) -> Float64Array:
        """Return the confidences by the scores, which say all."""
        return np.asarray(scores / len(self.targets[n].rows), np.float64)

    @property
    def _starts(self) -> list[int]:
        """Return the first row of each target."""
        return [0, *np.cumsum([len(t.rows) for t in self.targets])[:-1].tolist()]


READOUTS: Mapping[str, type[Readout]] = {
    "vector": ClassReadout,
    "maps": RegionReadout,
    "embedding": LikenessReadout,
    "boxes": BoxReadout,
}


def readout_of(manifest: Manifest, targets: Sequence[ResolvedTarget]) -> Readout:
    """Return the readout of targets of a bundle."""
    numbers = manifest.detector.numbers(manifest.classes) if manifest.detector else 0
    return READOUTS[manifest.form.kind](targets, manifest.ending, manifest.labels, numbers)
