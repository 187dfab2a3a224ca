"""The service as processes: killed, told to end, left alone. The kernel is asked who has which connection."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import numpy as np
import psutil
import pytest
import uvicorn

from fusioncam import Explainer, export_model
from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.service.http.server import Server
from fusioncam.runtime.service.http.sockets import OWN_SOCKETS

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


def test_a_killed_workers_connections_are_taken_over(bundle, photo, wanted):
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
        read(one[1].getresponse(), wanted)  # nobody had read the request: the other worker does
        until(lambda: len(running.workers) == 2 and running.ready())
        assert one[0].pid not in {w.pid for w in running.workers}
        for _, connection in connected_to_both(running):
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
        time.sleep(len(kept) > 20 and 0.1)  # one may still be loading
        assert len(kept) <= 400, "all connections go to one worker"
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
from fusioncam.runtime.commands.app import main
from fusioncam.runtime.service.http import infer_handler
infer_handler.prepare_request = lambda *_: time.sleep(600)
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
    monkeypatch.setattr("fusioncam.runtime.service.http.server.exit_now", lambda: left.append(True))
    server = Server(uvicorn.Config(None), hasty)
    for _ in range(2):
        assert left == []
        server.handle_exit(signal.SIGTERM, None)
        assert server.should_exit
    assert bool(left) == hasty


def test_what_workers_cannot_load_is_told_once(bundle):
    options = ["--port", "0", "--providers", "tensorrt", "--workers", "2", "--quiet"]
    command = [sys.executable, "-m", "fusioncam", "serve", str(bundle), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: the tensorrt provider cannot be used: ")
    assert ended.returncode == 1


def test_a_worker_that_hangs_is_replaced_and_its_requests_answered(bundle, photo, wanted):
    with service(bundle, "--workers", "2") as running:
        until(lambda: len(running.workers) == 2 and running.ready())
        (one, between), _ = connected_to_both(running)
        begun = half_a_request(running, one)
        one.suspend()
        between.request(*asking(photo))
        fresh = [running.connect() for _ in range(8)]  # some of them wait for the one that hangs
        for connection in fresh:
            connection.request("GET", "/v2/health/ready")
        for connection in fresh:
            assert connection.getresponse().status == 200
        assert one.pid in {w.pid for w in running.workers}  # they needed not wait for its end
        read(between.getresponse(), wanted)
        response = begun.getresponse()
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert "was lost, and another takes its place; ask again" in json.loads(response.read())["error"]
        until(lambda: len(running.workers) == 2 and one.pid not in {w.pid for w in running.workers})
        assert running.end() == (
            f"warning: worker {one.pid} gave no sign of life and was killed; another takes its place\n"
        )


def half_a_request(running, worker):
    """A connection on which a worker has read half of a request."""
    for _ in range(200):
        connection = running.connect()
        connection.putrequest("POST", "/v2/models/shapes/infer")
        connection.putheader("Content-Length", "1000")
        connection.endheaders(b"{")
        port = connection.sock.getsockname()[1]
        until(lambda port=port: owners(running, port))
        if owners(running, port) == {worker.pid}:
            time.sleep(0.5)  # for the worker to have read it
            return connection
    raise AssertionError("all connections go to one worker")


def owners(running, port):
    return {w.pid for w in running.workers if any(c.raddr and c.raddr.port == port for c in w.net_connections("tcp"))}


FEW = """
from fusioncam.runtime.commands.app import main
from fusioncam.runtime.service.workers import worker
worker.CONNECTIONS = 20
main()
"""


def test_a_process_at_its_limit_of_connections_says_so_in_json(bundle):
    with service(bundle, "--queue", "0", "--max-batch", "1", start=("-c", FEW)) as running:
        held = [running.connect() for _ in range(24)]
        for connection in held:
            connection.connect()
        connection = running.connect()
        until(lambda: running.ask("GET", "/v2/health/live")[0] == 503)
        connection.request("GET", "/v2/health/live")
        response = connection.getresponse()
        assert (response.status, response.headers["Content-Type"]) == (503, "application/json")
        assert "connections" in json.loads(response.read())["error"]
        assert response.headers["Retry-After"] == "1"
        for connection in (*held, *running.connections):
            connection.close()
        until(lambda: running.ask("GET", "/v2/health/live")[0] == 200)


@pytest.mark.parametrize(("soft", "hard", "taken"), [(150, 400, 250), (150, 150, 60)])
def test_connections_are_limited_by_the_files_that_may_be_open(bundle, soft, hard, taken):
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
    with service(bundle, start=("-c", limit + "from fusioncam.runtime.commands.app import main\nmain()")) as running:
        held = [running.connect() for _ in range(taken)]
        for connection in held:
            connection.connect()
        held[-1].request("GET", "/v2/health/live")
        response = held[-1].getresponse()
        assert (response.status, json.loads(response.read()).get("live")) in ((200, True), (503, None))
        assert response.status == (200 if taken <= hard - 100 else 503)


@pytest.mark.parametrize("folder", ["/nowhere", "/proc"])
def test_no_temporary_folder_is_needed(bundle, photo, wanted, monkeypatch, folder):
    monkeypatch.setenv("TMPDIR", folder)
    with service(bundle, "--workers", "2") as running:
        until(running.ready)
        for _, connection in connected_to_both(running):
            connection.request(*asking(photo))
            read(connection.getresponse(), wanted)
        assert b"fusioncam_explanations_total" in running.ask("GET", "/metrics")[1]
        assert running.end() == ""
