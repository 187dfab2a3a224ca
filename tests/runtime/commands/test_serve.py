"""What `fusioncam serve` says before it serves anything."""

import socket

import pytest

from fusioncam.errors import UsageError
from fusioncam.runtime.commands.serve import named


@pytest.fixture(scope="module")
def bundle(tiny):
    return str(tiny.bundle)


def test_models_are_named_after_their_folders_or_as_told(tmp_path):
    folder = tmp_path / "a=b.fcam"
    folder.mkdir()
    with pytest.raises(UsageError, match="'a=b' cannot be a model's name"):
        named([str(folder)])
    assert named(["here.fcam", "other=x/y.fcam", "plain"]) == {
        "here": (tmp_path.cwd() / "here.fcam").resolve(),
        "other": (tmp_path.cwd() / "x/y.fcam").resolve(),
        "plain": (tmp_path.cwd() / "plain").resolve(),
    }


BAD = {
    "no bundle": (["nowhere.fcam"], 1, "nowhere.fcam"),
    "one of two is none": (["{bundle}", "nowhere.fcam"], 1, "nowhere.fcam"),
    "the same name twice": (["{bundle}", "{bundle}"], 2, "two models are named 'tiny'; name one of them otherwise"),
    "a name for no address": (["a/b={bundle}"], 2, "cannot be a model's name"),
    "no name": (["={bundle}"], 2, "'' cannot be a model's name"),
    "a port out of range": (["{bundle}", "--port", "70000"], 2, "'--port'"),
    "one port for two": (
        ["{bundle}", "--port", "9", "--grpc-port", "9", "--host", "192.0.2.1"],
        2,
        "--port and --grpc-port are both 9; give each protocol a port of its own",
    ),
    "a name that is the service's": (["stats={bundle}"], 2, "/v2/models/stats is an address of the service itself"),
    "no workers": (["{bundle}", "--workers", "0"], 2, "'--workers'"),
    "no time": (["{bundle}", "--timeout", "0"], 2, "timeout"),
    "time that is no number": (["{bundle}", "--timeout", "nan"], 2, "timeout"),
    "no budget": (["{bundle}", "--budget", "much"], 2, "--budget: no budget 'much'; use exact, auto"),
    "no deadline": (["{bundle}", "--deadline", "64"], 2, "--deadline is a time like 500ms or 2s, not '64'"),
    "two budgets": (["{bundle}", "--deadline", "1s", "--budget", "exact"], 2, "give one of them"),
    "no condition": (
        ["{bundle}", "--explain-if", "p < .6"],
        2,
        "--explain-if: no condition 'p < .6'; use clauses like",
    ),
    "an unknown class": (["{bundle}", "--explain-if", "class in 9"], 2, "there is no class 9: the model has 5, 0 to 4"),
    "too large pictures": (["{bundle}", "--max-pixels", "999999999999"], 2, "--max-pixels"),
    "an unknown provider": (["{bundle}", "--providers", "fast"], 2, "there is no execution provider 'fast'"),
    "a chunk of nothing": (["{bundle}", "--chunk", "0"], 2, "chunk must be a whole number"),
    "too many threads": (["{bundle}", "--threads", "100000"], 2, "threads must be a whole number"),
    "no such host": (["{bundle}", "--host", "no.such.host.invalid"], 2, "there is no host"),
    "no token file": (
        ["{bundle}", "--token-file", "nowhere"],
        2,
        "the token file nowhere cannot be read: No such",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_usage_is_one_clear_line(run, only_line, bundle, case):
    arguments, status, message = BAD[case]
    found, out, err = run("serve", *(a.format(bundle=bundle) for a in arguments))
    assert message in only_line(err)
    assert (found, out) == (status, "")


@pytest.mark.parametrize(
    ("text", "message"), [("\n", "is empty"), ("two words", "printable ASCII"), ("schlüssel", "printable ASCII")]
)
def test_a_token_that_is_none(run, only_line, bundle, tmp_path, text, message):
    (tmp_path / "token").write_text(text)
    status, _, err = run("serve", bundle, "--token-file", tmp_path / "token")
    assert message in only_line(err)
    assert status == 2
    assert "schl" not in err


def test_an_empty_variable_is_no_token(run, only_line, bundle, monkeypatch):
    monkeypatch.setenv("FUSIONCAM_TOKEN", "")
    status, _, err = run("serve", bundle)
    assert "FUSIONCAM_TOKEN is empty" in only_line(err)
    assert status == 2


def test_a_port_in_use_is_said_before_anything_is_loaded(run, only_line, bundle, monkeypatch):
    monkeypatch.setattr("fusioncam.runtime.service.workers.worker_handle.WorkerHandle", None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for workers in (1, 2):
            for options in (["--port", port], ["--port", 0, "--grpc-port", port]):
                status, _, err = run("serve", bundle, *options, "--workers", workers)
                assert f"port {port} of 127.0.0.1 is in use" in only_line(err)
                assert f"choose another {options[-2]}" in err
                assert status == 1


def test_without_the_extra(run, only_line, bundle, monkeypatch):
    monkeypatch.setattr("fusioncam.runtime.service.find_spec", lambda name: None if name == "uvicorn" else name)
    status, _, err = run("serve", bundle)
    assert only_line(err) == 'error: the service needs uvicorn: pip install "fusioncam[serve]"'
    assert status == 2


def test_without_the_extra_for_grpc(run, only_line, bundle, monkeypatch):
    monkeypatch.setattr("fusioncam.runtime.service.find_spec", lambda name: None if name == "tritonclient" else name)
    status, _, err = run("serve", bundle, "--grpc-port", "0")
    assert only_line(err) == 'error: --grpc-port needs tritonclient: pip install "fusioncam[grpc]"'
    assert status == 2
