"""A request for explanations: what it asks for, the jobs that makes, and what is answered."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.kernels.arrays import Array
from fusioncam.runtime.engine.host.scorer import probabilities
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import recipe
from fusioncam.runtime.service.jobs import Job
from fusioncam.runtime.service.pictures import pictures_of
from fusioncam.runtime.service.protocol.request import CHOICES, default_method, parse_request, shown
from fusioncam.runtime.service.protocol.schemas import InferRequest, RequestedOutput
from fusioncam.runtime.service.protocol.tensors import Output, Tensor, read_tensors, split_body, write_answer
from fusioncam.runtime.service.refusals import bad
from fusioncam.runtime.service.served import VERSION, Served
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
class Wanted:
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
class Asked:
    """A request that was understood.

    Attributes:
        id: The client's name for it.
        jobs: One per picture.
        outputs: What is answered of each.
        seconds: It took to understand it and to prepare the pictures.
        prepared: Whether the pictures came preprocessed.
    """

    id: str
    jobs: Sequence[Job]
    outputs: Sequence[Wanted]
    seconds: float
    prepared: bool = field(default=False)


def understand(
    served: Served, settings: Settings, body: bytes, header_length: str | None, begun: float, timeout: float
) -> Asked:
    """What a request asks for; photos are decoded and prepared.

    Args:
        served: The model.
        settings: Limits.
        body: The request, unpacked.
        header_length: The header of that name.
        begun: When the request came, in seconds of `time.monotonic()`.
        timeout: Seconds it may take from then on.

    Raises:
        RefusedError, ImageError, UsageError: Something about it is wrong.
        DeadlineError: The time is up before its pictures are prepared.
    """
    start = time.perf_counter()
    request, data = split_body(body, header_length, settings.max_pictures * 3 * math.prod(served.size))
    _known_parameters(request.parameters)
    tensors = read_tensors(request, data, INPUTS, max(MOST_LISTED, settings.max_pictures))
    parsed = parse_request(_choices(tensors), request.parameters)
    outputs = _outputs(request, served, parsed.methods)
    methods = tuple(o.name for o in outputs if o.name not in FIGURES) or (served.cheapest,)
    methods, budget = served.explainer.checked(methods, parsed.budget)
    timeout = min(timeout, _timeout(request.parameters))
    pictures = pictures_of(tensors, served, settings, begun, timeout)
    classes = parsed.classes(len(pictures), served.explainer.manifest.classes)
    jobs = [Job(x, c, methods, budget, begun + timeout) for x, c in zip(pictures, classes, strict=True)]
    return Asked(request.id, jobs, outputs, time.perf_counter() - start, "image" in tensors)


def _known_parameters(given: Mapping[str, Any]) -> None:
    for name in given:
        if name not in OWN and name not in PASSED_OVER:
            raise bad(f"there is no parameter {shown(name)}; the parameters are {', '.join(OWN)}")
    if not isinstance(given.get("binary_data_output", False), bool):
        raise bad("the parameter binary_data_output must be true or false")


def _timeout(given: Mapping[str, Any]) -> float:
    """Seconds a request gives itself, which it says in microseconds, as Triton has it; 0 for as long as it may take."""
    wanted = given.get("timeout", 0)
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
        raise bad(f"the parameter timeout must be a whole number of microseconds, not {shown(wanted)}")
    return min(wanted, 1 << 60) / 1e6 or math.inf


def _choices(tensors: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    """Return the values of the inputs that are no pictures, flat, with texts decoded."""
    if "class_index" in tensors and tensors["class_index"].shape[1:] not in ((), (1,)):
        raise bad(
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
        raise bad(f"input {name!r} must be text in UTF-8") from None


def _outputs(request: InferRequest, served: Served, methods: tuple[str, ...]) -> list[Wanted]:
    """The outputs asked for, in order; by default maps of the methods, then the figures."""
    binary = request.parameters.get("binary_data_output", False)
    if not request.outputs:
        methods = methods or (default_method(served.methods),)
        wanted = [Wanted(name, binary) for name in (*dict.fromkeys(methods), *FIGURES)]
    else:
        wanted = [_wanted(output, served, binary) for output in request.outputs]
        extra = (m for m in dict.fromkeys(methods) if m not in {w.name for w in wanted})
        wanted += [Wanted(m, binary) for m in extra]
    names = [w.name for w in wanted]
    if len(set(names)) < len(names):
        raise bad(f"output {shown(next(n for n in names if names.count(n) > 1))} is asked for twice: ask once")
    maps = [name for name in names if name not in FIGURES]
    if len(maps) > MOST_METHODS:
        raise bad(f"{len(maps)} methods are asked for, {MOST_METHODS} are the most in a request")
    for name in maps:
        _known_output(name, served)
    return wanted


def _known_output(name: str, served: Served) -> None:
    try:
        recipe(name)
    except UsageError:
        known = ", ".join((*FIGURES, *served.methods))
        raise bad(
            f"there is no output or method {shown(name)}; there are {known}, and fusions of other parts, such as "
            "fusion_cam:layer_cam+group_cam"
        ) from None


def _wanted(output: RequestedOutput, served: Served, binary: bool) -> Wanted:
    given, name = output.parameters, shown(output.name)
    if any(key.startswith("shared_memory") for key in given):
        raise bad(f"output {name} is wanted in shared memory, which this service does not write: read it from the body")
    unknown = sorted(set(given) - {"binary_data", "classification"})
    if unknown:
        raise bad(f"output {name} has an unknown parameter {shown(unknown[0])}")
    binary, count = given.get("binary_data", binary), given.get("classification", 0)
    if not isinstance(binary, bool):
        raise bad(f"binary_data of output {name} must be true or false")
    classes = served.explainer.manifest.classes
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= classes:
        raise bad(f"classification of output {name} must be a number of classes, at most {classes}")
    if count and output.name not in ("logits", "probabilities"):
        raise bad(f"output {name} cannot be had as a classification: ask for that of logits or probabilities")
    return Wanted(output.name, binary, count)


def answered(
    name: str, served: Served, asked: Asked, found: Sequence[Explanation], begun: float
) -> tuple[bytes, int | None]:
    """The body that answers a request, and how many bytes of it are JSON where more follows.

    Args:
        name: The model's.
        served: The model.
        asked: The request.
        found: The explanation of each picture.
        begun: When the request came, in seconds of `time.monotonic()`.
    """
    first = found[0]
    parameters = {
        "label": first.label or "",
        "probability": first.probability,
        "flags": ",".join(first.flags),
        "passes": first.passes.run,
        "channels": first.passes.channels,
        "seconds": time.monotonic() - begun,
        "seconds_decode": asked.seconds,
        **{f"seconds_{stage}": seconds for stage, seconds in first.timing.items()},
    }
    head: dict[str, Any] = {"model_name": name, "model_version": VERSION, "parameters": parameters}
    if asked.id:
        head["id"] = asked.id
    return write_answer(head, [_output(wanted, served, found) for wanted in asked.outputs])


def _output(wanted: Wanted, served: Served, found: Sequence[Explanation]) -> Output:
    manifest = served.explainer.manifest
    if wanted.name == "class_index":
        values = np.array([e.class_index for e in found], np.int64)
    elif wanted.name in FIGURES:
        values = np.stack([np.asarray(e.logits, np.float32) for e in found])
        if wanted.name == "probabilities":
            values = np.stack([probabilities(row[None], manifest.ending)[0] for row in values]).astype(np.float32)
    else:
        values = np.stack([e.maps[wanted.name] for e in found])
    if wanted.classification:
        rows = [_best(row, wanted.classification, manifest.labels) for row in values]
        return Output(wanted.name, rows, wanted.binary)
    return Output(wanted.name, values, wanted.binary)


def _best(row: Array, count: int, labels: Sequence[str] | None) -> list[str]:
    """The most probable classes, each as VALUE:INDEX or VALUE:INDEX:LABEL, as Triton writes them."""
    order = np.argsort(-row, kind="stable")[:count].tolist()
    return [f"{row[c]:f}:{c}" + (f":{labels[c]}" if labels else "") for c in order]
