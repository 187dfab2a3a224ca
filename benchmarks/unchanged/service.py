"""The service's answers over HTTP, from a process of its own."""

import base64
import gzip
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np

from unchanged.commands import ENVIRONMENT, FIXED
from unchanged.digests import Digests, keys, untimed
from unchanged.subjects import HALF, Subjects, prepared
from unchanged.tree import lookup

LENGTH = "Inference-Header-Content-Length"
INFER = "/v2/models/m/infer"
PATHS = (
    "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/m", "/v2/models/m/versions/1", "/v2/models/m/ready",
    "/v2/models/m/config", "/v2/models/half", "/v2/models/half/config", "/v2/models/nothing", "/v2/models/m/versions/2",
    "/nowhere", "/v2?a=b", "/", INFER,
)  # fmt: skip
TEXTS = ("description", "summary", "title", "detail")  # prose in openapi.json, which may be edited

Tensor = tuple[str, str, Sequence[int], bytes]


@contextmanager
def served(subjects: Subjects) -> Iterator[httpx.Client]:
    """Serve the small bundle as `m`, and one with scores in float16 as `half`; give a client."""
    models = (f"m={subjects.small.folder}", f"half={subjects.bundles[HALF].folder}")
    command = [sys.executable, "-m", "fusioncam", "serve", *models, "--port", "0", "--json", "-q", *FIXED]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **ENVIRONMENT})
    try:
        assert process.stdout is not None
        told = "".join(iter(process.stdout.readline, "}\n")) + "}"
        with httpx.Client(base_url=json.loads(told)["address"], timeout=120) as client:
            yield client
    finally:
        process.terminate()
        process.wait(60)


def run(digests: Digests, subjects: Subjects) -> None:
    """Add what the service says of itself, its answers, and its refusals."""
    with digests.part("service"), served(subjects) as client:
        for path in PATHS:
            _add(digests, f"service/GET {path}", client.get(path))
        _add(digests, "service/index", client.post("/v2/repository/index"))
        digests.add("service/openapi", _without_texts(client.get("/openapi.json").json()))
        for group, requests in (("answers", _sound(subjects)), ("refusals", _bad(subjects))):
            for name, sent in requests.items():
                with digests.part(f"service/{group}/{name}"):
                    path = sent.pop("path", INFER)
                    _add(digests, f"service/{group}/{name}", client.post(path, **sent))
        digests.add("service/stats", keys(client.get("/v2/models/stats").json()))
        names = re.findall(r"^fusioncam_\w+(?:\{[^}]*\})?", client.get("/metrics").text, re.MULTILINE)
        digests.add("service/metrics", sorted(set(names)))


def _add(digests: Digests, name: str, answer: httpx.Response) -> None:
    """Add status and body; the text of an error apart, and the bytes that follow JSON as they are."""
    said = {h: answer.headers.get(h) for h in ("content-type", "content-encoding", "allow", "retry-after")}
    digests.add(f"{name}/status", [answer.status_code, said])
    if answer.headers.get("content-type", "").startswith("text/html"):
        digests.add(f"{name}/body", answer.content)
        return
    length = int(answer.headers.get(LENGTH, len(answer.content)))
    told = untimed(json.loads(answer.content[:length]))
    if isinstance(told, dict) and "error" in told:
        digests.add(f"{name}/text", told["error"])
    else:
        digests.add(f"{name}/json", told)
        digests.add(f"{name}/binary", answer.content[length:])


def _without_texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_texts(v) for k, v in value.items() if not (k in TEXTS and isinstance(v, str))}
    return [_without_texts(v) for v in value] if isinstance(value, list) else value


def element(data: bytes) -> bytes:
    """Return an element of a BYTES tensor."""
    return struct.pack("<I", len(data)) + data


def _behind(*tensors: Tensor, **head: Any) -> dict[str, Any]:
    """Return body and headers of a request whose tensors follow the JSON."""
    inputs = [
        {"name": n, "datatype": t, "shape": list(s), "parameters": {"binary_data_size": len(b)}}
        for n, t, s, b in tensors
    ]
    text = json.dumps({"inputs": inputs, **head}).encode()
    return {"content": text + b"".join(b for *_, b in tensors), "headers": {LENGTH: str(len(text))}}


def _sound(subjects: Subjects) -> dict[str, dict[str, Any]]:
    photo = subjects.photos[0].read_bytes()
    x = prepared(subjects.photos[0], lookup("read_bundle")(subjects.small.folder).preprocessing)
    image: Tensor = ("image", "FP32", (1, *x.shape), x.tobytes())
    two: Tensor = ("image", "FP32", (2, *x.shape), x.tobytes() + x[:, ::-1].tobytes())
    in_json = {"name": "image", "shape": [1, *x.shape], "datatype": "FP32", "data": x.reshape(-1).tolist()}
    as_text = {"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(photo).decode()]}
    binary = {"parameters": {"binary_data_output": True}}
    every = ",".join(lookup("every_method"))
    outputs = [
        {"name": "logits"},
        {"name": "layer_cam", "parameters": {"binary_data": True}},
        {"name": "class_index", "parameters": {"binary_data": True}},
        {"name": "probabilities", "parameters": {"classification": 3}},
    ]
    packed = gzip.compress(json.dumps({"inputs": [in_json], "parameters": {"method": "grad_cam"}}).encode())
    return {
        "a photo alone": {"content": photo, "headers": {LENGTH: "0"}},
        "a photo in base64": {"json": {"inputs": [as_text], "id": "mine"}},
        "json": {"json": {"inputs": [in_json], "parameters": {"method": "fusion_cam, grad_cam", "class_index": 3}}},
        "every method": _behind(image, parameters={"method": every, "binary_data_output": True}),
        "outputs": _behind(image, outputs=outputs),
        "figures alone": _behind(image, outputs=[{"name": "logits"}, {"name": "probabilities"}]),
        "budgets": _behind(image, ("budget", "BYTES", (1,), element(b"0.2")), **binary),
        "auto": _behind(image, parameters={"budget": "auto", "method": "score_cam,union_cam"}),
        "passes": _behind(image, parameters={"budget": 24, "method": "score_cam"}),
        "two pictures": _behind(two, ("class_index", "INT64", (2,), np.array([1, -1]).tobytes()), **binary),
        "methods": _behind(
            image, ("method", "BYTES", (2,), element(b"layer_cam") + element(b"fusion_cam:layer_cam+group_cam:20"))
        ),
        "packed": {"content": packed, "headers": {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}},
        "half precision": {"content": photo, "headers": {LENGTH: "0"}, "path": "/v2/models/half/infer"},
    }


def _bad(subjects: Subjects) -> dict[str, dict[str, Any]]:
    photo = subjects.photos[0].read_bytes()
    size = lookup("read_bundle")(subjects.small.folder).preprocessing.size
    shape, values = [1, 3, *size], int(np.prod(size)) * 3
    zeros = {"name": "image", "shape": shape, "datatype": "FP32", "data": [0] * values}
    nan: Tensor = ("image", "FP32", shape, np.full(values, np.nan, np.float32).tobytes())
    told: dict[str, dict[str, Any]] = {
        "no inputs": {"inputs": []},
        "unknown member": {"inputs": [zeros], "more": 1},
        "unknown input": {"inputs": [{**zeros, "name": "picture"}]},
        "twice": {"inputs": [zeros, zeros]},
        "datatype": {"inputs": [{**zeros, "datatype": "INT64"}]},
        "shape": {"inputs": [{**zeros, "shape": [1, 3, 5, 5]}]},
        "too few": {"inputs": [{**zeros, "data": [0]}]},
        "ragged": {"inputs": [{**zeros, "data": [[1, 2], [3]]}]},
        "far": {"inputs": [{**zeros, "data": [1e30] * values}]},
        "not base64": {"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["?"]}]},
        "no photo": {"inputs": [{"name": "image_bytes", "shape": [1], "datatype": "BYTES", "data": ["AAAA"]}]},
        "parameter": {"inputs": [zeros], "parameters": {"clas_index": 1}},
        "class": {"inputs": [zeros], "parameters": {"class_index": 10}},
        "class text": {"inputs": [zeros], "parameters": {"class_index": "cat"}},
        "method": {"inputs": [zeros], "parameters": {"method": "camera"}},
        "recipe": {"inputs": [zeros], "parameters": {"method": "fusion_cam:a+b"}},
        "budget": {"inputs": [zeros], "parameters": {"budget": "much"}},
        "small budget": {"inputs": [zeros], "parameters": {"budget": 1}},
        "budget of all classes": {
            "inputs": [zeros], "parameters": {"budget": "auto", "method": "score_cam_probability"},
        },
        "timeout": {"inputs": [zeros], "parameters": {"timeout": -1}},
        "output": {"inputs": [zeros], "outputs": [{"name": "saliency"}]},
        "output twice": {"inputs": [zeros], "outputs": [{"name": "logits"}] * 2},
        "classification": {
            "inputs": [zeros], "outputs": [{"name": "logits", "parameters": {"classification": 11}}],
        },
    }  # fmt: skip
    return {name: {"json": said} for name, said in told.items()} | {
        "empty": {"content": b""},
        "no json": {"content": b"picture"},
        "list": {"content": b"[]"},
        "length": {"content": b"{}", "headers": {LENGTH: "3"}},
        "photo without header": {"content": photo},
        "cut short": {"content": photo[:2000], "headers": {LENGTH: "0"}},
        "nan": _behind(nan),
        "three classes": _behind(nan, ("class_index", "INT64", (3,), bytes(24))),
        "content type": {"content": b"{}", "headers": {"Content-Type": "text/plain"}},
        "encoding": {"content": b"{}", "headers": {"Content-Encoding": "br"}},
        "model": {"json": {"inputs": [zeros]}, "path": "/v2/models/nothing/infer"},
    }
