"""The JSON of KServe's first protocol, TensorFlow Serving's: instances in, predictions and explanations out."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import from_json, to_json

from fusioncam.errors import UsageError
from fusioncam.kernels.reference import probabilities
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.protocol.outputs import best_score, hull_of, is_explained
from fusioncam.runtime.service.protocol.prepared_request import PreparedRequest
from fusioncam.runtime.service.protocol.schemas import (
    Datatype,
    InferRequest,
    InputTensor,
    Parameters,
    StrictPart,
    first_error,
)
from fusioncam.runtime.service.protocol.targets import TARGET_INPUTS
from fusioncam.runtime.service.served_model import ServedModel

PHOTO, ARRAY = "image_bytes", "image"  # members of an instance, and inputs of the second protocol
BESIDE: Mapping[str, Datatype] = {"class_index": "INT64", **TARGET_INPUTS}
SHAPES = (
    'an instance is a photo, {"image_bytes": {"b64": "..."}}, or a preprocessed picture, {"image": [[[...]]]}; '
    "class_index, or another input that names a target, may stand beside it"
)


class Instances(StrictPart):
    """The JSON of a request; `parameters` are those of the second protocol.

    An instance is `{"image_bytes": {"b64": "..."}}`, a photo, or `{"image": [[[...]]]}`, preprocessed.
    `class_index` may stand beside it.
    """

    instances: list[Any] = Field(min_length=1, max_length=1024)
    parameters: Parameters = Field({})
    signature_name: str = ""  # of TensorFlow's clients: there is one signature


class Predictions(BaseModel):
    """The JSON of a prediction: per instance `class_index`, `label`, `probability` and `probabilities`.

    Of a detector, an instance has `detections`, with `class_index`, `label`, `probability`, `title`, `score`, `box` and
    `detection_score`; where there is none, `nothing_detected` says why.
    """

    predictions: list[dict[str, Any]]


class Explanations(Predictions):
    """The JSON of an explanation: per instance also the maps by method, nested (H, W), the flags, and the passes.

    Of a detector, an instance has them for each of its `detections`.
    """

    explanations: list[dict[str, Any]]


def read_instances(text: bytes) -> InferRequest:
    """Return the request of the second protocol that says the same as a body.

    Raises:
        UsageError: The text is no JSON, or something is missing, superfluous or of the wrong type.
    """
    try:
        members = from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise UsageError(f"the request's JSON cannot be read: {error}") from None
    if isinstance(members, dict) and "inputs" in members and "instances" not in members:
        members["instances"] = members.pop("inputs")  # TensorFlow's other word
    try:
        asked = Instances.model_validate(members)
    except ValidationError as error:
        raise UsageError(f"{first_error(error)}; {SHAPES}") from None
    return InferRequest(inputs=_inputs(asked.instances), parameters=asked.parameters)


def _inputs(instances: Sequence[Any]) -> list[InputTensor]:
    """Return the instances as tensors."""
    read = [_members(instance) for instance in instances]
    kinds = {kind for kind, _, _ in read}
    if len(kinds) > 1:
        raise UsageError("the instances are photos and preprocessed pictures: send one kind at a time")
    kind, count = kinds.pop(), len(read)
    values = [value for _, value, _ in read]
    if kind == PHOTO:
        inputs = [InputTensor(name=PHOTO, shape=[count], datatype="BYTES", data=values)]
    else:
        inputs = [InputTensor(name=ARRAY, shape=[count, *_shape(values[0])], datatype="FP32", data=values)]
    beside = [
        {"class_index": -1, **named} if "class_index" in {*chain(*(n for *_, n in read))} else named
        for *_, named in read
    ]
    for name in dict.fromkeys(chain(*beside)):
        if any(name not in named for named in beside):
            raise UsageError(f"{name} stands beside some instances only: give it in all of them")
        rows = [named[name] for named in beside]
        shape = [count] if BESIDE[name] == "BYTES" else [count, *_shape(rows[0])]
        inputs.append(InputTensor(name=name, shape=shape, datatype=BESIDE[name], data=rows))
    return inputs


def _members(instance: Any) -> tuple[str, Any, dict[str, Any]]:
    """Return the kind of an instance, its picture as JSON of the second protocol has it, and what names its target."""
    members = {ARRAY: instance} if isinstance(instance, list) else instance
    if not isinstance(members, dict):
        raise UsageError(f"an instance is {quote(instance)}; {SHAPES}")
    named = {name: _file_text(value) for name, value in members.items() if name in BESIDE and value is not None}
    members = {name: value for name, value in members.items() if name not in BESIDE}
    if len(members) != 1 or not members.keys() <= {PHOTO, ARRAY, "b64"}:
        raise UsageError(f"an instance has the members {quote(sorted(members))}; {SHAPES}")
    ((name, value),) = members.items()
    if value is not (text := _file_text(value)):
        name, value = "b64", text
    return (PHOTO if name == "b64" or isinstance(value, str) else name), value, named


def _file_text(value: Any) -> Any:
    """Return the base64 of a file, `{"b64": "..."}`; any other value as it is."""
    return value["b64"] if isinstance(value, dict) and set(value) == {"b64"} else value


def _shape(value: Any) -> list[int]:
    """Return the shape of a nested list, as far as its first entries show it."""
    shape: list[int] = []
    while isinstance(value, list) and value and len(shape) < 7:
        shape.append(len(value))
        value = value[0]
    return shape


def write_instances(
    model: ServedModel,
    prepared: PreparedRequest,
    of_pictures: Sequence[Sequence[Explanation]],
    begun: float,
    methods: Sequence[str] | None,
) -> bytes:
    """Return the body of an answer.

    Args:
        model: The model.
        prepared: The request.
        of_pictures: The explanations of each instance: one, or of a detector any number.
        begun: Time of the request, in seconds of `time.monotonic()`.
        methods: The maps that were asked for; None where only predictions are.
    """

    def each(entry: Callable[[Explanation], dict[str, Any]]) -> list[dict[str, Any]]:
        if model.manifest.detector is None:
            return [entry(explanations[0]) for explanations in of_pictures]
        return [_of_detector(entry, explanations) for explanations in of_pictures]

    answer: dict[str, Any] = {"predictions": each(partial(_prediction, model))}
    if methods is not None:
        answer["explanations"] = each(partial(_explanation, prepared, methods=methods, begun=begun))
    return to_json(answer, inf_nan_mode="null")


def _of_detector(entry: Callable[[Explanation], dict[str, Any]], explanations: Sequence[Explanation]) -> dict[str, Any]:
    """Return the entry of an instance: those of its detections, or why there is none."""
    missing = [e.title for e in explanations if "nothing_detected" in e.flags]
    if missing:
        return {"detections": [], "nothing_detected": missing[0]}
    return {"detections": [entry(e) for e in explanations]}


def _prediction(model: ServedModel, e: Explanation) -> dict[str, Any]:
    said = {"class_index": e.class_index, "label": e.label or "", "probability": e.probability}
    if e.logits is None:
        found = {} if (box := hull_of(e)) is None else {"box": box.tolist(), "detection_score": best_score(e)}
        return {**said, "title": e.title, "score": e.score, **found}
    logits = np.asarray(e.logits, np.float32)
    return {**said, "probabilities": probabilities(logits[None], model.manifest.ending)[0].tolist()}


def _explanation(prepared: PreparedRequest, e: Explanation, methods: Sequence[str], begun: float) -> dict[str, Any]:
    maps = {method: e.maps[method].tolist() for method in methods} if is_explained(e) else {}
    verdict = {} if e.verdict is None else {"verdict": e.verdict.summary()}
    return {"class_index": e.class_index, "maps": maps, **prepared.parameters(e, begun), **verdict}
