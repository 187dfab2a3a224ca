"""What the clients ask: good requests with their answers computed beforehand, and bad ones with the status they get."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
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


@dataclass(frozen=True, eq=False)
class Asked:
    """One kind of request.

    Attributes:
        kind: Its name in the report.
        raw: All of it, ready to be sent.
        statuses: What it may be answered with, besides 503 for a full queue.
        wanted: The map (H, W) of a good one, and the class.
        leaves: Whether the client does not wait for the answer.
        closes: Whether the service closes the connection after it.
    """

    kind: str
    raw: bytes
    statuses: tuple[int, ...] = (200,)
    wanted: tuple[Any, int] | None = None
    leaves: bool = False
    closes: bool = False


@dataclass(frozen=True)
class Work:
    """What a good request asks for: a picture, a class, methods and a budget."""

    photo: Path
    class_index: int
    methods: tuple[str, ...]
    budget: int | str


def works(photos: Sequence[Path], classes: int, budgets: Sequence[int | str], count: int) -> list[Work]:
    """Different pictures, classes, methods and budgets, always the same ones."""
    methods = ((MAP,), (MAP, "grad_cam"), (MAP, "score_cam"), (MAP, "layer_cam", "score_cam"))
    kinds = zip(itertools.cycle(photos), itertools.cycle((-1, -1, 1)), strict=False)
    rng = np.random.default_rng(0)
    return [
        Work(photo, min(c, classes - 1), methods[rng.integers(len(methods))], budgets[rng.integers(len(budgets))])
        for photo, c in itertools.islice(kinds, count)
    ]


def explain_all(explainer: Explainer, given: Sequence[Work]) -> Iterator[Any]:
    """The offline way: what `explain_batch` does, with a budget and methods for each picture."""
    pipeline = explainer.pipeline
    requests = (ExplainRequest(read_image(w.photo), [w.class_index], w.methods, w.budget) for w in given)  # type: ignore[arg-type]
    for (found,) in pipeline.run(map(pipeline.task, requests), explainer.methods):
        yield found


def good(model: str, explainer: Explainer, given: Sequence[Work], found: Sequence[Any]) -> list[Asked]:
    """Requests for works, as files and as tensors, with the answers that were found offline."""
    asked = []
    for n, (work, explanation) in enumerate(zip(given, found, strict=True)):
        x = as_input(read_image(work.photo), explainer.manifest.preprocessing)[1]
        inputs = {"image_bytes": work.photo.read_bytes()} if n % 3 else {"image": x}
        raw = infer(model, inputs, work)
        wanted = np.asarray(explanation.maps[MAP]), explanation.class_index
        asked.append(Asked("tensor" if n % 3 == 0 else "file", raw, wanted=wanted))
    return asked


def bad(model: str, first: Work, slow: Work) -> list[Asked]:
    """Requests that no explanation can come of."""
    file = first.photo.read_bytes()

    def of(kind: str, status: int, data: bytes = file, name: str = model, **parameters: Any) -> Asked:
        return Asked(kind, infer(name, {"image_bytes": data}, first, **parameters), (status,))

    _, jpeg = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8))
    oversize = f"POST {path(model)} HTTP/1.1\r\nHost: s\r\nContent-Length: {TOO_MUCH}\r\n\r\n"
    return [
        of("no picture", 400, b"this is no picture"),
        of("half a picture", 400, jpeg.tobytes()[: len(jpeg) // 2]),
        of("unknown model", 404, name="nobody"),
        of("unknown method", 400, method="magic_cam"),
        of("unknown class", 400, class_index=10**6),
        of("no budget", 400, budget="plenty"),
        of("no time", 504, timeout=1000),
        Asked("no JSON", request(path(model), b'{"inputs": [', {"Content-Type": JSON}), (400,)),
        Asked("too large a body", oversize.encode(), (413,), closes=True),
        Asked("leaves", infer(model, {"image_bytes": file}, slow), leaves=True),
    ]


def infer(model: str, inputs: Mapping[str, Any], work: Work, **parameters: Any) -> bytes:
    """A request for an explanation, with its tensor in binary."""
    ((name, value),) = inputs.items()
    if isinstance(value, bytes):
        data, kind, shape = len(value).to_bytes(4, "little") + value, "BYTES", [1]
    else:
        data, kind, shape = value.tobytes(), "FP32", [1, *value.shape]
    tensor = {"name": name, "datatype": kind, "shape": shape, "parameters": {"binary_data_size": len(data)}}
    told = {"class_index": work.class_index, "method": ",".join(work.methods), "budget": str(work.budget)}
    outputs = [{"name": each, "parameters": {"binary_data": True}} for each in (*work.methods, "class_index")]
    head = {"inputs": [tensor], "outputs": outputs, "parameters": {**told, **parameters}}
    text = json.dumps(head).encode()
    return request(path(model), text + data, {HEADER_LENGTH: str(len(text)), "Content-Type": BINARY})


def path(model: str) -> str:
    """Where a model's explanations are asked for."""
    return f"/v2/models/{model}/infer"


def request(where: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A POST request as it goes over the wire."""
    told = {"Host": "s", "Content-Length": str(len(body)), **headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
    return f"POST {where} HTTP/1.1\r\n{lines}\r\n".encode() + body


def difference(asked: Asked, headers: Mapping[str, str], body: bytes) -> float:
    """How far an answer's map is from the one wanted, at most; infinite where it is none, or of another class."""
    assert asked.wanted is not None
    wanted, c = asked.wanted
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
