"""Whatever a user does wrong: one clear line, exit status 1 or 2, nothing half written, nothing of theirs lost."""

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

# Of either branch of an If: the bytes of a tensor of 2^62 numbers are no 64-bit integer any more.
TOO_LARGE = """<ir_version: 9, opset_import: ["" : 18]>
too_large (float[1, 3, 8, 8] image) => (float[1, 2] logits) {
    positive = Constant <value_float = 0.0> ()
    brightness = ReduceSum <keepdims = 0> (image)
    bright = Greater (brightness, positive)
    size = Constant <value_ints = [4611686018427387904]> ()
    zero = If (bright) <
        then_branch = bright_one () => (float zero_of_bright) {
            zeros = ConstantOfShape (size)
            zero_of_bright = ReduceSum <keepdims = 0> (zeros)
        },
        else_branch = dark_one () => (float zero_of_dark) {
            zeros_of_dark = ConstantOfShape (size)
            zero_of_dark = ReduceSum <keepdims = 0> (zeros_of_dark)
        }
    >
    pooled = GlobalAveragePool (image)
    flat = Flatten (pooled)
    picked = Constant <value_ints = [0, 1]> ()
    two = Gather <axis = 1> (flat, picked)
    logits = Add (two, zero)
}"""


def shell(arguments, **options):
    command = [sys.executable, "-m", "fusioncam", *map(str, arguments)]
    return subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, timeout=120, **options)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("inspect", "missing.onnx"), 1, ["missing.onnx", "does not exist"]),
        (("inspect", "labels.txt"), 1, ["labels.txt", "not an ONNX"]),
        (("export", "."), 1, ["folder"]),
        (("export", "truncated.onnx"), 1, ["truncated"]),
        (("export", "nan.onnx"), 1, ["'w'", "NaN"]),
        (("export", "norule.onnx", "-o", "x.fcam"), 1, ["Det", "det_node", "gradient rule"]),
        (("export", "tiny.onnx", "--layer", "featurs"), 2, ["featurs", "did you mean 'features'"]),
        (("export", "tiny.onnx", "--size", "32", "32"), 2, ["24"]),
        (("export", "tiny.onnx", "--size", "many", "32"), 2, ["--size"]),
        (("export", "tiny.onnx", "--scores", "nothing"), 2, ["nothing", "output"]),
        (("export", "tiny.onnx", "--preset", "imagenet"), 2, ["imagenet", "torchvision"]),
        (("export", "tiny.onnx", "--std", "0", "1", "1"), 2, ["std"]),
        (("export", "tiny.onnx", "--labels", "one.png"), 2, ["one.png"]),
        (("export", "tiny.onnx", "--labels", "tiny.onnx"), 2, ["labels"]),
        (("export", "tiny.onnx", "--labels", "gone.txt"), 2, ["gone.txt", "(No such file", "one class name a line"]),
        (("export", "tiny.onnx", "-o", "labels.txt"), 1, ["labels.txt", "no bundle"]),
        (("export", "tiny.onnx", "-o", "one.png/b.fcam"), 1, ["one.png"]),
        (("export", "no.such:thing"), 2, ["--size"]),
        (("export", "no.such:thing", "--size", "8", "8"), 2, ["no.such:thing"]),
        (("explain", "missing.fcam", "one.png"), 1, ["missing.fcam", "no bundle"]),
        (("explain", "tiny.fcam", "missing.png"), 1, ["missing.png"]),
        (("explain", "tiny.fcam", "labels.txt"), 1, ["labels.txt"]),
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
        (("explain", "tiny.fcam", "one.png", "--chunk", f"{2**63}"), 2, ["chunk", "1 to 1048576"]),
        (("explain", "tiny.fcam", "one.png", "--providers", "abacus"), 2, ["abacus", "cpu"]),
        (("explain", "tiny.fcam", "one.png", "--providers", ""), 2, ["at least one provider"]),
        (("explain", "tiny.fcam", "one.png", "--providers", ","), 2, ["at least one provider"]),
        (("explain", "tiny.fcam", "one.png", "--colormap", "beige"), 2, ["beige"]),
        (("explain", "tiny.fcam", "one.png", "-o", "labels.txt"), 1, ["labels.txt"]),
        (("explain", "tiny.fcam", "one.png", "--bogus"), 2, ["--bogus"]),
        (("explain", "tiny.fcam"), 2, ["IMAGE"]),
        (("check", "."), 1, ["no bundle"]),
        (("check", "tiny.fcam", "--source", "gone.onnx"), 2, ["gone.onnx", "--source"]),
        (("paint",), 2, ["paint"]),
    ],
)
def test_bad_input_gives_one_clear_line(run, bundle, work, arguments, status, words, make_model, only_line, listing):
    make_model(work / "nan.onnx", bad="nan")
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
def test_a_damaged_bundle_is_refused(run, work, tmp_path, damage, words, make_model, only_line):
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


def test_check_fails_with_the_figure_when_the_source_was_changed(run, work, tmp_path, make_model):
    make_model(tmp_path / "m.onnx")
    assert run("export", tmp_path / "m.onnx", "-o", tmp_path / "m.fcam", "--quiet")[0] == 0
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.initializer[1].raw_data = (1.5 * numpy_helper.to_array(model.graph.initializer[1])).tobytes()
    onnx.save(model, tmp_path / "m.onnx")
    status, out, _ = run("check", tmp_path / "m.fcam")
    assert status == 1
    assert "FAIL  source is the one exported (sha256): 1 (limit 0)" in out
    assert out.count("FAIL") == 4


def test_a_bad_picture_among_good_ones_is_reported_and_the_rest_goes_on(run, bundle, tmp_path, only_line):
    status, out, err = run("explain", bundle, "one.png", "labels.txt", "two.jpg", "-o", tmp_path, "--json")
    assert status == 1
    assert "labels.txt" in only_line(err)
    result = json.loads(out)
    assert [Path(e["image"]).name for e in result["explanations"]] == ["one.png", "two.jpg"]
    assert [f["image"] for f in result["failed"]] == ["labels.txt"]


@pytest.mark.parametrize("way", ["same folder", "link", "another picture"])
def test_results_never_overwrite_a_picture(run, bundle, work, tmp_path, way, only_line):
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


def test_results_are_replaced_by_newer_ones(run, bundle, tmp_path, load_maps):
    for methods in ("grad_cam", "score_cam"):
        assert run("explain", bundle, "one.png", "-o", tmp_path, "--methods", methods)[0] == 0
    assert list(load_maps(tmp_path / "one.npz")) == ["score_cam"]


def test_results_do_not_go_into_a_bundle(run, bundle, only_line, listing):
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


def test_output_that_cannot_be_written_is_one_line(work, only_line):
    with Path("/dev/full").open("w") as full:
        ended = shell(["inspect", work / "tiny.onnx"], stdout=full)
    assert ended.returncode == 1
    assert "No space left" in only_line(ended.stderr)


@pytest.mark.parametrize("command", ["inspect", "export"])
def test_a_tensor_without_a_size_within_an_if_is_one_line(command, tmp_path, only_line):
    """onnxruntime logs the overflow outside of the session, too, where no option of the session silences it."""
    onnx.save(onnx.parser.parse_model(TOO_LARGE), tmp_path / "large.onnx")
    ended = shell([command, tmp_path / "large.onnx"], cwd=tmp_path)
    assert ended.returncode == 1
    assert "Tensor storage size overflowed" in only_line(ended.stderr)


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
