"""The evaluator: each target of a photo becomes a row, its maps explained and measured; photos share runs."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fusioncam.errors import FusionCamError, NothingDetectedError, UsageError
from fusioncam.input_values import InputValues
from fusioncam.kernels.arrays import Array, Float32Array, UInt8Array
from fusioncam.kernels.cam_methods import SCORE_CAMS
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import Manifest, sha256
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.engine import (
    Clock,
    ExplainRequest,
    MaskedPasses,
    Pipeline,
    Task,
)
from fusioncam.runtime.evaluation.annotations import Annotations, in_model_input
from fusioncam.runtime.evaluation.annotations.outlines import Box
from fusioncam.runtime.evaluation.metrics.catalogue import size_of
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings, faithfulness
from fusioncam.runtime.evaluation.metrics.localisation import localisation
from fusioncam.runtime.evaluation.metrics.sanity import spearman
from fusioncam.runtime.evaluation.pictures import small_pictures
from fusioncam.runtime.evaluation.questions import Questions, Targets
from fusioncam.runtime.evaluation.references import References
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import METHODS, recipe, with_parts
from fusioncam.runtime.photos.given import Given, open_given
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.probes.measured import Measured, merged
from fusioncam.runtime.providers.spec import Provider
from fusioncam.runtime.results.target_selection import file_names
from fusioncam.runtime.sessions.native_stderr import native_stderr
from fusioncam.runtime.targets.kinds import KnownObject
from fusioncam.runtime.targets.readout import readout_of


@dataclass(frozen=True)
class EvaluationConfig:
    """All that decides the rows of an evaluation, and the hardware. Can be sent to other processes.

    Attributes:
        bundle: The bundle.
        methods: The maps to measure.
        budget: Masked passes to spend on each explanation.
        faithfulness: Settings of the metrics that ask the model.
        annotations: The annotations, matched to the photos.
        annotated: Whether annotations name the targets: the most probable of the classes that one accepts or, of maps,
            every class over its objects. Else, and where there is none, the top class or the default targets.
        tolerance: Of the pointing game, in pixels of the model's input.
        random_bundle: The bundle with its weights shuffled, for the sanity check.
        references: What embeddings are compared with.
        providers: See `Explainer`.
        chunk: See `Explainer`.
        threads: See `Explainer`.
        allow_cpu: See `Explainer`.
        inputs: See `Explainer`.
    """

    bundle: Path
    methods: Sequence[str] = METHODS
    budget: Budget = "exact"
    faithfulness: Settings = field(default_factory=Settings)
    annotations: Annotations = field(default_factory=Annotations)
    annotated: bool = False
    tolerance: float = 0.0
    random_bundle: Path | None = None
    references: References = field(default_factory=References)
    providers: Sequence[Provider] | None = None
    chunk: int | None = None
    threads: int | None = None
    allow_cpu: bool = False
    inputs: InputValues = field(default_factory=dict)


class Evaluated(NamedTuple):
    """The row of a target, as the store keeps it but for its pictures, and those: maps over the photo by method."""

    row: dict[str, Any]
    pictures: Mapping[str, UInt8Array]


class Evaluator:
    """Measures the maps of photos.

    Args:
        config: The evaluation.

    Raises:
        FusionCamError: As for `Explainer`.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        self._config = config
        self._pipeline = self._open(config.bundle)
        refuse_others(self._pipeline.manifest)
        self._questions = Questions(self._pipeline.manifest, config.annotations, config.annotated, config.references)
        self._random = self._open(config.random_bundle) if config.random_bundle else None

    def rows(self, photos: Iterable[tuple[str, Path]]) -> Iterator[Evaluated]:
        """Yield the rows of photos, in order, one for each target. A photo that fails gets a row with its `error`.

        Args:
            photos: Their names in the rows, and files.
        """
        waiting = deque(photos)
        while waiting:
            try:
                for evaluated in self._run(waiting):
                    waiting.popleft()
                    yield from evaluated
            except FusionCamError:
                # Any photo that shared the run may be the cause. Alone, the first shows whether it is.
                photo = waiting.popleft()
                try:
                    (evaluated,) = self._run([photo])
                except FusionCamError as error:
                    evaluated = [_failed(photo[0], error)]
                yield from evaluated

    def _open(self, bundle: Path) -> Pipeline:
        c = self._config
        return Explainer(
            bundle, c.providers, c.methods, c.budget,
            chunk=c.chunk, threads=c.threads, kernels=False, allow_cpu=c.allow_cpu, inputs=c.inputs,
        ).pipeline  # fmt: skip

    def _run(self, photos: Iterable[tuple[str, Path]]) -> Iterator[list[Evaluated]]:
        return self._pipeline.run((self._task(*photo) for photo in tuple(photos)), self._config.methods)

    def _request(self, photo: Given, targets: Targets) -> ExplainRequest:
        return ExplainRequest(photo, targets, self._config.methods, self._config.budget)

    def _task(self, name: str, file: Path) -> Task[list[Evaluated]]:
        """Evaluate a photo. Errors of this photo end here; those of a shared run are raised by the scheduler."""
        try:
            return (yield from self._measured(name, file))
        except (FusionCamError, OSError) as error:
            return [_failed(name, error)]

    def _measured(self, name: str, file: Path) -> Task[list[Evaluated]]:
        with native_stderr():  # libpng and libjpeg write their complaints there
            photo = open_given(file, self._pipeline.manifest.preprocessing)
        digest, targets = sha256(file), self._questions.of(name, photo.values.shape[:2])
        explanations = yield from self._pipeline.task(self._request(photo, targets))
        if not explanations:
            detector = self._pipeline.manifest.detector
            scored = f"has a score of {detector.conf:g} or more" if detector else "is there"
            why = scored if callable(targets) else "matches an annotated object"
            raise NothingDetectedError(f"no detection {why}: there is nothing to measure")
        clock, of_targets = Clock(), list[dict[str, Measured]]()
        objects = self._questions.objects(name, photo.values.shape[:2], explanations)
        for explanation, likeness, known in zip(explanations, self._sanity(photo, explanations), objects, strict=True):
            parts = [
                (yield from self._faithfulness(photo, explanation, int(digest[:8], 16), clock)),
                self._localisation(name, photo, explanation, known),
                likeness,
            ]
            of_targets.append({m: merged(part[m] for part in parts if m in part) for m in explanation.maps})
        clock.lap("metrics")
        facts = {
            "sha256": digest,
            "targets": len(explanations),
            **self._facts(name, photo, explanations, callable(targets)),
        }
        # Targets share the time and the passes of their photo.
        facts["seconds"] = sum((*explanations[0].timing.values(), *clock.laps.values())) / len(explanations)
        return [
            Evaluated(
                {
                    "image": name,
                    **facts,
                    **_about_target(explanation, called, known),
                    "methods": _figures(explanation, found),
                },
                small_pictures(photo, explanation),
            )
            for explanation, called, known, found in zip(
                explanations, file_names(explanations), objects, of_targets, strict=True
            )
        ]

    def _top_class(self, explanation: Explanation) -> int:
        assert explanation.logits is not None
        return int(probabilities(explanation.logits, self._pipeline.manifest.ending).argmax())

    def _faithfulness(
        self, photo: Given, explanation: Explanation, seed: int, clock: Clock
    ) -> Task[dict[str, Measured]]:
        manifest, target = self._pipeline.manifest, explanation.target
        assert target is not None
        _, x = as_input(photo, manifest.preprocessing)
        readout = readout_of(manifest, [target])

        def confidence(answers: Float32Array) -> Array:
            return np.asarray(readout.confidences(answers)[:, 0])

        passes = MaskedPasses(x, clock, readout=readout, inputs=self._pipeline.inputs()).of_pictures
        as_shares = manifest.task == "value"
        return faithfulness(x, explanation.maps, confidence, passes, self._config.faithfulness, seed, as_shares)

    def _localisation(
        self, name: str, photo: Given, explanation: Explanation, known: KnownObject | None
    ) -> dict[str, Measured]:
        """Measure where the map lies, where the annotation is about the class; of a detection, in its object's box."""
        accepted, c, size = self._config.annotations.accepted(name), explanation.class_index, photo.values.shape[:2]
        if self._pipeline.manifest.detector is None:
            region = self._config.annotations.region(name, size, c)
        else:
            region = Box(*known.box).draw(size) if known else np.zeros(size, np.bool_)
        if (accepted and c not in accepted) or not region.any():
            return {}
        mask = in_model_input(region, self._pipeline.manifest.preprocessing)
        return localisation(explanation.maps, mask, self._config.tolerance)

    def _sanity(self, photo: Given, explanations: Sequence[Explanation]) -> list[dict[str, Measured]]:
        """Compare the maps with those of shuffled weights, with which a sound model may give NaN."""
        if self._random is None:
            return [{} for _ in explanations]
        try:
            request = self._request(photo, [explanation.target for explanation in explanations])
            (others,) = self._random.run([self._random.task(request)], self._config.methods)
        except FusionCamError:
            return [{m: Measured(flags=("no_sanity",)) for m in explanation.maps} for explanation in explanations]
        return [
            {m: Measured({"sanity": abs(spearman(own, other.maps[m]))}) for m, own in explanation.maps.items()}
            for explanation, other in zip(explanations, others, strict=True)
        ]

    def _facts(self, name: str, photo: Given, explanations: Sequence[Explanation], chosen: bool) -> dict[str, Any]:
        """Return the facts that the targets of a photo share.

        Args:
            name: The photo's name.
            photo: The photo.
            explanations: Of its targets.
            chosen: Whether the annotation chose the class, which may not be the top one.
        """
        first, size, accepted = explanations[0], photo.values.shape[:2], self._config.annotations.accepted(name)
        right = None
        if accepted and self._pipeline.manifest.task == "classify":
            right = (self._top_class(first) if chosen else first.class_index) in accepted
        return {
            "size": size,
            "accepted": accepted,
            "correct": right,
            "passes": first.passes._asdict(),
            "problems": self._questions.problems(name, size, explanations),
        }


def refuse_others(manifest: Manifest) -> None:
    """Raise UsageError for a model that takes no pictures, which is all that the metrics measure."""
    kind = manifest.preprocessing.kind
    if kind != "pictures":
        raise UsageError(f"maps of pictures are measured, and the model takes {kind}: see `explain --verify`")


def _about_target(explanation: Explanation, called: str, known: KnownObject | None) -> dict[str, Any]:
    """Return what a row says of its target, which is called so among those of the photo.

    Detections have the title of their class, by which reports sum them up.
    """
    return {
        **({} if known is None else {"object_size": size_of(known.area)}),
        "class_index": explanation.class_index,
        "label": explanation.label,
        "target": called,
        "title": explanation.title if explanation.detection is None else explanation.heading[0],
        "score": explanation.score,
        "probability": explanation.probability,
        "flags": explanation.flags,
    }


def _figures(explanation: Explanation, measured: Mapping[str, Measured]) -> dict[str, Any]:
    """Return the figures of a target's maps, by method."""
    return {
        m: {
            "metrics": of_map.values,
            "curves": of_map.curves,
            "flags": [*of_map.flags, *_own(m, explanation.flags)],
        }
        for m, of_map in measured.items()
    }


def _failed(name: str, error: Exception) -> Evaluated:
    return Evaluated({"image": name, "error": " ".join(str(error).split())}, {})


def _own(method: str, flags: Sequence[str]) -> list[str]:
    """Return those flags of an explanation that are about the map of this method."""
    made_of, parts = recipe(method), with_parts([method])
    about = {
        f"flat_{method}": True,
        "equal_contributions": made_of is not None,
        "mixed_contributions": made_of is not None,
        "cut_short": not parts.isdisjoint((*SCORE_CAMS, "rise")),
    }
    return [flag for flag in flags if about.get(flag)]


def open_rows(config: EvaluationConfig, threads: int) -> Callable[[Iterable[tuple[str, Path]]], Iterator[Evaluated]]:
    """Return `Evaluator.rows` of a new evaluator, with so many threads unless the config names a number."""
    return Evaluator(replace(config, threads=threads) if config.threads is None else config).rows
