"""The outputs of an explanation: those that a request asks for, and their tensors in the answer."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fusioncam.errors import UsageError
from fusioncam.forms import SIDES, Kind
from fusioncam.kernels.arrays import Array, Float64Array
from fusioncam.kernels.reference import probabilities
from fusioncam.runtime.arguments import quote
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.methods import recipe
from fusioncam.runtime.service.protocol.request_parser import default_method
from fusioncam.runtime.service.protocol.schemas import InferRequest, RequestedOutput
from fusioncam.runtime.service.protocol.tensors import DTYPES, Output, check_parameters
from fusioncam.runtime.service.served_model import ServedModel

FIGURES = {
    "logits": "FP32",
    "probabilities": "FP32",
    "class_index": "INT64",
    "score": "FP32",
    "confidence": "FP32",
    "title": "BYTES",
    "label": "BYTES",
    "box": "FP32",
    "detection_score": "FP32",
    "detections": "BYTES",
    "area": "FP32",
    "region": "FP32",
}
"""Outputs that are no maps of a method, and are there without one."""
FIGURES_OF: Mapping[Kind, tuple[str, ...]] = {
    "vector": ("logits", "probabilities", "class_index"),
    "maps": ("class_index", "score", "confidence", "title", "area", "region"),
    "embedding": ("class_index", "score", "confidence", "title"),
    "boxes": ("class_index", "label", "score", "confidence", "box", "detection_score", "title", "detections"),
}
"""The figures of each form of outputs."""
ON_REQUEST = ("region", "detections")
"""Figures that are left out of answers, unless they are asked for."""
VERDICT = "verdict"
EXPLAINED = "explained"
NO_MAPS = {**FIGURES, VERDICT: "BYTES", EXPLAINED: "INT64"}
"""All outputs that are no maps of a method."""
MOST_METHODS = 32


@dataclass(frozen=True)
class OutputSpec:
    """An output that a request asks for.

    Attributes:
        name: Its name.
        binary: Whether it goes behind the JSON.
        classification: Number of the most probable classes, as texts, in place of the figures; 0 for the figures.
    """

    name: str
    binary: bool
    classification: int = 0


def output_specs(
    request: InferRequest, model: ServedModel, methods: tuple[str, ...], conditional: bool
) -> list[OutputSpec]:
    """Return the outputs of a request, in order; by default maps of its methods, then the figures.

    The parameter `verify` asks for the verdict besides; a condition for `explained`, where there are more than figures.

    Raises:
        UsageError: An output is unknown, or asked for twice, or there are too many; or `verify` is no true or false.
    """
    binary, verify = (request.parameters.get(name, False) for name in ("binary_data_output", "verify"))
    if not isinstance(verify, bool):
        raise UsageError(f"the parameter verify must be true or false, not {quote(verify)}")
    for name in methods:
        if name in NO_MAPS:
            raise UsageError(f"{quote(name)} is no method: ask for it as an output")
    if not request.outputs:
        methods = methods or (default_method(model.methods),)
        usual = [name for name in FIGURES_OF[model.manifest.form.kind] if name not in ON_REQUEST]
        specs = [OutputSpec(name, binary) for name in (*dict.fromkeys(methods), *usual)]
    else:
        specs = [_spec(output, model.manifest.classes, binary) for output in request.outputs]
        _check_figures(specs, model)
        requested = {spec.name for spec in specs}
        specs += [OutputSpec(m, binary) for m in dict.fromkeys(methods) if m not in requested]
    names = [spec.name for spec in specs]
    if verify and VERDICT not in names:
        names.append(VERDICT)
    if conditional and more_than_figures(names) and EXPLAINED not in names:
        names.append(EXPLAINED)
    specs += [OutputSpec(name, binary) for name in names[len(specs) :]]
    if len(set(names)) < len(names):
        raise UsageError(f"output {quote(next(n for n in names if names.count(n) > 1))} is asked for twice: ask once")
    maps = [name for name in names if name not in NO_MAPS]
    if len(maps) > MOST_METHODS:
        raise UsageError(f"{len(maps)} methods are asked for, {MOST_METHODS} are the most in a request")
    for name in maps:
        _check_method(name, model)
    return specs


def available_outputs(model: ServedModel) -> dict[str, str]:
    """Return the outputs of a model that are no maps of a method, with their datatypes."""
    own = FIGURES_OF[model.manifest.form.kind]
    return {name: datatype for name, datatype in NO_MAPS.items() if name in own or name not in FIGURES}


def _check_figures(specs: Sequence[OutputSpec], model: ServedModel) -> None:
    """Raise UsageError where an output is none of this model's."""
    known = available_outputs(model)
    for name in (spec.name for spec in specs if spec.name in FIGURES and spec.name not in known):
        raise UsageError(f"output {name!r} does not fit this model: there are {', '.join((*known, *model.methods))}")


def more_than_figures(names: Iterable[str]) -> bool:
    """Return whether outputs depend on the condition of a request: figures of the prediction do not."""
    return not FIGURES.keys() >= set(names)


def _check_method(name: str, model: ServedModel) -> None:
    try:
        recipe(name)
    except UsageError:
        known = ", ".join((*available_outputs(model), *model.methods))
        raise UsageError(
            f"there is no output or method {quote(name)}; there are {known}, and fusions of other parts, such as "
            "fusion_cam:layer_cam+group_cam"
        ) from None


def _spec(output: RequestedOutput, classes: int, binary: bool) -> OutputSpec:
    parameters, name = output.parameters, quote(output.name)
    check_parameters(f"output {name}", parameters, {"binary_data", "classification"})
    binary, count = parameters.get("binary_data", binary), parameters.get("classification", 0)
    if not isinstance(binary, bool):
        raise UsageError(f"binary_data of output {name} must be true or false")
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= classes:
        raise UsageError(f"classification of output {name} must be a number of classes, at most {classes}")
    if count and output.name not in ("logits", "probabilities"):
        raise UsageError(f"output {name} is unavailable as a classification: ask for that of logits or probabilities")
    return OutputSpec(output.name, binary, count)


def is_explained(explanation: Explanation) -> bool:
    """Return False where no map was made: the condition of its request does not hold, or nothing is detected."""
    return not {"not_explained", "nothing_detected"} & {*explanation.flags}


def made_outputs(specs: Sequence[OutputSpec], explanations: Sequence[Explanation]) -> list[OutputSpec]:
    """Return the outputs that there are: all of them, or those without a map where the condition holds for nothing."""
    if any("not_explained" not in e.flags for e in explanations):
        return list(specs)
    return [spec for spec in specs if spec.name in NO_MAPS and spec.name != VERDICT]


def output_tensor(spec: OutputSpec, model: ServedModel, explanations: Sequence[Explanation]) -> Output:
    """Return the tensor of an output, with a row for each explanation: zeros, or `null`, where no map was made."""
    if spec.name in _TEXTS:
        return Output(spec.name, [[_TEXTS[spec.name](e)] for e in explanations], spec.binary)
    if spec.name in _NUMBERS:
        datatype, read = NO_MAPS[spec.name], _NUMBERS[spec.name]
        values = np.array([read(e) for e in explanations], DTYPES[datatype])
        values = values.reshape(-1, SIDES) if spec.name == "box" else values  # of no detection, too
    elif spec.name in FIGURES:
        values = np.stack([np.asarray(e.logits, np.float32) for e in explanations])
        if spec.name == "probabilities":
            ending = model.manifest.ending
            values = np.stack([probabilities(row[None], ending)[0] for row in values]).astype(np.float32)
    else:
        values = np.stack(
            [e.maps[spec.name] if is_explained(e) else np.zeros(_size(e, model), np.float32) for e in explanations]
        )
    if spec.classification:
        rows = [_best_classes(row, spec.classification, model.manifest.labels) for row in values]
        return Output(spec.name, rows, spec.binary)
    return Output(spec.name, values, spec.binary)


def _verdict(e: Explanation) -> str:
    return json.dumps(None if e.verdict is None else e.verdict.summary())


def _area(e: Explanation) -> float:
    """Return the share of what the model sees that lies in the region."""
    region = None if e.target is None else e.target.region
    return 0.0 if region is None else float(region.mean())


def _detections(e: Explanation) -> str:
    return json.dumps([detection.summary() for detection in e.detections])


def hull_of(e: Explanation) -> Float64Array | None:
    """Return the box of a detection, or the one around several, x1, y1, x2, y2 on the photo; None of other targets."""
    boxes = e.boxes
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)]) if len(boxes) else None


def best_score(e: Explanation) -> float:
    """Return the detector's own score of a detection, or the highest of several."""
    return max((detection.score for detection in e.detections), default=0.0)


_TEXTS: Mapping[str, Callable[[Explanation], str]] = {
    VERDICT: _verdict,
    "title": lambda e: e.title,
    "label": lambda e: e.label or "",
    "detections": _detections,
}
_NUMBERS: Mapping[str, Callable[[Explanation], Any]] = {
    "class_index": lambda e: e.class_index,
    EXPLAINED: is_explained,
    "score": lambda e: e.score,
    "confidence": lambda e: e.probability,
    "area": _area,
    "box": lambda e: np.zeros(SIDES) if (hull := hull_of(e)) is None else hull,
    "detection_score": best_score,
    "region": lambda e: e.region_share,
}


def _size(explanation: Explanation, model: ServedModel) -> tuple[int, ...]:
    return model.size if explanation.preprocessing is None else explanation.preprocessing.size


def _best_classes(row: Array, count: int, labels: Sequence[str] | None) -> list[str]:
    """Return the most probable classes, each as VALUE:INDEX or VALUE:INDEX:LABEL, as Triton writes them."""
    order = np.argsort(-row, kind="stable")[:count].tolist()
    return [f"{row[c]:f}:{c}" + (f":{labels[c]}" if labels else "") for c in order]
