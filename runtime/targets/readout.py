"""Readouts: how the scores and the confidences of T targets are read out of what a session gives for pictures."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fusioncam.kernels.arrays import Array, Float32Array, Float64Array
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

    Attributes:
        targets: See above; with scores and confidences once `settled`.
        outputs: The outputs of a session that answers are made of.
    """

    outputs: tuple[str, ...]

    def __init__(self, targets: Sequence[ResolvedTarget], ending: str, labels: Sequence[str] | None = None) -> None:
        self.targets, self._ending, self._labels = list(targets), ending, labels
        self._signs = np.array([t.sign for t in targets], np.float64)

    @property
    def tensors(self) -> Mapping[str, Array]:
        """Return what a session that scores pictures takes beside them, (T, ...) each."""
        return {}

    @abstractmethod
    def answers(self, outputs: Sequence[Array]) -> Float32Array:
        """Return the answers (n, width) of what a session gave for n pictures, see `outputs`."""

    @abstractmethod
    def of_form(self, form: Float32Array) -> Float32Array:
        """Return the answers (n, width) to n pictures by the normal form of their outputs."""

    @abstractmethod
    def settled(self, answers: Sequence[Float32Array]) -> "Readout":
        """Return the readout whose targets have their scores and confidences, of one answer (1, ...) per target.

        Those are of the explain graph, which takes one target for each row.
        """

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

    def _read(self, answers: Array) -> list[ResolvedTarget]:
        """Return the targets with their scores and confidences, of one answer (1, width)."""
        read = zip(self.targets, self.scores(answers)[0].tolist(), self.confidences(answers)[0].tolist(), strict=True)
        return [replace(target, score=s, confidence=p) for target, s, p in read]


class ClassReadout(Readout):
    """The readout of a vector of logits, of which every target is one: an answer holds the logits (C,)."""

    outputs, extra_count = ("logits",), 1

    def __init__(self, targets: Sequence[ResolvedTarget], ending: str, labels: Sequence[str] | None = None) -> None:
        super().__init__(targets, ending, labels)
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

    outputs = ("scores", "confidences")

    @property
    def tensors(self) -> Mapping[str, Array]:
        """Return the tensors of all targets, by the names of the graph's inputs."""
        return {name: np.stack([t.tensors[name] for t in self.targets]) for name in self.targets[0].tensors}

    def answers(self, outputs: Sequence[Array]) -> Float32Array:
        """Return scores and confidences, (n, T) each, in one array (n, 2 T)."""
        return np.concatenate([of_all.reshape(len(of_all), -1) for of_all in outputs], axis=1)

    def settled(self, answers: Sequence[Float32Array]) -> Readout:
        """Return the readout with the scores of every target's own pass."""
        of_all = np.stack(answers, axis=-1).reshape(1, -1)
        return type(self)(self._read(of_all), self._ending, self._labels)

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


READOUTS: Mapping[str, type[Readout]] = {
    "vector": ClassReadout,
    "maps": RegionReadout,
    "embedding": LikenessReadout,
}


def readout_of(manifest: Manifest, targets: Sequence[ResolvedTarget]) -> Readout:
    """Return the readout of targets of a bundle."""
    return READOUTS[manifest.form.kind](targets, manifest.ending, manifest.labels)
