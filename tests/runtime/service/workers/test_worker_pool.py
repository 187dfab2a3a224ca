"""Several processes of the service: killed, hung, left alone. The kernel is asked who has which connection."""

import json
import os
import subprocess
import sys
import time

import psutil
import pytest

from fusioncam.runtime.service.http.sockets import OWN_SOCKETS

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are those of POSIX systems")


def test_a_killed_workers_connections_are_taken_over(bundle, photo, wanted, until, service, asking, read):
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
        _, left = psutil.wait_procs(workers, timeout=60)
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


def half_a_request(running, worker, until):
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


def test_what_workers_cannot_load_is_told_once(bundle):
    options = ["--port", "0", "--providers", "tensorrt", "--workers", "2", "--quiet"]
    command = [sys.executable, "-m", "fusioncam", "serve", str(bundle), *options]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    (line,) = ended.stderr.splitlines()
    assert line.startswith("error: the tensorrt provider cannot be used: ")
    assert ended.returncode == 1


def test_a_worker_that_hangs_is_replaced_and_its_requests_answered(bundle, photo, wanted, until, service, asking, read):
    with service(bundle, "--workers", "2") as running:
        until(lambda: len(running.workers) == 2 and running.ready())
        (one, between), _ = connected_to_both(running)
        begun = half_a_request(running, one, until)
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


@pytest.mark.parametrize("folder", ["/nowhere", "/proc"])
def test_no_temporary_folder_is_needed(bundle, photo, wanted, monkeypatch, folder, until, service, asking, read):
    monkeypatch.setenv("TMPDIR", folder)
    with service(bundle, "--workers", "2") as running:
        until(running.ready)
        for _, connection in connected_to_both(running):
            connection.request(*asking(photo))
            read(connection.getresponse(), wanted)
        assert b"fusioncam_explanations_total" in running.ask("GET", "/metrics")[1]
        assert running.end() == ""
