"""`fusioncam triton`."""

import json
import sys

import pytest
import typer

from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.triton import triton


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    """Run the command in an empty folder; gives (status, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(triton)
    command = typer.main.get_command(app)

    def call(*arguments):
        with pytest.raises(SystemExit) as end:
            console.run_command(lambda given: command(given, standalone_mode=False), [str(a) for a in arguments])
        sys.stdout.flush()
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call


def test_says_what_was_added(run, bundle):
    assert run(bundle, "--repo", "models") == (0, "models: version 1 of tiny\n", "")
    assert run(bundle, "--repo", "models", "--form", "bls", "--name", "m")[1] == (
        "models: version 1 of m_explain, m_score, m\n"
    )
    status, out, err = run(bundle, "--repo", "models", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out) == {"repository": "models", "models": ["tiny"], "version": 2, "edited": []}


def test_notes_are_quiet_if_told(run, bundle, tmp_path):
    told = (bundle, "--repo", "models", "--tensorrt")
    assert run(*told)[2].startswith("note: TensorRT has not been tried with the single graph's loop")
    config = tmp_path / "models" / "tiny" / "config.pbtxt"
    config.write_text(config.read_text() + "# mine\n")
    notes = run(*told)[2].splitlines()
    assert notes[0] == "note: tiny/config.pbtxt was edited since it was written, and was left as it is"
    assert run(*told, "--quiet")[2] == ""


def test_outputs_are_what_the_bundle_can_make(run, bundle, half, backend, tmp_path):
    figures = {"logits", "probabilities", "class_index", "passes", "flags"}
    score_cams = {"score_cam", "score_cam_probability", "score_cam_increase", "score_cam_corners"}
    for of, name in ((bundle, "whole"), (half, "half")):
        run(of, "--repo", "models", "--form", "bls", "--name", name)
        outputs = {o.name for o in backend.read_config(tmp_path / "models" / name / "config.pbtxt").output}
        assert outputs >= figures | score_cams
        if of == half:  # it has no gradient
            assert outputs == figures | score_cams | {"rise"}
        else:
            assert outputs >= {"fusion_cam", "union_cam", "layer_cam", "group_cam"}
            assert "recipro_cam" not in outputs


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        ((), 2, "Missing option '--repo'"),
        (("--repo", "models", "--name", "a/b"), 2, "'a/b' is no name for a model"),
        (("--repo", "models", "--instances", "many"), 2, "Invalid value for '--instances'"),
        (("--repo", "models", "--version", "0"), 2, "a version is a whole number from 1 on"),
        (("--repo", "/dev/null"), 1, "/dev/null is not a folder; give another --repo"),
    ],
)
def test_errors_are_one_line(run, bundle, tmp_path, arguments, status, line):
    code, out, err = run(bundle, *arguments)
    assert (code, out) == (status, "")
    assert err.startswith(f"error: {line}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
