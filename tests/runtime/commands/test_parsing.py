"""The parser of the commands: usage, lists in any spelling, completion, and errors as JSON."""

import json
from typing import get_args

import pytest
import typer

from fusioncam.preprocessing import Order, Preprocessing
from fusioncam.runtime.commands import engines, lists
from fusioncam.runtime.commands.app import app
from fusioncam.runtime.commands.completion import choices
from fusioncam.runtime.evaluation import questions

GROUP = typer.main.get_command(app)


def parsed(command, *arguments):
    return GROUP.commands[command].make_context(command, list(arguments)).params


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("explain", "fusioncam explain [OPTIONS] BUNDLE IMAGE..."),
        ("evaluate", "fusioncam evaluate [OPTIONS] BUNDLE FOLDER"),
        ("bench", "fusioncam bench [OPTIONS] BUNDLE [IMAGE...]"),
        ("serve", "fusioncam serve [OPTIONS] BUNDLE..."),
        ("demo", "fusioncam demo [OPTIONS]"),
    ],
)
def test_usage_names_the_arguments(run, command, usage):
    assert run(command, "--help")[1].startswith(f"Usage: {usage}\n")


@pytest.mark.parametrize("command", GROUP.commands)
def test_every_parameter_has_a_name_for_its_value_and_debug_is_among_them(command):
    for parameter in GROUP.commands[command].params:
        assert getattr(parameter, "is_flag", False) or parameter.metavar, parameter.name
    assert any("--debug" in parameter.opts for parameter in GROUP.commands[command].params)


@pytest.mark.parametrize("arguments", [("--debug", "inspect", "gone.onnx"), ("inspect", "--debug", "gone.onnx")])
def test_debug_stands_before_or_after_the_command(run, arguments):
    status, _, err = run(*arguments)
    assert status == 1
    assert "Traceback" in err


SPELLINGS = [
    ("export", "m --mean 1 2 3 --size 5 6", "m --mean 1,2,3 --size=5x6", "--std=-1,2,3 m --std 1,2,3"),
    (
        "export",
        "m --mean 1,2 --size 5 6 --channel-order 4,3",
        "--channel-order 4 3 --mean 1 2 m --size=5x6",
        "--std=-1 m --std 1,2,3",
    ),
    ("explain", "b p --methods grad_cam,score_cam", "b p --methods grad_cam score_cam"),
    ("explain", "b p --methods grad_cam", "b --methods layer_cam --methods=grad_cam p"),
    ("explain", "b p --smooth flip,noise", "--smooth flip noise -- b p"),
    ("explain", "b p -c 1 -c 2 -c a,b", "b p -c 1,2 -c a,b", "b p -c 1 2 --class a,b"),
    ("explain", "b p --providers cuda,cpu", "b p --providers cuda cpu"),
    ("evaluate", "b f --metrics drop,road", "b f --metrics drop road"),
    ("bench", "b --budget auto,80ms,64", "b --budget auto 80ms 64"),
]


@pytest.mark.parametrize(("command", "spellings"), [(command, spellings) for command, *spellings in SPELLINGS])
def test_lists_are_taken_by_commas_and_by_spaces(command, spellings):
    first, *others = (parsed(command, *spelling.split()) for spelling in spellings)
    if command == "export":
        assert (first["mean"][:3], others[0]["size"]) == ("1,2", "5,6")
        assert others.pop()["std"] == "1,2,3"
    assert all(other == first for other in others)


def test_a_file_is_no_word_of_a_list(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "score_cam").write_bytes(b"a picture")
    found = parsed("explain", "b", "--methods", "grad_cam", "score_cam")
    assert (found["methods"], [str(image) for image in found["images"]]) == ("grad_cam", ["score_cam"])


def test_the_words_of_lists_and_of_help_texts_are_those_of_the_code():
    from fusioncam.export.source_metadata.preprocessing import PRESETS
    from fusioncam.runtime.engine.smoothing import SMOOTHINGS
    from fusioncam.runtime.picture import COLORMAPS, STYLES
    from fusioncam.runtime.tables import KINDS

    def kinds(field):
        return {*get_args(Preprocessing.model_fields[field].annotation)}

    assert {*lists.LISTS["VIEWS"].known()} == {*SMOOTHINGS}
    told = {
        (command, parameter.name): {*choices(parameter.help)}
        for command in GROUP.commands
        for parameter in GROUP.commands[command].params
        if getattr(parameter, "help", None)
    }
    assert told["explain", "style"] == {*STYLES}
    assert told["explain", "colormap"] == {*COLORMAPS}
    assert told["export", "preset"] == {*PRESETS}
    assert {*lists.LISTS["ORDER"].known()} == {*get_args(Order)}
    for name in ("resize", "interpolation"):
        assert told["export", name] == kinds(name)
    assert told["evaluate", "table"] == {*KINDS}
    assert told["evaluate", "engine"] == {*engines.ENGINES}
    assert told["evaluate", "target"] == {*questions.CHOICES}
    assert told["triton", "form"] == {"single", "bls", "both"}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ex", ["export", "explain"]),
        ("explain --sty", ["--style"]),
        ("explain b --style c", ["contour"]),
        ("explain b --methods grad_cam,grad", ["grad_cam,grad_cam_pp", "grad_cam,grad_cam_pp_eps"]),
        ("explain b --providers op", ["openvino"]),
        ("evaluate b --metrics dr", ["drop"]),
        ("explain tiny.fcam -c eg", ["egyptian\\ cat"]),
        ("explain gone.fcam -c eg", []),
        ("export m.onnx --precision f", ["fp32", "fp16"]),
    ],
)
def test_a_shell_is_offered_words(run, bundle, monkeypatch, words, offered):
    monkeypatch.setenv("_FUSIONCAM_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"fusioncam {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    status, out, _ = run()
    assert (status, out.split("\n")[:-1]) == (0, offered or [""])


def test_a_shell_gets_its_script(run):
    status, out, _ = run("--show-completion", "bash")
    assert status == 0, out
    assert "_FUSIONCAM_COMPLETE=complete_bash" in out


@pytest.mark.parametrize(
    ("arguments", "status", "kind", "words"),
    [
        (("inspect", "gone.onnx"), 1, "model", "does not exist"),
        (("explain", "gone.fcam", "one.png"), 1, "bundle", "no bundle"),
        (("explain", "tiny.fcam", "one.png", "-c", "9"), 2, "usage", "0 to 3"),
        (("explain", "tiny.fcam"), 2, "usage", "IMAGE..."),
        (("check", "tiny.fcam", "--bogus"), 2, "usage", "--bogus"),
        (("paint",), 2, "usage", "paint"),
        (("export", "tiny.onnx", "-o", "labels.txt"), 1, "output", "labels.txt"),
        (("serve", "gone.fcam"), 1, "bundle", "no bundle"),
        (("triton", "gone.fcam", "--repo", "models"), 1, "bundle", "no bundle"),
        (("demo", "--port", "3"), 2, "usage", "--web"),
    ],
)
def test_with_json_an_error_is_json_too(run, bundle, only_line, arguments, status, kind, words):
    ended, out, err = run(*arguments, "--json")
    assert ended == status
    error = json.loads(out)["error"]
    assert (error["kind"], f"error: {error['message']}") == (kind, only_line(err))
    assert words in error["message"]
    assert run(*arguments)[1:] == ("", err)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ZeroDivisionError("of all things"), "unexpected"),
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "out_of_memory"),
        (OSError(28, "No space"), "system"),
    ],
)
def test_errors_that_are_not_ours_have_a_kind(run, monkeypatch, error, kind):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("fusioncam.export.inspect_model", fail)
    status, out, _ = run("inspect", "tiny.onnx", "--json")
    assert (status, json.loads(out)["error"]["kind"]) == (1, kind)
