"""The command line as a user meets it: files in, files out, one line per failure, exit status 0, 1 or 2."""

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fusioncam.runtime import cli, console

LABELS = ("tabby, tabby cat", "Egyptian cat", "crane", "crane")


def make_model(path: Path, channels: int = 6, size: int = 24, bad: str = "") -> Path:
    """Conv - Relu - pool - Gemm - Softmax, of four classes."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(channels, 3, 3, 3)).astype(np.float32)
    if bad == "nan":
        weights[0, 0, 0, 0] = np.nan
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["conv"], "conv_node", pads=[1] * 4, strides=[2, 2]),
        helper.make_node("Relu", ["conv"], ["features"], "relu_node"),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "v"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["output"]),
    ]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, size, size])]
    if bad == "two inputs":
        inputs.append(helper.make_tensor_value_info("second", TensorProto.FLOAT, ["N", 3, size, size]))
        nodes.append(helper.make_node("Identity", ["second"], ["unused"]))
    if bad == "no rule":
        nodes[3:3] = [
            helper.make_node("Transpose", ["pooled"], ["moved"], perm=[0, 2, 3, 1]),
            helper.make_node("Det", ["square"], ["d"], "det_node"),
            helper.make_node("Add", ["pooled", "d4"], ["raised"]),
        ]
        nodes.insert(3, helper.make_node("MatMul", ["features", "features"], ["square"]))
        nodes.insert(6, helper.make_node("Unsqueeze", ["d", "axes"], ["d4"]))
        nodes[8].input[0] = "raised"
    constants = {"w": weights, "v": rng.normal(size=(channels, 4)).astype(np.float32)}
    if bad == "no rule":
        constants["axes"] = np.array([2, 3], np.int64)
    graph = helper.make_graph(
        nodes,
        "tiny",
        inputs,
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    make_model(folder / "tiny.onnx")
    (folder / "labels.txt").write_text("\n".join(LABELS) + "\n")
    rng = np.random.default_rng(0)
    for name in ("one.png", "two.jpg"):
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (40, 60, 3), np.uint8))
    return folder


@pytest.fixture
def run(capsys, monkeypatch, work):
    """Run one command inside this process; gives (status, standard output, standard error)."""
    monkeypatch.chdir(work)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fusioncam", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code, printed.out, printed.err

    return call


@pytest.fixture
def bundle(run, work):
    if not (work / "tiny.fcam").exists():
        status, _, err = run("export", "tiny.onnx", "--preset", "unit", "--labels", "labels.txt")
        assert status == 0, err
    return work / "tiny.fcam"


def only_line(err):
    """The one line of an error, without a traceback."""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    return lines[0]


def test_export_inspect_check_and_explain_go_together(run, bundle, tmp_path):
    status, out, _ = run("inspect", "tiny.onnx")
    assert status == 0
    assert "features" in out
    assert "<- default" in out
    status, out, _ = run("check", bundle)
    assert status == 0
    assert out.count("ok  ") == 4
    status, out, _ = run("explain", bundle, "one.png", "two.jpg", "-o", tmp_path)
    assert status == 0
    assert out.count("\n") == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        f"{stem}.{kind}" for stem in ("one", "two") for kind in ("npz", "png", "json")
    )
    maps = np.load(tmp_path / "one.npz")
    assert set(maps) == {"fusion_cam", "grad_cam", "score_cam"}
    assert all(m.shape == (24, 24) and m.dtype == np.float32 and 0 <= m.min() <= m.max() <= 1 for m in maps.values())
    record = json.loads((tmp_path / "one.json").read_text())
    assert record["label"] in LABELS
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


def test_without_a_word_on_preprocessing_it_is_assumed_and_said(run, tmp_path):
    status, _, err = run("export", "tiny.onnx", "-o", tmp_path / "b.fcam")
    assert status == 0
    assert "torchvision's usual way was assumed" in err
    status, out, _ = run("explain", tmp_path / "b.fcam", "one.png", "-o", tmp_path, "--json")
    assert status == 0
    assert "assumed_preprocessing" in json.loads(out)["explanations"][0]["flags"]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("inspect", "missing.onnx"), 1, ["missing.onnx", "does not exist"]),
        (("inspect", "labels.txt"), 1, ["labels.txt", "not an ONNX"]),
        (("export", "."), 1, ["folder"]),
        (("export", "truncated.onnx"), 1, ["truncated"]),
        (("export", "nan.onnx"), 1, ["'w'", "NaN"]),
        (("export", "two.onnx"), 1, ["2 inputs", "'second'"]),
        (("export", "norule.onnx", "-o", "x.fcam"), 1, ["Det", "det_node", "gradient rule"]),
        (("export", "tiny.onnx", "--layer", "featurs"), 2, ["featurs", "did you mean 'features'"]),
        (("export", "tiny.onnx", "--size", "32", "32"), 2, ["24"]),
        (("export", "tiny.onnx", "--size", "many", "32"), 2, ["--size"]),
        (("export", "tiny.onnx", "--scores", "nothing"), 2, ["nothing", "output"]),
        (("export", "tiny.onnx", "--preset", "imagenet"), 2, ["imagenet", "torchvision"]),
        (("export", "tiny.onnx", "--std", "0", "1", "1"), 2, ["std"]),
        (("export", "tiny.onnx", "--labels", "one.png"), 2, ["one.png"]),
        (("export", "tiny.onnx", "--labels", "tiny.onnx"), 2, ["labels"]),
        (("export", "tiny.onnx", "-o", "labels.txt"), 1, ["labels.txt", "no bundle"]),
        (("export", "tiny.onnx", "-o", "one.png/b.fcam"), 1, ["one.png"]),
        (("export", "no.such:thing"), 2, ["--size"]),
        (("export", "no.such:thing", "--size", "8", "8"), 2, ["no.such:thing"]),
        (("explain", "missing.fcam", "one.png"), 1, ["missing.fcam", "no bundle"]),
        (("explain", "tiny.fcam", "missing.png"), 1, ["missing.png"]),
        (("explain", "tiny.fcam", "labels.txt"), 1, ["labels.txt"]),
        (("explain", "tiny.fcam", "."), 1, ["."]),
        (("explain", "tiny.fcam", "huge.png"), 1, ["400,000,000 pixels"]),
        (("explain", "tiny.fcam", "one.png", "-c", "4"), 2, ["4", "0 to 3"]),
        (("explain", "tiny.fcam", "one.png", "-c", "-2"), 2, ["-2"]),
        (("explain", "tiny.fcam", "one.png", "-c", "tabbi"), 2, ["tabbi", "did you mean 'tabby'"]),
        (("explain", "tiny.fcam", "one.png", "-c", "crane"), 2, ["2, 3"]),
        (("explain", "tiny.fcam", "one.png", "--class=--1"), 2, ["--1"]),
        (("explain", "tiny.fcam", "one.png", "-c", "9" * 5000), 2, ["no class"]),
        (("explain", "tiny.fcam", "one.png", "--methods", "lime"), 2, ["lime", "fusion_cam"]),
        (("explain", "tiny.fcam", "one.png", "--threads", "0"), 2, ["threads", "1 to"]),
        (("explain", "tiny.fcam", "one.png", "--threads", "10000"), 2, ["threads", "1 to"]),
        (("explain", "tiny.fcam", "one.png", "--chunk", "0"), 2, ["chunk"]),
        (("explain", "tiny.fcam", "one.png", "--providers", "abacus"), 1, ["abacus", "cpu"]),
        (("explain", "tiny.fcam", "one.png", "--colormap", "beige"), 2, ["beige"]),
        (("explain", "tiny.fcam", "one.png", "-o", "labels.txt"), 1, ["labels.txt"]),
        (("explain", "tiny.fcam", "one.png", "--bogus"), 2, ["--bogus"]),
        (("explain", "tiny.fcam"), 2, ["IMAGE"]),
        (("check", "."), 1, ["no bundle"]),
        (("check", "tiny.fcam", "--source", "gone.onnx"), 2, ["gone.onnx", "--source"]),
        (("paint",), 2, ["paint"]),
    ],
)
def test_bad_input_gives_one_clear_line(run, bundle, work, arguments, status, words):
    make_model(work / "nan.onnx", bad="nan")
    make_model(work / "two.onnx", bad="two inputs")
    make_model(work / "norule.onnx", bad="no rule")
    whole = (work / "tiny.onnx").read_bytes()
    (work / "truncated.onnx").write_bytes(whole[: len(whole) // 2])
    write_huge_png(work / "huge.png")
    before = listing(work)
    ended, out, err = run(*arguments)
    line = only_line(err)
    assert ended == status, line
    assert out == ""
    assert all(word in line for word in words), line
    assert listing(work) == before


def listing(folder):
    return {str(p): p.stat().st_size for p in folder.rglob("*")}


def write_huge_png(path):
    """20000 x 20000 black pixels in a small file."""

    def part(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    if not path.exists():
        header = (20000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
        packer = zlib.compressobj(9)
        rows = b"".join(packer.compress(bytes(20001)) for _ in range(20000)) + packer.flush()
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", rows) + part(b"IEND", b""))


@pytest.mark.parametrize(("damage", "words"), [("missing", ["lacks weights.bin"]), ("changed", ["sha256 differs"])])
def test_a_damaged_bundle_is_refused(run, work, tmp_path, damage, words):
    # 1 KB of weights or more: smaller ones stay inside the graphs.
    make_model(tmp_path / "m.onnx", channels=64)
    assert run("export", tmp_path / "m.onnx", "-o", tmp_path / "m.fcam", "--quiet")[0] == 0
    weights = tmp_path / "m.fcam" / "weights.bin"
    content = weights.read_bytes()
    weights.unlink()
    if damage == "changed":
        weights.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    for command in (("explain", tmp_path / "m.fcam", "one.png", "-o", tmp_path / "o"), ("check", tmp_path / "m.fcam")):
        status, _, err = run(*command)
        assert status == 1
        assert all(word in only_line(err) for word in words)


def test_check_fails_with_the_figure_when_the_source_was_changed(run, work, tmp_path):
    make_model(tmp_path / "m.onnx")
    assert run("export", tmp_path / "m.onnx", "-o", tmp_path / "m.fcam", "--quiet")[0] == 0
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.initializer[1].raw_data = (1.5 * numpy_helper.to_array(model.graph.initializer[1])).tobytes()
    onnx.save(model, tmp_path / "m.onnx")
    status, out, _ = run("check", tmp_path / "m.fcam")
    assert status == 1
    assert "FAIL  source is the one exported (sha256): 1 (limit 0)" in out
    assert out.count("FAIL") == 3


def test_a_bad_picture_among_good_ones_is_reported_and_the_rest_goes_on(run, bundle, tmp_path):
    status, out, err = run("explain", bundle, "one.png", "labels.txt", "two.jpg", "-o", tmp_path, "--json")
    assert status == 1
    assert "labels.txt" in only_line(err)
    result = json.loads(out)
    assert [Path(e["image"]).name for e in result["explanations"]] == ["one.png", "two.jpg"]
    assert [f["image"] for f in result["failed"]] == ["labels.txt"]


@pytest.mark.parametrize("way", ["same folder", "link", "another picture"])
def test_results_never_overwrite_a_picture(run, bundle, work, tmp_path, way):
    picture, kept = tmp_path / "in" / "a.png", tmp_path / "in" / "a.png"
    picture.parent.mkdir()
    picture.write_bytes((work / "one.png").read_bytes())
    out = tmp_path / "in"
    if way == "link":
        out = tmp_path / "out"
        out.mkdir()
        (out / "a.png").symlink_to(picture)
    if way == "another picture":
        picture = tmp_path / "in" / "a.jpg"
        picture.write_bytes((work / "two.jpg").read_bytes())
    before = kept.read_bytes()
    status, _, err = run("explain", bundle, picture, "-o", out)
    assert status == 2
    assert "could overwrite a picture" in only_line(err)
    assert kept.read_bytes() == before


def test_results_are_replaced_by_newer_ones(run, bundle, tmp_path):
    for methods in ("grad_cam", "score_cam"):
        assert run("explain", bundle, "one.png", "-o", tmp_path, "--methods", methods)[0] == 0
    assert list(np.load(tmp_path / "one.npz")) == ["score_cam"]


def test_results_do_not_go_into_a_bundle(run, bundle):
    before = listing(bundle)
    status, _, err = run("explain", bundle, "one.png", "-o", bundle)
    assert status == 2
    assert "is a bundle" in only_line(err)
    assert listing(bundle) == before


def test_a_name_of_dots_stays_in_the_folder(run, bundle, work, tmp_path):
    (tmp_path / "..jpg").write_bytes((work / "two.jpg").read_bytes())
    out = tmp_path / "deep" / "out"
    status, _, err = run("explain", bundle, tmp_path / "..jpg", "-o", out)
    assert status == 0, err
    assert [p.name for p in out.parent.iterdir()] == ["out"]
    assert len(list(out.iterdir())) == 3


def shell(arguments, **options):
    command = [sys.executable, "-m", "fusioncam", *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=120, **options)


def test_output_that_cannot_be_written_is_one_line(work):
    with Path("/dev/full").open("w") as full:
        ended = shell(["inspect", work / "tiny.onnx"], stdout=full)
    assert ended.returncode == 1
    assert "No space left" in only_line(ended.stderr)


def test_any_locale_takes_any_label(bundle, work, tmp_path):
    (tmp_path / "labels.txt").write_text("\n".join(["猫 ä"] * 4), encoding="utf-8")
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    made = ["export", work / "tiny.onnx", "-o", tmp_path / "b.fcam", "--labels", tmp_path / "labels.txt", "-q"]
    for arguments in (made, ["explain", tmp_path / "b.fcam", work / "one.png", "-o", tmp_path / "out", "-q"]):
        ended = shell(arguments, env=environment, stdout=subprocess.PIPE)
        assert (ended.returncode, ended.stderr) == (0, "")


def test_without_a_command_the_help_is_shown(run):
    status, out, err = run()
    assert status == 2
    assert "inspect" in out
    assert err == ""


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 50, 3), (30, 20), (30, 20, 4)])
def test_odd_pictures_are_explained(run, bundle, work, tmp_path, shape):
    cv2.imwrite(str(tmp_path / "odd.png"), np.random.default_rng(1).integers(0, 65536, shape).astype(np.uint16))
    status, _, err = run("explain", bundle, tmp_path / "odd.png", "-o", tmp_path / "out")
    assert status == 0, err
    assert np.isfinite(np.load(tmp_path / "out" / "odd.npz")["fusion_cam"]).all()


def test_debug_shows_the_traceback(run):
    status, _, err = run("inspect", "missing.onnx", "--debug")
    assert status == 1
    assert "Traceback" in err
    assert "ModelError" in err


def test_an_unexpected_error_is_one_line_too(run, monkeypatch):
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


def test_ctrl_c_leaves_whole_files_only(bundle, work, tmp_path):
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
    assert only_line(err) == "error: interrupted; nothing half written is left behind"
    written = list(out.iterdir())
    assert 0 < len(written) < 1200
    for path in written:
        assert path.suffix in (".npz", ".png", ".json"), path
        if path.suffix == ".npz":
            assert np.load(path)["fusion_cam"].shape == (24, 24)
        if path.suffix == ".json":
            json.loads(path.read_text())
        if path.suffix == ".png":
            assert cv2.imread(str(path)) is not None
