"""A request for explanations, prepared: its body becomes one job per picture, and the outputs to answer."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.engine import checked_levels
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import needs_every_pass
from fusioncam.runtime.service.batching.job import Job
from fusioncam.runtime.service.protocol.outputs import (
    FIGURES,
    NO_MAPS,
    VERDICT,
    OutputSpec,
    hull_of,
    is_explained,
    made_outputs,
    more_than_figures,
    output_specs,
    output_tensor,
)
from fusioncam.runtime.service.protocol.parameters import check_parameters, plain_parameters, seconds_of
from fusioncam.runtime.service.protocol.pictures import pictures_of, requested_size
from fusioncam.runtime.service.protocol.request_parser import (
    CHOICES,
    default_method,
    parse_request,
)
from fusioncam.runtime.service.protocol.schemas import InferRequest
from fusioncam.runtime.service.protocol.targets import TARGET_INPUTS, TargetReader
from fusioncam.runtime.service.protocol.tensors import Output, Tensor, write_answer, write_event
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

INPUTS = {
    "image": "FP32",
    "image_bytes": "BYTES",
    "class_index": "INT64",
    "method": "BYTES",
    "budget": "BYTES",
    **TARGET_INPUTS,
}
PRELIMINARY = "preliminary"  # flag of explanations that will change


@dataclass(frozen=True, eq=False)
class PreparedRequest:
    """A request whose pictures are ready to explain.

    Attributes:
        id: The client's name for the request.
        jobs: One job per picture.
        outputs: The outputs to answer for each picture.
        seconds: Time it took to prepare.
        preprocessed: Whether the client sent preprocessed pictures, not photos.
    """

    id: str
    jobs: Sequence[Job]
    outputs: Sequence[OutputSpec]
    seconds: float
    preprocessed: bool

    def response(
        self, model: ServedModel, explanations: Sequence[Explanation], begun: float
    ) -> tuple[bytes, int | None]:
        """Return the body that answers the request, and the number of its bytes that are JSON where more follows."""
        return write_answer(*self.answer(model, explanations, begun))

    def event(
        self, model: ServedModel, explanations: Sequence[Explanation], sent: dict[str, Array], begun: float
    ) -> bytes:
        """Return a server-sent event: `maps` with all maps of preliminary explanations, or `answer` with all outputs.

        `sent` is that of `step`.
        """
        kind = "maps" if is_preliminary(explanations) else "answer"
        return write_event(kind, *self.step(model, explanations, sent, begun))

    def answer(
        self, model: ServedModel, explanations: Sequence[Explanation], begun: float
    ) -> tuple[dict[str, Any], list[Output]]:
        """Return the answer to the request: its head, without the outputs, and the outputs.

        Args:
            model: The model.
            explanations: Those of the pictures, in order; of a single picture, one per target.
            begun: Time of the request, in seconds of `time.monotonic()`.
        """
        outputs = [output_tensor(spec, model, explanations) for spec in made_outputs(self.outputs, explanations)]
        return self._head(model, explanations[0] if explanations else None, begun), outputs

    def step(
        self, model: ServedModel, explanations: Sequence[Explanation], sent: dict[str, Array], begun: float
    ) -> tuple[dict[str, Any], list[Output]]:
        """Return one of several answers: all maps of a preliminary explanation, or all outputs of the last one.

        Args:
            model: The model.
            explanations: Those of the only picture, one per target.
            sent: Arrays of earlier answers, by name: those that did not change are left out. Gets the new ones.
            begun: Time of the request, in seconds of `time.monotonic()`.
        """
        specs = made_outputs(self.outputs, explanations)
        if is_preliminary(explanations):
            figures = [spec for spec in specs if spec.name in FIGURES]
            specs = [*(OutputSpec(method, binary=True) for method in explanations[0].maps), *figures]
        outputs = []
        for output in (output_tensor(spec, model, explanations) for spec in specs):
            if isinstance(output.values, np.ndarray):
                if output.name in sent and np.array_equal(sent[output.name], output.values):
                    continue
                sent[output.name] = output.values
            outputs.append(output)
        return self._head(model, explanations[0] if explanations else None, begun), outputs

    def _head(self, model: ServedModel, explanation: Explanation | None, begun: float) -> dict[str, Any]:
        """Return the answer's JSON without the outputs; of a picture without any detection there is no explanation."""
        parameters = self._time(begun) if explanation is None else self.parameters(explanation, begun)
        head: dict[str, Any] = {"model_name": model.name, "model_version": model.version, "parameters": parameters}
        if self.id:
            head["id"] = self.id
        return head

    def parameters(self, explanation: Explanation, begun: float) -> dict[str, Any]:
        """Return the parameters of an answer, which are about one picture.

        Args:
            explanation: The explanation of the picture.
            begun: Time of the request, in seconds of `time.monotonic()`.
        """
        return {
            "label": explanation.label or "",
            "probability": explanation.probability,
            **self._target(explanation),
            "flags": ",".join(explanation.flags),
            "passes": explanation.passes.run,
            "channels": explanation.passes.channels,
            "error": explanation.passes.error,
            **self._time(begun),
            **({} if explanation.verdict is None else {VERDICT: explanation.verdict.name}),
            **self._not_explained(explanation),
            **{f"seconds_{stage}": seconds for stage, seconds in explanation.timing.items()},
        }

    def _time(self, begun: float) -> dict[str, float]:
        return {"seconds": time.monotonic() - begun, "seconds_decode": self.seconds}

    def _target(self, explanation: Explanation) -> dict[str, Any]:
        """Return the parameters about a target that is no class."""
        target = explanation.target
        if target is None or target.kind == "class":
            return {}
        box = {"box": ",".join(f"{edge:.2f}" for edge in hull)} if (hull := hull_of(explanation)) is not None else {}
        layer = {"layer": explanation.layer} if explanation.detections and explanation.layer else {}
        return {"title": target.title, "score": target.score, **box, **layer}

    def _not_explained(self, explanation: Explanation) -> dict[str, str]:
        """Return the parameter that says why there is no map, where there is none."""
        if "nothing_detected" in explanation.flags:
            return {"not_explained": explanation.title}
        condition = self.jobs[0].condition
        if condition is None or is_explained(explanation):
            return {}
        facts = f"the probability is {explanation.probability:.4g} and the class {explanation.title}"
        return {"not_explained": f"explain_if is {condition.text}, but {facts}"}


def is_preliminary(explanations: Sequence[Explanation]) -> bool:
    """Return whether the maps of a picture are still being made; there may be no target at all."""
    return any(PRELIMINARY in e.flags for e in explanations)


def prepare_request(
    model: ServedModel,
    settings: Settings,
    request: InferRequest,
    tensors: Mapping[str, Tensor],
    begun: float,
    start: float,
    several: float = 1,
) -> PreparedRequest:
    """Parse a request; decode and preprocess its pictures.

    Args:
        model: The model.
        settings: Limits.
        request: The request.
        tensors: Its tensors by name.
        begun: Time of the request, in seconds of `time.monotonic()`.
        start: Time when the work on it was begun, in seconds of `time.perf_counter()`.
        several: The most pictures of a request, where each may have several targets.

    Raises:
        ImageError, UsageError: Something about the request is wrong.
        DeadlineError: The time is up before the pictures are prepared.
    """
    check_parameters(request.parameters)
    request.parameters = plain_parameters(request.parameters, tensors, model.manifest)
    parsed = parse_request(_choices(tensors), request.parameters, settings.budget)
    explain_if = request.parameters.get("explain_if", settings.explain_if)
    condition = None if explain_if is None else model.condition(explain_if)
    outputs = output_specs(request, model, parsed.methods, conditional=condition is not None)
    verify = VERDICT in (o.name for o in outputs)
    maps = tuple(o.name for o in outputs if o.name not in NO_MAPS)
    # Where the graphs score targets, those are read without a map; the figures of a vector come with any.
    others = (default_method(model.methods),) if verify else () if model.manifest.form.scored else (model.cheapest,)
    methods = maps or others
    named = "budget" in tensors or "budget" in request.parameters
    budget = parsed.budget if named or not needs_every_pass(methods, model.manifest) else "exact"
    methods, budget = model.batcher.pipeline.check(methods, budget)
    timeout = min(settings.timeout, seconds_of(request.parameters))
    size = requested_size(request.parameters.get("size"), model)
    pictures = pictures_of(tensors, model, size, settings, begun, timeout)
    preprocessing = model.manifest.preprocessing.model_copy(update={"size": pictures[0][0].shape[1:]})
    reader = TargetReader(model.manifest, preprocessing, settings.max_pixels, several, bool(maps or verify))
    targets = reader.targets(tensors, request.parameters, parsed, len(pictures))
    asked = partial(
        Job, methods=methods, budget=budget, deadline=begun + timeout, verify=verify, arrived=begun,
        levels=checked_levels(request.parameters.get("levels", "own")), or_nothing=several > 1 or len(pictures) > 1,
        condition=condition if more_than_figures(o.name for o in outputs) else None,
    )  # fmt: skip
    jobs = [
        asked(x, of_picture, photo=photo, size=None if size is None else x.shape[1:])
        for (x, photo), of_picture in zip(pictures, targets, strict=True)
    ]
    return PreparedRequest(request.id, jobs, outputs, time.perf_counter() - start, "image" in tensors)


def _choices(tensors: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    """Return the values of the inputs that are no pictures, flat, with texts decoded."""
    if "class_index" in tensors and tensors["class_index"].shape[1:] not in ((), (1,)):
        raise UsageError(
            f"input 'class_index' must be of shape (1,), or have a row per picture, not {tensors['class_index'].shape}"
        )
    chosen = {name: tensors[name].values for name in CHOICES if name in tensors}
    return {
        name: [_text(name, value) for value in values] if isinstance(values, list) else values.ravel().tolist()
        for name, values in chosen.items()
    }


def _text(name: str, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise UsageError(f"input {name!r} must be text in UTF-8") from None
