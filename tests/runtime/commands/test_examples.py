"""The examples that end the help of every command: each one is run as it is shown."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys

import pytest
import typer

from fusioncam.export import export_model
from fusioncam.runtime.commands.app import app
from fusioncam.runtime.commands.examples import EXAMPLES
from fusioncam.runtime.photos.calibration import photos_in

GROUP = typer.main.get_command(app)
LINES = [pytest.param(line, id=line) for lines in EXAMPLES.values() for line in lines]
SERVERS = [example for example in LINES if example.id.startswith(("fusioncam serve", "fusioncam demo --web"))]
OTHERS = [example for example in LINES if example not in SERVERS]


@pytest.fixture(scope="module")
def named_files(work, tmp_path_factory):
    """A folder with every file that the examples name."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copy(work / "tiny.onnx", folder / "model.onnx")
    shutil.copy(work / "labels.txt", folder)
    (folder / "photos").mkdir()
    shutil.copy(work / "one.png", folder / "photos")
    shutil.copy(work / "two.jpg", folder / "photos")
    shutil.copy(work / "two.jpg", folder / "photo.jpg")
    box = {"file": "one.png", "accept_classes": [0, 1, 2, 3], "boxes": [[5, 5, 20, 20]]}
    (folder / "boxes.json").write_text(json.dumps([box]))
    (folder / "token.txt").write_text("secret")
    export_model(folder / "model.onnx", folder / "model.fcam", labels=folder / "labels.txt")
    export_model(folder / "model.onnx", folder / "single.fcam", labels=folder / "labels.txt", single=True)
    export_model(folder / "model.onnx", folder / "int8.fcam", precision="int8", calibrate=photos_in(folder / "photos"))
    return folder


@pytest.fixture
def folder(named_files, tmp_path):
    """A copy of that folder for one example."""
    return shutil.copytree(named_files, tmp_path / "copy")


@pytest.mark.parametrize("command", GROUP.commands)
def test_the_help_ends_with_examples_and_fits_a_narrow_terminal(run, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    status, out, err = run(command, "--help")
    assert (status, err) == (0, "")
    examples = EXAMPLES[command]
    assert 2 <= len(examples) <= 4
    assert out.endswith("\n  Examples:\n" + "".join(f"    {line}\n" for line in examples))
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("line", OTHERS)
def test_an_example_does_what_it_says(run, monkeypatch, folder, line):
    monkeypatch.chdir(folder)
    _, command, *arguments = shlex.split(line)
    status, out, err = run(command, *arguments)
    assert (status, "error:" in err) == (0, False), err
    assert out
    if "-o" in arguments:
        assert (folder / arguments[arguments.index("-o") + 1]).exists()


@pytest.mark.parametrize("line", SERVERS)
def test_an_example_of_a_server_parses(line):
    _, command, *arguments = shlex.split(line)
    GROUP.commands[command].make_context(command, arguments)


@pytest.mark.skipif(os.name != "posix", reason="a process elsewhere is not ended by a signal it can answer")
@pytest.mark.parametrize("line", SERVERS)
def test_an_example_of_a_server_starts_and_ends(folder, line):
    """At a port that is free, which the example cannot know, and without a browser."""
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    free = ["--port", "0", *(["--no-open"] if "--web" in line else [])]
    command = [sys.executable, "-m", *shlex.split(line), *free]
    with subprocess.Popen(command, cwd=folder, stdout=-1, stderr=-1, text=True) as process:
        try:
            said = process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    assert "http://" in said, err
    assert process.returncode == 0, err
