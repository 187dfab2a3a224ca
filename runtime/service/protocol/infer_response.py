"""The answer to a request for explanations: maps, logits, probabilities and classes as tensors."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from fusioncam.kernels.arrays import Array
from fusioncam.kernels.reference import probabilities
from fusioncam.runtime.explanation import Explanation
from fusioncam.runtime.service.protocol.prepared_request import FIGURES, OutputSpec, PreparedRequest
from fusioncam.runtime.service.protocol.tensors import Output, write_answer
from fusioncam.runtime.service.served_model import VERSION, ServedModel


def infer_response(
    name: str, served: ServedModel, asked: PreparedRequest, found: Sequence[Explanation], begun: float
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


def _output(wanted: OutputSpec, served: ServedModel, found: Sequence[Explanation]) -> Output:
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
