"""The service as processes: killed, told to end, left alone. The kernel is asked who has which connection."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import uvicorn

from fusioncam import Explainer, export_model
from fusioncam.errors import FusionCamError
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.service import workers
from fusioncam.runtime.service.listening import OWN_SOCKETS
from fusioncam.runtime.service.worker import Server

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are those of POSIX systems")
PATIENCE = 60.0


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


def until(true, patience=PATIENCE):
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
        self.port = int(json.loads(said)["address"].rpartition(":")[2])

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
def service(bundle, *options, **start):
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


def asking(photo, pictures=1, method="fusion_cam"):
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


def read(response, wanted):
    """Hold an answer's first map against what the library finds."""
    body = response.read()
    assert response.status == 200, body
    length = int(response.headers["Inference-Header-Content-Length"])
    first, *_ = json.loads(body[:length])["outputs"]
    found = np.frombuffer(body[length : length + 4 * wanted.size], np.float32).reshape(wanted.shape)
    assert first["name"] in ("fusion_cam", "group_cam")
    np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.fixture(scope="module")
def wanted(bundle, photo):
    return Explainer(bundle).explain(photo).maps["fusion_cam"]


def test_a_killed_worker_loses_its_own_requests_only(bundle, photo, wanted):
    with service(bundle, "--workers", "2") as running:
        until(lambda: len(running.workers) == 2 and running.ready())
        one, other = connected_to_both(running)
        for worker, _ in (one, other):
            worker.suspend()  # so that both requests are under way when one worker dies
        for _, connection in (one, other):
            connection.request(*asking(photo))
        one[0].kill()
        other[0].resume()
        read(other[1].getresponse(), wanted)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            one[1].getresponse()
        until(lambda: len(running.workers) == 2 and running.ready())
        assert one[0].pid not in {w.pid for w in running.workers}
        for _ in range(4):
            connection = running.connect()
            connection.request(*asking(photo))
            read(connection.getresponse(), wanted)
        workers = running.workers
        running.process.kill()
        err = running.end()
        assert err.splitlines() == [f"warning: worker {one[0].pid} was killed by SIGKILL; another takes its place"]
        _, left = psutil.wait_procs(workers, timeout=PATIENCE)
        assert left == []  # no worker outlives the service


def connected_to_both(running):
    """For each of two workers a connection that it has."""
    found, kept = {}, []
    while len(found) < 2:
        kept.append(connection := running.connect())
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        if len(kept) > 200 and not OWN_SOCKETS:
            pytest.skip("the system does not deal connections out to processes")
        assert len(kept) <= 200, "all connections go to one worker"
        port = connection.sock.getsockname()[1]
        for worker in running.workers:
            if any(c.raddr and c.raddr.port == port for c in worker.net_connections("tcp")):
                found.setdefault(worker.pid, (worker, connection))
    return found.values()


@pytest.mark.parametrize(("workers", "number"), [(1, signal.SIGINT), (2, signal.SIGTERM)])
def test_what_was_begun_is_finished(bundle, photo, workers, number):
    method = "group_cam,score_cam,union_cam,fusion_cam"
    wanted = Explainer(bundle, methods=["group_cam"]).explain(photo).maps["group_cam"]
    with service(bundle, "--workers", str(workers)) as running:
        connection = running.connect()
        connection.request(*asking(photo, 16, method))
        until(lambda: b'fusioncam_chunk_seconds_count{model="shapes"}' in running.ask("GET", "/metrics")[1])
        running.process.send_signal(number)
        read(connection.getresponse(), np.stack([wanted] * 16))
        assert running.end() == ""
        assert running.process.returncode == 0
        with pytest.raises(OSError, match="refused"):
            running.ask("GET", "/v2/health/live")


SLOW = """
import time
from fusioncam.runtime.cli import main
from fusioncam.runtime.service import answering
answering.understand = lambda *_: time.sleep(600)
main()
"""


def test_a_photo_that_takes_for_ever_does_not_keep_it_from_ending(bundle, photo):
    with service(bundle, "--timeout", "0.3", start=("-c", SLOW)) as running:
        assert running.ask(*asking(photo))[0] == 504
        assert running.end() == ""
        assert running.process.returncode == 0


@pytest.mark.parametrize("hasty", [True, False])
def test_a_second_signal_ends_at_once_unless_it_may_be_the_first_again(monkeypatch, hasty):
    left = []
    monkeypatch.setattr("fusioncam.runtime.service.worker.leave", lambda: left.append(True))
    server = Server(uvicorn.Config(None), hasty)
    for _ in range(2):
        assert left == []
        server.handle_exit(signal.SIGTERM, None)
        assert server.should_exit
    assert bool(left) == hasty


class Mortal:
    """A worker as `Workers` sees it; dead when `status` is set."""

    def __init__(self, plan, listening, at_once):
        self.ready, self.status, self.process = False, None, SimpleNamespace(pid=0)
        MORTALS.append(self)

    def look(self):
        return self.status

    def close(self):
        pass


MORTALS = []


@pytest.fixture
def two(monkeypatch):
    """`Workers` of two that are not ready, and a clock."""
    now = [0.0]
    monkeypatch.setattr(workers, "Worker", Mortal)
    monkeypatch.setattr(workers, "time", SimpleNamespace(monotonic=lambda: now[0]))
    MORTALS.clear()
    made = workers.Workers(None, [None], 2, None)
    made._due = {0: 0.0, 1: 0.0}
    made._start_those_due()
    return made, now


def test_one_that_cannot_start_does_not_end_those_that_have(two):
    made, now = two
    MORTALS[0].ready, pauses = True, []
    for _ in range(10):
        made._bury(1, 1)
        pauses.append(made._due[1] - now[0])
        now[0] = made._due[1]
        made._start_those_due()
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert max(pauses) == pauses[-1] == 64.0
    made._bury(0, -9)  # which gets its chance, as any other
    with pytest.raises(FusionCamError, match="11 workers in a row died before they were ready"):
        made._bury(1, 1)


def test_where_none_starts_it_ends(two):
    made, now = two
    for n in (0, 1):
        made._bury(n, 1)
    now[0] += 10
    made._start_those_due()
    with pytest.raises(FusionCamError, match="3 workers in a row"):
        made._bury(0, 1)


def test_what_workers_cannot_load_is_told_once(bundle):
    options = ["--port", "0", "--providers", "tensorrt", "--workers", "2", "--quiet"]
    command = [sys.executable, "-m", "fusioncam", "serve", str(bundle), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: the tensorrt provider cannot be used: ")
    assert ended.returncode == 1
