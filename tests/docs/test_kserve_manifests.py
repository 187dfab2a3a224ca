"""The InferenceServices of `docker/kserve/`: what KServe would start is a command of ours, and answers the probes."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from fusioncam.runtime.commands import app as cli

yaml = pytest.importorskip("yaml")

FOLDER = Path(__file__).resolve().parents[2] / "docker" / "kserve"
# KServe appends them to the arguments of an explainer; the last two where containerConcurrency is set.
APPENDED = [
    "--model_name",
    "pets",
    "--predictor_host",
    "pets-predictor.default",
    "--http_port",
    "8080",
    "--workers",
    "1",
]


def container(component):
    found = yaml.safe_load((FOLDER / f"{component}.yaml").read_text(encoding="utf-8"))
    assert (found["apiVersion"], found["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    (container,) = found["spec"][component]["containers"]
    return found["metadata"]["name"], found["spec"][component]["timeout"], container


def started(container, appended, tmp_path):
    """The arguments that fusioncam gets, as the image's entry point or from a shell."""
    program = tmp_path / "fusioncam"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    command = [*container.get("command", ["fusioncam"]), *container.get("args", []), *appended]
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(os.name != "posix", reason="the containers have a shell")
@pytest.mark.parametrize(("component", "appended"), [("predictor", []), ("explainer", APPENDED)])
def test_what_kserve_starts_is_a_service(component, appended, tmp_path):
    name, seconds, found = container(component)
    command, *arguments = started(found, appended, tmp_path)
    assert command == "serve"
    context = typer.main.get_command(cli.app).commands["serve"].make_context("serve", arguments)
    options = context.params
    assert options["bundles"] == [f"{name}=/mnt/models"] or list(options["bundles"]) == [f"{name}=/mnt/models"]
    assert options["timeout"] < seconds
    (port,) = (p["containerPort"] for p in found["ports"])
    assert (options["host"], options["port"]) == ("0.0.0.0", port)
    assert {found[probe]["httpGet"]["port"] for probe in ("readinessProbe", "livenessProbe")} == {port}
    assert str(options["threads"]) == found["resources"]["limits"]["cpu"]


def test_the_page_shows_both():
    page = (FOLDER.parents[1] / "docs" / "deploy" / "kserve.md").read_text(encoding="utf-8")
    assert all(f'--8<-- "docker/kserve/{file.name}"' in page for file in FOLDER.iterdir())
    assert shlex.join(APPENDED[::2][:3]) in page.replace("`", "").replace(",", "").replace(" and", "")
