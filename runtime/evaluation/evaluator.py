"""One photo after another becomes a row: explained, its maps measured, with all passes sharing the session's runs."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from fusioncam.errors import FusionCamError
from fusioncam.kernels.arrays import Array, Float32Array, UInt8Array
from fusioncam.kernels.family import SCORE_CAMS
from fusioncam.kernels.reference import probabilities
from fusioncam.manifest import sha256
from fusioncam.runtime.budget import Budget
from fusioncam.runtime.engine import Clock, ExplainRequest, MaskedPasses, Pipeline, Target, TargetChoice, Task
from fusioncam.runtime.evaluation.annotations import Annotations, in_model_input
from fusioncam.runtime.evaluation.metrics.catalogue import Measured, merged
from fusioncam.runtime.evaluation.metrics.faithfulness import Settings, faithfulness
from fusioncam.runtime.evaluation.metrics.localisation import localisation
from fusioncam.runtime.evaluation.metrics.sanity import spearman
from fusioncam.runtime.evaluation.store.store import THUMBNAIL
from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import METHODS, recipe, with_parts
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.geometry import visible_part
from fusioncam.runtime.photos.model_input import as_input
from fusioncam.runtime.picture import overlay
from fusioncam.runtime.sessions.native_stderr import native_stderr
from fusioncam.runtime.sessions.providers import Provider


@dataclass(frozen=True)
class EvaluationConfig:
    """All that decides what comes out for a photo, and what it is run on. Can be sent to other processes.

    Attributes:
        bundle: The bundle.
        methods: Which maps.
        budget: Masked passes to spend on each explanation.
        faithfulness: What is measured by passes.
        annotations: What is known of the photos, matched to them.
        annotated: Whether the most probable of the classes that an annotation accepts is explained, where there is one;
            else the top class.
        tolerance: Of the pointing game, in pixels of the model's input.
        random_bundle: The bundle with its weights shuffled, for the sanity check.
        providers: See `Explainer`.
        chunk: See `Explainer`.
        threads: See `Explainer`.
    """

    bundle: Path
    methods: Sequence[str] = METHODS
    budget: Budget = "exact"
    faithfulness: Settings = field(default_factory=Settings)
    annotations: Annotations | None = None
    annotated: bool = False
    tolerance: float = 0.0
    random_bundle: Path | None = None
    providers: Sequence[Provider] | None = None
    chunk: int | None = None
    threads: int | None = None


class Evaluated(NamedTuple):
    """A photo's row, as the store keeps it but for its pictures, and those: maps on the photo by method."""

    row: dict[str, Any]
    pictures: Mapping[str, UInt8Array]


class Evaluator:
    """Measures photos.

    Args:
        config: What to do.

    Raises:
        FusionCamError: As for `Explainer`.
    """

    def __init__(self, config: EvaluationConfig) -> None:
        self._config = config
        self._pipeline = self._open(config.bundle)
        self._random = self._open(config.random_bundle) if config.random_bundle else None

    def rows(self, photos: Iterable[tuple[str, Path]]) -> Iterator[Evaluated]:
        """The photos' rows, in their order. One that cannot be evaluated gets a row with its `error`.

        Args:
            photos: Their names in the rows, and files.
        """
        waiting = deque(photos)
        while waiting:
            try:
                tasks = (self._work(*photo) for photo in tuple(waiting))
                for found in self._pipeline.run(tasks, self._config.methods):
                    waiting.popleft()
                    yield found
            except FusionCamError:
                # It is due to one of those that shared the run: the first in line may be, and shows it alone.
                yield self._alone(*waiting.popleft())

    def _open(self, bundle: Path) -> Pipeline:
        p = self._config
        opened = Explainer(bundle, p.providers, p.methods, p.budget, chunk=p.chunk, threads=p.threads, kernels=False)
        return opened.pipeline

    def _request(self, photo: UInt8Array, targets: Sequence[Target] | TargetChoice) -> ExplainRequest:
        return ExplainRequest(photo, targets, self._config.methods, self._config.budget)

    def _alone(self, name: str, file: Path) -> Evaluated:
        try:
            (found,) = self._pipeline.run([self._work(name, file)], self._config.methods)
            return found
        except FusionCamError as error:
            return _failed(name, error)

    def _work(self, name: str, file: Path) -> Task[Evaluated]:
        """What goes wrong here is due to this photo; what goes wrong in a run that it shares is raised there."""
        try:
            return (yield from self._measured(name, file))
        except (FusionCamError, OSError) as error:
            return _failed(name, error)

    def _measured(self, name: str, file: Path) -> Task[Evaluated]:
        with native_stderr():  # libpng and libjpeg write their complaints there
            photo = read_image(file)
        digest, chances = sha256(file), list[Array]()
        (explanation,) = yield from self._pipeline.task(self._request(photo, self._classes(name, chances)))
        clock = Clock()
        parts = [
            (yield from self._faithfulness(photo, explanation, int(digest[:8], 16), clock)),
            self._localisation(name, photo, explanation),
            self._sanity(photo, explanation),
        ]
        clock.lap("metrics")
        measured = {m: merged(part[m] for part in parts if m in part) for m in explanation.maps}
        seconds = sum(explanation.timing.values()) + sum(clock.laps.values())
        top = int(chances[0].argmax()) if chances else explanation.class_index
        row = {"sha256": digest, **self._facts(name, photo, explanation, top), "seconds": seconds}
        row["methods"] = {
            m: {"metrics": found.values, "curves": found.curves, "flags": [*found.flags, *_own(m, explanation.flags)]}
            for m, found in measured.items()
        }
        return Evaluated({"image": name, **row}, _pictures(photo, explanation))

    def _classes(self, name: str, seen: list[Array]) -> list[int] | TargetChoice:
        """The class to explain: the top one, or the most probable of those accepted, by chances that are `seen`."""
        accepted = list(self._accepted(name)) if self._config.annotated else []

        def likeliest(chances: Array) -> list[int]:
            seen.append(chances)
            return [max(accepted, key=lambda c: float(chances[c]))]

        return likeliest if accepted else [-1]

    def _accepted(self, name: str) -> tuple[int, ...]:
        return self._config.annotations.accepted(name) if self._config.annotations else ()

    def _faithfulness(
        self, photo: UInt8Array, explanation: Explanation, seed: int, clock: Clock
    ) -> Task[dict[str, Measured]]:
        manifest = self._pipeline.manifest
        _, x = as_input(photo, manifest.preprocessing)

        def confidence(logits: Float32Array) -> Array:
            return np.asarray(probabilities(logits, manifest.ending)[:, explanation.class_index])

        passes = MaskedPasses(x, clock).of_pictures
        return faithfulness(x, explanation.maps, confidence, passes, self._config.faithfulness, seed)

    def _localisation(self, name: str, photo: UInt8Array, explanation: Explanation) -> dict[str, Measured]:
        """Only where the class that is explained is one that the annotation is about."""
        accepted, c = self._accepted(name), explanation.class_index
        if self._config.annotations is None or (accepted and c not in accepted):
            return {}
        region = self._config.annotations.region(name, (photo.shape[0], photo.shape[1]), c)
        if not region.any():
            return {}
        mask = in_model_input(region, self._pipeline.manifest.preprocessing)
        return localisation(explanation.maps, mask, self._config.tolerance)

    def _sanity(self, photo: UInt8Array, explanation: Explanation) -> dict[str, Measured]:
        """The maps beside those of shuffled weights, of which a sound model may make NaN."""
        if self._random is None:
            return {}
        try:
            request = self._request(photo, [explanation.class_index])
            ((other,),) = self._random.run([self._random.task(request)], self._config.methods)
        except FusionCamError:
            return {m: Measured(flags=("no_sanity",)) for m in explanation.maps}
        return {m: Measured({"sanity": abs(spearman(found, other.maps[m]))}) for m, found in explanation.maps.items()}

    def _facts(self, name: str, photo: UInt8Array, explanation: Explanation, top: int) -> dict[str, Any]:
        size, accepted = (photo.shape[0], photo.shape[1]), self._accepted(name)
        notes, preprocessing = self._config.annotations, self._pipeline.manifest.preprocessing
        return {
            "size": size,
            "class_index": explanation.class_index,
            "label": explanation.label,
            "probability": explanation.probability,
            "accepted": accepted,
            "correct": top in accepted if accepted else None,
            "passes": explanation.passes._asdict(),
            "flags": explanation.flags,
            "problems": notes.problems_of(name, size, preprocessing) if notes else [],
        }


def _failed(name: str, error: Exception) -> Evaluated:
    return Evaluated({"image": name, "error": " ".join(str(error).split())}, {})


def _own(method: str, flags: Sequence[str]) -> list[str]:
    """The flags of a photo's explanation that say something of this method's map."""
    made_of, parts = recipe(method), with_parts([method])
    about = {
        f"flat_{method}": True,
        "equal_contributions": made_of is not None,
        "mixed_contributions": made_of is not None,
        "cut_short": not parts.isdisjoint(SCORE_CAMS),
    }
    return [flag for flag in flags if about.get(flag)]


def _pictures(photo: UInt8Array, explanation: Explanation) -> dict[str, UInt8Array]:
    """The maps laid over what the model saw of the photo, small."""
    assert explanation.preprocessing is not None
    part = visible_part(photo, explanation.preprocessing)
    scale = min(1.0, THUMBNAIL / max(part.shape[:2]))
    size = max(1, round(part.shape[1] * scale)), max(1, round(part.shape[0] * scale))
    seen = np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)

    def laid(saliency: npt.NDArray[np.float32]) -> UInt8Array:
        return overlay(seen, np.asarray(cv2.resize(saliency, size), np.float32).clip(0, 1))

    return {method: laid(saliency) for method, saliency in explanation.maps.items()}
