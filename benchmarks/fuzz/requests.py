"""Mutated requests against the service: bytes of pictures, JSON, binary headers; none may end in a 500 or hang.

They run in this process, over ASGI, some at a time. Between them go sound ones, whose answers must not change by a bit:
nothing that a bad request does may reach another's.
"""

import asyncio
import json
import logging
import random
import resource
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI

from fusioncam import Explainer
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.protocol.tensors import HEADER_LENGTH
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings
from fuzz.request_mutations import MUTATIONS, Sent, add, sound

ALLOWED = {200, 400, 401, 404, 405, 408, 411, 413, 415, 503, 504}
PATIENCE = 60.0  # seconds; longer is a hang


async def call(app: FastAPI, sent: Sent, pieces: int = 1) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body that a request is answered with; the body is sent in so many pieces."""
    body = sent.body()
    step = max(-(-len(body) // pieces), 1)
    parts = [body[at : at + step] for at in range(0, len(body), step)] or [b""]
    headers = [(k.lower().encode(), v.encode("utf-8", "replace")) for k, v in sent.headers.items()]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": sent.method, "path": sent.path,
        "raw_path": sent.path.encode(), "query_string": b"", "root_path": "", "scheme": "http", "headers": headers,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
    }  # fmt: skip
    answered, found = asyncio.Event(), []

    async def receive() -> dict[str, Any]:
        if parts:
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}
        await answered.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        found.append(message)

    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)  # type: ignore[arg-type]
    answered.set()
    said = {k.decode(): v.decode() for k, v in found[0]["headers"]}
    return found[0]["status"], said, b"".join(message.get("body", b"") for message in found[1:])


class Noise(logging.Handler):
    """Counts what the service says of failures that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a failure, with its traceback."""
        self.lines.append(self.format(record))


def complaint(status: int, headers: dict[str, str], body: bytes) -> str:
    """Return what is wrong with an answer; empty if nothing is."""
    if status not in ALLOWED:
        return f"status {status}: {body[:300]!r}"
    if status == 200:
        return ""
    try:
        error = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        return f"status {status} without an error in JSON: {body[:300]!r}"
    return (
        "" if error and "\n" not in error and len(error) < 1000 else f"status {status}, not one line: {error[:300]!r}"
    )


async def attack(app: FastAPI, size: tuple[int, int], requests: int, seed: int, together: int = 8) -> dict[str, Any]:
    """Send mutated requests, some at a time, with a sound one among them.

    Returns:
        Statuses with their counts, and failures.
    """
    statuses, failures, noise = Counter[int](), [], Noise()
    logging.getLogger("fusioncam.service").addHandler(noise)
    good = Sent({"inputs": [], "parameters": {"method": "fusion_cam,grad_cam"}})
    picture = np.random.default_rng(1).uniform(-1, 1, (1, 3, *size)).astype(np.float32)
    add(good, "image", "FP32", picture.shape, picture.tobytes())
    good.head["outputs"] = [{"name": n, "parameters": {"binary_data": True}} for n in ("fusion_cam", "logits")]

    async def check(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        sent, done = sound(rng, size), []
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            mutation = rng.choice(MUTATIONS)
            done.append(mutation.__name__)
            mutation(rng, sent)
        try:
            status, headers, body = await call(app, sent, rng.choice((1, 1, 2, 7)))
            wrong = complaint(status, headers, body) if sent.method != "HEAD" else ""
        except Exception as error:
            status, wrong = 0, f"{type(error).__name__}: {error}"
        statuses[status] += 1
        if wrong:
            failures.append(f"request {number} ({', '.join(done)}): {wrong}")

    async def tail(sent: Sent) -> bytes:
        status, headers, body = await call(app, sent)
        return body[int(headers[HEADER_LENGTH.lower()]) :] if status == 200 else b""

    expected = await tail(good)
    for first in range(0, requests, together):
        numbers = range(first, min(first + together, requests))
        *_, again = await asyncio.gather(*map(check, numbers), tail(good))
        if again != expected or not expected:
            failures.append(f"a sound request beside {numbers} was answered otherwise than before")
    failures += noise.lines
    logging.getLogger("fusioncam.service").removeHandler(noise)
    return {"statuses": dict(sorted(statuses.items())), "failures": failures}


async def run(bundle: Path, requests: int, seed: int) -> dict[str, Any]:
    """Serve a bundle in this process, and attack it."""
    batcher = Batcher("m", lambda: Explainer(bundle).pipeline)
    app = make_app(Service.of({"m": batcher}, Settings(max_body=4 << 20, max_pixels=1_000_000, page=False)))
    found = await attack(app, batcher.pipeline.manifest.preprocessing.size, requests, seed)
    await batcher.close()
    found["peak_megabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found
