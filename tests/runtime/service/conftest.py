"""The service as tests have it: over a batcher that does as it is told, and over the real one behind a real server."""

import asyncio
import json
import logging
import socket
import struct
import threading
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import cv2
import httpx
import numpy as np
import pytest
import uvicorn

from fusioncam import Explainer
from fusioncam.export import export_model
from fusioncam.runtime.demo import DETECTOR
from fusioncam.runtime.engine import ExplainRequest
from fusioncam.runtime.service.batching.batcher import Batcher
from fusioncam.runtime.service.http.app import make_app
from fusioncam.runtime.service.monitoring.logs import JsonLines
from fusioncam.runtime.service.monitoring.metrics import Metrics
from fusioncam.runtime.service.service import Service
from fusioncam.runtime.service.settings import Settings


class Told:
    """A batcher that explains at once, or does what `act` says, and keeps the jobs."""

    def __init__(self, pipeline):
        self.pipeline, self.ready, self.jobs, self.closed = pipeline, True, [], False
        self.act = None

    def submit(self, jobs):
        return [SimpleNamespace(wait=partial(self.explain, job)) for job in jobs]

    async def explain(self, job):
        self.jobs.append(job)
        if self.act is not None:
            await self.act(job)
        request = ExplainRequest(
            job.image,
            job.targets,
            job.methods,
            verify=job.verify,
            condition=job.condition and job.condition.holds,
        )
        (found,) = self.pipeline.run([self.pipeline.task(request)], job.methods)
        return found

    async def close(self):
        self.closed = True


class Client:
    """Asks an application within this process."""

    def __init__(self, app):
        self.app = app

    def request(self, method, path, **sent):
        async def ask():
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, **sent)

        return asyncio.run(ask())

    def get(self, path, **sent):
        return self.request("GET", path, **sent)

    def post(self, path, **sent):
        return self.request("POST", path, **sent)


@pytest.fixture(scope="session")
def explainer(tiny):
    return Explainer(tiny.bundle)


@pytest.fixture(scope="session")
def detector(once):
    """The bundle of the demo's detector."""
    return once("detector", lambda folder: export_model(DETECTOR, folder / "detector.fcam")) / "detector.fcam"


@pytest.fixture(scope="session")
def only_told(explainer):
    return Told(explainer.pipeline)


@pytest.fixture
def told(only_told):
    only_told.__init__(only_told.pipeline)
    return only_told


@pytest.fixture
def asking(told):
    """Opens a client of the service over `told`, as it is set."""

    def open_client(metrics=None, crowded=lambda: False, **given):
        return Client(make_app(Service.of({"m": told}, Settings(**{"page": False, **given}), metrics), crowded))

    return open_client


@pytest.fixture(scope="session")
def new_client():
    """Makes a client of an application."""
    return Client


@pytest.fixture(scope="session")
def usual_app(only_told):
    return make_app(Service.of({"m": only_told}, Settings(page=False)))


@pytest.fixture
def client(told, usual_app):
    """Of the service as it is without any setting; making it takes longer than most requests."""
    return Client(usual_app)


@pytest.fixture
def x(pictures):
    return pictures[0]


@pytest.fixture
def request_of(x):
    """The JSON of a request for a preprocessed picture; members are changed by name."""

    def make(**changed):
        image = {"name": "image", "shape": [1, 3, 24, 32], "datatype": "FP32", "data": x.reshape(-1).tolist()}
        return {"inputs": [image], "parameters": {"method": "grad_cam"}, **changed}

    return make


class Lines(logging.Handler):
    """What the service writes down, line by line."""

    def __init__(self):
        super().__init__()
        self.setFormatter(JsonLines())
        self.lines = []

    def emit(self, record):
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def logged():
    logger, handler = logging.getLogger("fusioncam.service"), Lines()
    logger.addHandler(handler)
    before = logger.level
    logger.setLevel(logging.INFO)
    yield handler.lines
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture(scope="session")
def photo():
    """A PNG file."""
    return cv2.imencode(".png", np.random.default_rng(2).integers(0, 256, (30, 40, 3), np.uint8))[1].tobytes()


@pytest.fixture(scope="session")
def element():
    """An element of a BYTES tensor."""
    return lambda data: struct.pack("<I", len(data)) + data


@pytest.fixture(scope="session")
def behind():
    """Body and headers of a request whose tensors, (name, datatype, shape, bytes), all follow the JSON."""

    def make(*tensors, **head):
        inputs = [
            {"name": n, "datatype": t, "shape": list(s), "parameters": {"binary_data_size": len(b)}}
            for n, t, s, b in tensors
        ]
        text = json.dumps({"inputs": inputs, **head}).encode()
        body = text + b"".join(b for *_, b in tensors)
        return {"content": body, "headers": {"Inference-Header-Content-Length": str(len(text))}}

    return make


@pytest.fixture
def refused(client):
    """Posts to `infer`, and gives the one line that turns it down."""

    def post(status=400, client=client, **sent):
        answer = client.post("/v2/models/m/infer", **sent)
        assert answer.status_code == status, answer.text
        error = answer.json()["error"]
        assert "\n" not in error
        return error

    return post


@pytest.fixture(scope="session")
def serving():
    """Runs an application behind uvicorn in a thread; gives its address."""

    @contextmanager
    def run(app):
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=5))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield "{}:{}".format(*listening.getsockname())
        finally:
            server.should_exit = True
            thread.join(20)
            listening.close()
            assert not thread.is_alive()

    return run


@pytest.fixture(scope="session")
def address(explainer, serving):
    """Of a service of the tiny model `m`."""
    metrics = Metrics()
    batcher = Batcher("m", lambda: explainer.pipeline, observer=metrics)
    app = make_app(Service.of({"m": batcher}, Settings(page=False), metrics))
    with serving(app) as address:
        yield address


@pytest.fixture(scope="session")
def explained(explainer, pictures):
    """What the first picture's explanation must be."""
    found = explainer.explain(pictures[0], 2)
    assert np.isfinite(found.logits).all()
    return found
