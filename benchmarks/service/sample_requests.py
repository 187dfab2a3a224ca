"""Requests of the clients: good ones with answers computed beforehand, and bad ones with the status they get."""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fusioncam import Explainer
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.photos.decode import read_image
from fusioncam.runtime.photos.model_input import as_input

MAP = "fusion_cam"
HEADER_LENGTH = "Inference-Header-Content-Length"
BINARY, JSON = "application/octet-stream", "application/json"
TOO_MUCH = 1 << 30  # bytes: more than any --max-body here

Encode = Callable[..., bytes]
"""Returns a request for an explanation, from a model, an input, a case, and parameters: see `infer_request`."""


@dataclass(frozen=True, eq=False)
class SampleRequest:
    """One kind of request.

    Attributes:
        kind: The name of the kind in the report.
        raw: The whole request, ready to be sent.
        statuses: Allowed statuses of the answer, besides 503 for a full queue.
        wanted: The map (H, W) that a good request gets, and the class.
        leaves: Whether the client leaves before the answer.
        closes: Whether the service closes the connection after the request.
    """

    kind: str
    raw: bytes
    statuses: tuple[int, ...] = (200,)
    wanted: tuple[Any, int] | None = None
    leaves: bool = False
    closes: bool = False


@dataclass(frozen=True)
class Case:
    """A picture, a class, methods and a budget of a good request."""

    photo: Path
    class_index: int
    methods: tuple[str, ...]
    budget: int | str


def cases(photos: Sequence[Path], classes: int, budgets: Sequence[int | str], count: int) -> list[Case]:
    """Return cases of different pictures, classes, methods and budgets, always the same ones."""
    methods = ((MAP,), (MAP, "grad_cam"), (MAP, "score_cam"), (MAP, "layer_cam", "score_cam"))
    kinds = zip(itertools.cycle(photos), itertools.cycle((-1, -1, 1)), strict=False)
    rng = np.random.default_rng(0)
    return [
        Case(photo, min(c, classes - 1), methods[rng.integers(len(methods))], budgets[rng.integers(len(budgets))])
        for photo, c in itertools.islice(kinds, count)
    ]


def explain_offline(explainer: Explainer, cases: Sequence[Case]) -> Iterator[Any]:
    """Yield explanations without the service, as of `explain_batch`, with budget and methods for each picture."""
    pipeline = explainer.pipeline
    requests = (ExplainRequest(read_image(w.photo), [w.class_index], w.methods, w.budget) for w in cases)  # type: ignore[arg-type]
    for (explanation,) in pipeline.run(map(pipeline.task, requests), explainer.methods):
        yield explanation


def good_requests(
    model: str, explainer: Explainer, cases: Sequence[Case], explanations: Sequence[Any], encode: Encode
) -> list[SampleRequest]:
    """Return requests for cases, as files and as tensors, with the explanations that were made offline."""
    requests = []
    for n, (case, explanation) in enumerate(zip(cases, explanations, strict=True)):
        x = as_input(read_image(case.photo), explainer.manifest.preprocessing)[1]
        inputs = {"image_bytes": case.photo.read_bytes()} if n % 3 else {"image": x}
        raw = encode(model, inputs, case)
        wanted = np.asarray(explanation.maps[MAP]), explanation.class_index
        requests.append(SampleRequest("tensor" if n % 3 == 0 else "file", raw, wanted=wanted))
    return requests


def bad_requests(model: str, first: Case, slow: Case, encode: Encode) -> list[SampleRequest]:
    """Return requests that the service refuses, and one whose client leaves."""
    file = first.photo.read_bytes()

    def of(kind: str, status: int, data: bytes = file, name: str = model, **parameters: Any) -> SampleRequest:
        return SampleRequest(kind, encode(name, {"image_bytes": data}, first, **parameters), (status,))

    _, jpeg = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))
    return [
        of("no picture", 400, b"this is no picture"),
        of("half a picture", 400, jpeg.tobytes()[: len(jpeg) // 2]),
        of("unknown model", 404, name="nobody"),
        of("unknown method", 400, method="magic_cam"),
        of("unknown class", 400, class_index=10**6),
        of("no budget", 400, budget="plenty"),
        of("no time", 504, timeout=1000),
        SampleRequest("leaves", encode(model, {"image_bytes": file}, slow), leaves=True),
    ]


def bad_bodies(model: str) -> list[SampleRequest]:
    """Return requests over HTTP that are refused for their bodies."""
    oversize = f"POST {infer_path(model)} HTTP/1.1\r\nHost: s\r\nContent-Length: {TOO_MUCH}\r\n\r\n"
    return [
        SampleRequest("no JSON", http_request(infer_path(model), b'{"inputs": [', {"Content-Type": JSON}), (400,)),
        SampleRequest("too large a body", oversize.encode(), (413,), closes=True),
    ]


def infer_request(model: str, inputs: Mapping[str, Any], case: Case, **parameters: Any) -> bytes:
    """Return a request for an explanation, with its tensor in binary."""
    ((name, value),) = inputs.items()
    if isinstance(value, bytes):
        data, kind, shape = len(value).to_bytes(4, "little") + value, "BYTES", [1]
    else:
        data, kind, shape = value.tobytes(), "FP32", [1, *value.shape]
    tensor = {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
    told = {"class_index": case.class_index, "method": ",".join(case.methods), "budget": str(case.budget)}
    outputs = [{"name": each, "parameters": {"binary_data": True}} for each in (*case.methods, "class_index")]
    head = {"inputs": [tensor], "outputs": outputs, "parameters": {**told, **parameters}}
    text = json.dumps(head).encode()
    return http_request(infer_path(model), text + data, {HEADER_LENGTH: str(len(text)), "Content-Type": BINARY})


def infer_path(model: str) -> str:
    """Return the path of the explanations of a model."""
    return f"/v2/models/{model}/infer"


def http_request(where: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a POST request as bytes."""
    told = {"Host": "s", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {where} HTTP/1.1\r\n{lines}\r\n".encode() + body


def map_difference(sample: SampleRequest, headers: Mapping[str, str], body: bytes) -> float:
    """Return the largest difference of an answer's map from the right one; infinity without a map of the class."""
    assert sample.wanted is not None
    wanted, c = sample.wanted
    length = int(headers[HEADER_LENGTH.lower()])
    outputs = {o["name"]: o for o in json.loads(body[:length])["outputs"]}
    data, arrays = memoryview(body)[length:], {}
    for name, output in outputs.items():
        size = output["parameters"]["binary_data_size"]
        arrays[name], data = data[:size], data[size:]
    found = np.frombuffer(arrays[MAP], np.float32)
    if found.size != wanted.size or int(np.frombuffer(arrays["class_index"], np.int64)[0]) != c:
        return float("inf")
    return float(np.abs(found - wanted.ravel()).max())
