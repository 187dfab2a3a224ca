"""Running services as processes, and requests to them."""

import http.client
import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import numpy as np
import psutil
import pytest

from fusioncam import Explainer, export_model
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.service.workers.channel import Channel

PATIENCE = 60.0  # seconds


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "shapes.fcam"
    export_model(MODEL, folder)
    return folder


@pytest.fixture(scope="module")
def photo(bundle):
    """A preprocessed picture."""
    height, width = Explainer(bundle).manifest.preprocessing.size
    return np.random.default_rng(0).standard_normal((3, height, width)).astype(np.float32)


@pytest.fixture(scope="module")
def wanted(bundle, photo):
    return Explainer(bundle).explain(photo).maps["fusion_cam"]


def wait_until(true, patience=PATIENCE):
    end = time.monotonic() + patience
    while not (found := true()):
        assert time.monotonic() < end, "waited for too long"
        time.sleep(0.02)
    return found


class Service:
    """A running `fusioncam serve`, which says where it is."""

    def __init__(self, bundle, *options, start=("-m", "fusioncam")):
        command = [
            sys.executable,
            *start,
            "serve",
            str(bundle),
            "--port",
            "0",
            "--json",
            "--quiet",
            *options,
        ]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.connections, said = [], ""
        while not said.rstrip().endswith("}"):
            line = self.process.stdout.readline()
            assert line, self.process.stderr.read()
            said += line
        self.said = json.loads(said)
        self.port = int(self.said["address"].rpartition(":")[2])

    @property
    def workers(self):
        return psutil.Process(self.process.pid).children()

    def connect(self):
        """A connection, closed when the service is done with."""
        self.connections.append(connection := http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE))
        return connection

    def ready(self):
        """Whether all of several connections find it ready."""
        with suppress(OSError, http.client.HTTPException):
            return all(self.ask("GET", "/v2/health/ready")[0] == 200 for _ in range(8))
        return False

    def ask(self, *request):
        connection = self.connect()
        connection.request(*request)
        response = connection.getresponse()
        return response.status, response.read()

    def end(self):
        """What it said on stderr."""
        if self.process.poll() is None:
            self.process.terminate()
        _, err = self.process.communicate(timeout=PATIENCE)
        return err


@contextmanager
def running_service(bundle, *options, **start):
    running = Service(bundle, *options, **start)
    try:
        yield running
    finally:
        for process in (*psutil.Process(running.process.pid).children(), running.process) if alive(running) else ():
            with suppress(psutil.Error):
                process.kill()
        running.process.wait()
        for each in (running.process.stdout, running.process.stderr, *running.connections):
            each.close()


def alive(running):
    return running.process.poll() is None


def explain_request(photo, pictures=1, method="fusion_cam"):
    """A request for explanations, as binary."""
    data = np.stack([photo] * pictures).tobytes()
    tensor = {"name": "image", "datatype": "FP32", "shape": [pictures, *photo.shape]}
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}],
            "parameters": {"method": method, "binary_data_output": True},
        }
    ).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return "POST", "/v2/models/shapes/infer", head + data, headers


def check_answer(response, wanted):
    """Hold an answer's first map against what the library finds."""
    body = response.read()
    assert response.status == 200, body
    length = int(response.headers["Inference-Header-Content-Length"])
    first, *_ = json.loads(body[:length])["outputs"]
    found = np.frombuffer(body[length : length + 4 * wanted.size], np.float32).reshape(wanted.shape)
    assert first["name"] in ("fusion_cam", "group_cam")
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.fixture(scope="session")
def until():
    """Waits until something is true; gives it."""
    return wait_until


@pytest.fixture(scope="session")
def service():
    """Runs `fusioncam serve`."""
    return running_service


@pytest.fixture(scope="session")
def asking():
    """Makes a request for explanations."""
    return explain_request


@pytest.fixture(scope="session")
def read():
    """Holds an answer against what the library finds."""
    return check_answer


@pytest.fixture
def ends():
    pair = [Channel(end) for end in socket.socketpair()]
    yield pair
    for channel in pair:
        channel.close()
