"""A request for explanations: what it asks for, the jobs that makes, and what is answered."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fusioncam.errors import UsageError
from fusioncam.runtime.methods import recipe
from fusioncam.runtime.service.batching.job import Job
from fusioncam.runtime.service.protocol.picture_inputs import pictures_of
from fusioncam.runtime.service.protocol.request_parser import CHOICES, default_method, parse_request, quote
from fusioncam.runtime.service.protocol.schemas import InferRequest, RequestedOutput
from fusioncam.runtime.service.protocol.tensors import Tensor, read_tensors, split_body
from fusioncam.runtime.service.served_model import ServedModel
from fusioncam.runtime.service.settings import Settings

INPUTS = {"image": "FP32", "image_bytes": "BYTES", "class_index": "INT64", "method": "BYTES", "budget": "BYTES"}
FIGURES = {"logits": "FP32", "probabilities": "FP32", "class_index": "INT64"}
"""Outputs that are no maps."""
MOST_METHODS = 32
MOST_LISTED = 1024  # class numbers, methods or photos in one input, unless settings allow more pictures
# What tritonclient sends for models of other kinds, and what means nothing to one that answers each request by itself.
PASSED_OVER = ("priority", "sequence_id", "sequence_start", "sequence_end")
OWN = ("binary_data_output", "timeout", *CHOICES)


@dataclass(frozen=True)
class OutputSpec:
    """An output that is asked for.

    Attributes:
        name: Its name.
        binary: Whether it goes behind the JSON.
        classification: How many of the most probable classes, as texts, in place of the figures; 0 for the figures.
    """

    name: str
    binary: bool
    classification: int = 0


@dataclass(frozen=True, eq=False)
class PreparedRequest:
    """A request that was understood.

    Attributes:
        id: The client's name for it.
        jobs: One per picture.
        outputs: What is answered of each.
        seconds: It took to parse it and to prepare the pictures.
        prepared: Whether the pictures came preprocessed.
    """

    id: str
    jobs: Sequence[Job]
    outputs: Sequence[OutputSpec]
    seconds: float
    prepared: bool = field(default=False)


def prepare_request(
    served: ServedModel, settings: Settings, body: bytes, header_length: str | None, begun: float, timeout: float
) -> PreparedRequest:
    """What a request asks for; photos are decoded and prepared.

    Args:
        served: The model.
        settings: Limits.
        body: The request, unpacked.
        header_length: The header of that name.
        begun: When the request came, in seconds of `time.monotonic()`.
        timeout: Seconds it may take from then on.

    Raises:
        ImageError, UsageError: Something about it is wrong.
        DeadlineError: The time is up before its pictures are prepared.
    """
    start = time.perf_counter()
    request, data = split_body(body, header_length, settings.max_pictures * 3 * math.prod(served.size))
    _known_parameters(request.parameters)
    tensors = read_tensors(request, data, INPUTS, max(MOST_LISTED, settings.max_pictures))
    parsed = parse_request(_choices(tensors), request.parameters)
    outputs = _outputs(request, served, parsed.methods)
    methods = tuple(o.name for o in outputs if o.name not in FIGURES) or (served.cheapest,)
    methods, budget = served.explainer.pipeline.check(methods, parsed.budget)
    timeout = min(timeout, _timeout(request.parameters))
    pictures = pictures_of(tensors, served, settings, begun, timeout)
    classes = parsed.classes(len(pictures), served.explainer.manifest.classes)
    jobs = [Job(x, c, methods, budget, begun + timeout) for x, c in zip(pictures, classes, strict=True)]
    return PreparedRequest(request.id, jobs, outputs, time.perf_counter() - start, "image" in tensors)


def _known_parameters(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in OWN and name not in PASSED_OVER:
            raise UsageError(f"there is no parameter {quote(name)}; the parameters are {', '.join(OWN)}")
    if not isinstance(given.get("binary_data_output", False), bool):
        raise UsageError("the parameter binary_data_output must be true or false")


def _timeout(given: Mapping[str, Any]) -> float:
    """Seconds a request gives itself, which it says in microseconds, as Triton has it; 0 for as long as it may take."""
    wanted = given.get("timeout", 0)
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
        raise UsageError(f"the parameter timeout must be a whole number of microseconds, not {quote(wanted)}")
    return min(wanted, 1 << 60) / 1e6 or math.inf


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


def _outputs(request: InferRequest, served: ServedModel, methods: tuple[str, ...]) -> list[OutputSpec]:
    """The outputs asked for, in order; by default maps of the methods, then the figures."""
    binary = request.parameters.get("binary_data_output", False)
    if not request.outputs:
        methods = methods or (default_method(served.methods),)
        wanted = [OutputSpec(name, binary) for name in (*dict.fromkeys(methods), *FIGURES)]
    else:
        wanted = [_wanted(output, served, binary) for output in request.outputs]
        extra = (m for m in dict.fromkeys(methods) if m not in {w.name for w in wanted})
        wanted += [OutputSpec(m, binary) for m in extra]
    names = [w.name for w in wanted]
    if len(set(names)) < len(names):
        raise UsageError(f"output {quote(next(n for n in names if names.count(n) > 1))} is asked for twice: ask once")
    maps = [name for name in names if name not in FIGURES]
    if len(maps) > MOST_METHODS:
        raise UsageError(f"{len(maps)} methods are asked for, {MOST_METHODS} are the most in a request")
    for name in maps:
        _known_output(name, served)
    return wanted


def _known_output(name: str, served: ServedModel) -> None:
    try:
        recipe(name)
    except UsageError:
        known = ", ".join((*FIGURES, *served.methods))
        raise UsageError(
            f"there is no output or method {quote(name)}; there are {known}, and fusions of other parts, such as "
            "fusion_cam:layer_cam+group_cam"
        ) from None


def _wanted(output: RequestedOutput, served: ServedModel, binary: bool) -> OutputSpec:
    given, name = output.parameters, quote(output.name)
    if any(key.startswith("shared_memory") for key in given):
        raise UsageError(
            f"output {name} is wanted in shared memory, which this service does not write: read it from the body"
        )
    unknown = sorted(set(given) - {"binary_data", "classification"})
    if unknown:
        raise UsageError(f"output {name} has an unknown parameter {quote(unknown[0])}")
    binary, count = given.get("binary_data", binary), given.get("classification", 0)
    if not isinstance(binary, bool):
        raise UsageError(f"binary_data of output {name} must be true or false")
    classes = served.explainer.manifest.classes
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= classes:
        raise UsageError(f"classification of output {name} must be a number of classes, at most {classes}")
    if count and output.name not in ("logits", "probabilities"):
        raise UsageError(f"output {name} cannot be had as a classification: ask for that of logits or probabilities")
    return OutputSpec(output.name, binary, count)
