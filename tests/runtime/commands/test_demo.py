import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("prometheus_client")


def ask(address, path, data=None):
    request = urllib.request.Request(address + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def test_the_page_is_shown_until_it_is_interrupted(tmp_path):
    command = [sys.executable, "-m", "fusioncam", "demo", "--web", "--port", "0", "--no-open", "--json"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
    ) as process:
        try:
            said = ""
            while not said.endswith("}\n"):
                said += process.stdout.readline() or pytest.fail(process.stderr.read())
            address, _, sample = json.loads(said)["address"].partition("#")
            assert sample == "sample"
            assert b"<title>fusioncam</title>" in ask(address, "")
            assert len(json.loads(ask(address, "samples"))) == 5
            assert [model["name"] for model in json.loads(ask(address, "v2/repository/index", b"{}"))] == ["shapes"]
            assert len(list(tmp_path.glob(".fcam-*"))) == 1
        finally:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")
    assert list(tmp_path.glob(".fcam-*")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--port", "9"], "--port is for the page: add --web"),
        (["--no-open"], "--no-open is for the page: add --web"),
        (["--bundle", "b.fcam"], "--bundle is for the page: add --web"),
        (["--samples", "photos"], "--samples is for the page: add --web"),
        (["--web", "-o", "there"], "--web writes no results: leave out -o, or --web"),
        (["--web", "--task", "embed", "--bundle", "b.fcam"], "give one of them"),
        (["--task", "value"], "no built-in model for --task value: choose one of classify, segment, embed"),
        (["--web", "--bundle", "none.fcam"], "none.fcam is no bundle"),
    ],
)
def test_what_makes_no_sense_is_refused(run, only_line, arguments, said):
    status, _, err = run("demo", *arguments)
    assert status == (1 if "none.fcam" in arguments else 2)
    assert said in only_line(err)


def test_a_port_in_use_is_named(run, only_line):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        status, _, err = run("demo", "--web", "--no-open", "--port", taken.getsockname()[1])
    assert status == 1
    assert "is in use" in only_line(err)
