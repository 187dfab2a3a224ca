"""The command line as a user meets it: files in, files out."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from rich.console import Console

from fusioncam.runtime.commands import console


def test_export_inspect_check_and_explain_go_together(run, bundle, tmp_path, load_maps):
    status, out, _ = run("inspect", "tiny.onnx")
    assert status == 0
    assert "features" in out
    assert "<- default" in out
    status, out, _ = run("check", bundle)
    assert status == 0
    assert out.count("ok  ") == 5
    status, out, _ = run("explain", bundle, "one.png", "two.jpg", "-o", tmp_path)
    assert status == 0
    assert out.count("\n") == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{stem}.{kind}" for stem in ("one", "two") for kind in ("npz", "png", "json")
    )
    maps = load_maps(tmp_path / "one.npz")
    assert set(maps) == {"fusion_cam", "grad_cam", "score_cam"}
    assert all(m.shape == (24, 24) and m.dtype == np.float32 and 0 <= m.min() <= m.max() <= 1 for m in maps.values())
    record = json.loads((tmp_path / "one.json").read_text())
    assert record["label"] in ("tabby, tabby cat", "Egyptian cat", "crane")
    assert record["passes"]["channels"] == 6
    assert cv2.imread(str(tmp_path / "one.png")).shape[2] == 3


def test_json_is_all_that_standard_output_holds(run, bundle, tmp_path):
    for command in (
        ("inspect", "tiny.onnx"),
        ("export", "tiny.onnx", "-o", tmp_path / "b.fcam"),
        ("check", bundle),
        ("explain", bundle, "one.png", "-o", tmp_path),
    ):
        status, out, _ = run(*command, "--json")
        assert status == 0
        assert json.loads(out)


def test_several_classes_by_number_and_by_name_get_files_of_their_own(run, bundle, tmp_path):
    status, out, _ = run("explain", bundle, "one.png", "-c", "0", "-c", "egyptian cat", "-o", tmp_path, "--json")
    assert status == 0
    assert [e["class_index"] for e in json.loads(out)["explanations"]] == [0, 1]
    assert {p.name for p in tmp_path.glob("*.npz")} == {"one-0.npz", "one-1.npz"}


def test_pictures_of_the_same_name_do_not_overwrite_each_other(run, bundle, work, tmp_path):
    (work / "sub").mkdir(exist_ok=True)
    (work / "sub" / "one.png").write_bytes((work / "two.jpg").read_bytes())
    status, _, _ = run("explain", bundle, "one.png", "sub/one.png", "-o", tmp_path, "--methods", "grad_cam")
    assert status == 0
    assert {p.name for p in tmp_path.glob("*.npz")} == {"one.npz", "one_2.npz"}


def test_grad_cam_alone_runs_no_masked_pass(run, bundle, tmp_path):
    status, out, _ = run("explain", bundle, "one.png", "-o", tmp_path, "--methods", "grad_cam", "--json")
    assert status == 0
    assert json.loads(out)["explanations"][0]["passes"]["run"] == 0


@pytest.mark.parametrize(("budget", "most"), [("exact", 10), ("auto", 10), ("9", 9), ("0.5", 7)])
def test_a_budget_is_kept_to(run, bundle, tmp_path, budget, most):
    status, out, _ = run("explain", bundle, "one.png", "-o", tmp_path, "--budget", budget, "--json")
    assert status == 0
    (found,) = json.loads(out)["explanations"]
    assert found["passes"]["run"] <= most
    assert 0 <= found["passes"]["missing"] < 1


@pytest.mark.parametrize("budget", ["fast", "1.5", "0", "-2"])
def test_what_is_no_budget(run, bundle, tmp_path, only_line, budget):
    status, _, err = run("explain", bundle, "one.png", "-o", tmp_path / "out", f"--budget={budget}")
    assert status == 2
    assert f"no budget {budget}" in only_line(err).replace("'", "")
    assert not (tmp_path / "out").exists()


def test_a_budget_too_small_is_one_line(run, bundle, tmp_path, only_line):
    status, _, err = run("explain", bundle, "one.png", "-o", tmp_path / "out", "--budget", "3")
    assert status == 1
    assert "a budget of 3 passes is too small" in only_line(err)
    assert not (tmp_path / "out").exists()


def test_without_a_word_on_preprocessing_it_is_assumed_and_said(run, tmp_path):
    status, _, err = run("export", "tiny.onnx", "-o", tmp_path / "b.fcam")
    assert status == 0
    assert "x = (pixel * 0.003922 - 0.485 0.456 0.406) / 0.229 0.224 0.225, RGB, photos resized to" in err
    assert "(squash) was assumed" in err
    status, out, _ = run("explain", tmp_path / "b.fcam", "one.png", "-o", tmp_path, "--json")
    assert status == 0
    assert "assumed_preprocessing" in json.loads(out)["explanations"][0]["flags"]


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (30, 20), (30, 20, 4)])
def test_odd_pictures_are_explained(run, bundle, work, tmp_path, shape, load_maps):
    cv2.imwrite(str(tmp_path / "odd.png"), np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16))
    status, _, err = run("explain", bundle, tmp_path / "odd.png", "-o", tmp_path / "out")
    assert status == 0, err
    assert np.isfinite(load_maps(tmp_path / "out" / "odd.npz")["fusion_cam"]).all()


def test_debug_shows_the_traceback(run):
    status, _, err = run("inspect", "missing.onnx", "--debug")
    assert status == 1
    assert "Traceback" in err
    assert "ModelError" in err


def test_an_unexpected_error_is_one_line_too(run, monkeypatch, only_line):
    def fail(*_, **__):
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("fusioncam.export.inspect_model", fail)
    status, _, err = run("inspect", "tiny.onnx")
    assert status == 1
    assert "unexpected ZeroDivisionError: of all things" in only_line(err)


def test_version_and_help(run):
    assert run("--version")[1].strip() == __import__("fusioncam").__version__
    status, out, _ = run("--help")
    assert status == 0
    assert all(command in out for command in ("inspect", "export", "explain", "check", "demo"))
    assert "..." not in out.partition("Commands:")[2]  # no command's line is cut short
    assert run("-h")[1] == out
    assert run("demo", "-h")[0] == 0


def test_demo_explains_the_built_in_picture(run, tmp_path):
    status, out, err = run("demo", "-o", tmp_path)
    assert status == 0, err
    picture = tmp_path / "explained" / "scene.png"
    assert str(picture) in out
    assert cv2.imread(str(picture)) is not None
    assert (tmp_path / "shapes.fcam" / "manifest.json").is_file()


def test_the_bar_is_silent_where_nobody_looks(run, bundle, tmp_path):
    assert run("explain", bundle, "one.png", "-o", tmp_path)[2] == ""
    with console.progress_bar("x", quiet=True) as step:
        step(1, 2)


def test_a_long_run_says_its_length_once_where_no_bar_is_seen(monkeypatch):
    shown, now = io.StringIO(), iter([0, 1, 30, 60])
    monkeypatch.setattr(console, "err", Console(file=shown))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress_bar("a.png", quiet=False) as step:
        for done in (100, 1000, 2000):
            step(done, 5000)
    assert shown.getvalue() == "note: a.png: 1,000 of at most 5,000 done after 30 s, about 120 s more\n"


def test_what_is_printed_beside_a_bar_goes_to_standard_output(monkeypatch, capsys):
    shown = io.StringIO()
    monkeypatch.setattr(console, "err", Console(file=shown, force_terminal=True))
    with console.progress_bar("pictures", quiet=False) as step:
        console.say_json_line({"image": "a.png"})
        step(1, None)
    assert capsys.readouterr().out == '{"image": "a.png"}\n'
    assert "pictures" in shown.getvalue()


def test_ctrl_c_leaves_whole_files_only(bundle, work, tmp_path, only_line, load_maps):
    pictures = []
    for i in range(400):
        pictures.append(tmp_path / f"p{i}.png")
        cv2.imwrite(str(pictures[-1]), np.full((8, 8, 3), i % 250, np.uint8))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "fusioncam", "explain", str(bundle), *map(str, pictures), "-o", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    deadline = time.monotonic() + 60
    while not list(out.glob("*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert only_line(err) == "error: interrupted; no incomplete file is left behind"
    written = list(out.iterdir())
    assert 0 < len(written) < 1200
    for path in written:
        assert path.suffix in (".npz", ".png", ".json"), path
        if path.suffix == ".npz":
            assert load_maps(path)["fusion_cam"].shape == (24, 24)
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".png":
            assert cv2.imread(str(path)) is not None
