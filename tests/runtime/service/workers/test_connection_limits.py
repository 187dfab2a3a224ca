"""Connections that a process refuses, because too many are open."""

import json
import os

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and process groups are those of POSIX systems")


FEW = """
from fusioncam.runtime.commands.app import main
from fusioncam.runtime.service.workers import worker
worker.CONNECTIONS = 20
main()
"""


def test_a_process_at_its_limit_of_connections_says_so_in_json(bundle, until, service):
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
def test_connections_are_limited_by_the_files_that_may_be_open(bundle, soft, hard, taken, service):
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))\n"
    with service(bundle, start=("-c", limit + "from fusioncam.runtime.commands.app import main\nmain()")) as running:
        held = [running.connect() for _ in range(taken)]
        for connection in held:
            connection.connect()
        held[-1].request("GET", "/v2/health/live")
        response = held[-1].getresponse()
        assert (response.status, json.loads(response.read()).get("live")) in ((200, True), (503, None))
        assert response.status == (200 if taken <= hard - 100 else 503)
