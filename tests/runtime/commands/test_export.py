"""`fusioncam export` and `inspect`: options that say more of a model than its file does, and the notes about them."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from fusioncam.manifest import HEAD_GRAPH, read_bundle

NO_GRADIENT = "note: the bundle has no gradient"
ONE_OUTPUT = "note: the model has one output"


def notes(err):
    return [line for line in err.splitlines() if line.startswith("note: ")]


@pytest.fixture
def one_output(make_model, tmp_path):
    """A model of one output, which ends in bare logits or not."""

    def save(name, sigmoid):
        model = onnx.load(make_model(tmp_path / name))
        weight = next(i for i in model.graph.initializer if i.name == "v")
        weight.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(weight)[:, :1]), "v"))
        model.graph.node[-1].op_type = "Sigmoid" if sigmoid else "Identity"
        model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return save


def test_no_gradient(run, make_model, only_line, tmp_path):
    source, bundle = make_model(tmp_path / "norule.onnx", bad="no rule"), tmp_path / "b.fcam"
    status, _, err = run("export", source, "-o", bundle, "--preset", "unit")
    assert status == 1
    assert "Det" in only_line(err)
    assert "--no-gradient" in only_line(err)
    assert not bundle.exists()
    status, out, _ = run("inspect", source)
    assert status == 0
    assert "--no-gradient: Score-CAM and Recipro-CAM still work" in " ".join(out.split())
    status, _, err = run("export", source, "-o", bundle, "--preset", "unit", "--no-gradient")
    assert status == 0
    # Nothing behind the operator can be followed, so that the layer is early, too.
    assert [n.startswith(NO_GRADIENT) for n in notes(err)] == [False, True]
    assert not read_bundle(bundle).gradient
    status, out, _ = run("check", bundle)
    assert status == 0
    assert "gradient" not in out
    assert "FAIL" not in out
    # The default methods are those that the bundle has.
    status, out, err = run("explain", bundle, "one.png", "-o", tmp_path / "out", "--json")
    assert (status, json.loads(out)["explanations"][0]["methods"]) == (0, ["score_cam"])
    assert notes(err) == ["note: the bundle has no gradient, so of the usual maps only score_cam is made"]
    status, out, err = run("bench", bundle, "one.png", "--rounds", "1", "--budget", "exact")
    assert status == 0, err
    assert "WRONG" not in out


def test_inspect_is_silent_about_the_way_out_where_none_is_needed(run):
    assert "--no-gradient" not in run("inspect", "tiny.onnx")[1]


ENDINGS = {
    "mean": (
        ["a = Softmax <axis = 1> (z) s = Sin (z) b = Softmax <axis = 1> (s) y = Mean (a, b)"],
        "out of reach: log p",
    ),
    "within 0 and 1": (["s = Sin (z) y = Mul (s, s)"], "within 0..1, but nothing says that they are probabilities"),
    "reached": (["l = LogSoftmax <axis = 1> (z) y = Exp (l)"], None),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_logits_that_are_not_the_models_own_are_noted(name, run, make_model, tmp_path):
    (text,), note = ENDINGS[name]
    model = onnx.load(make_model(tmp_path / "end.onnx"))
    last = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["z" if o == last else o for o in node.output]
    model.graph.node.extend(onnx.parser.parse_graph(f"g (float[N, K] z) => (float[N, K] y) {{ {text} }}").node)
    model.graph.output[0].name = "y"
    onnx.save(model, tmp_path / "end.onnx")
    status, _, err = run("export", tmp_path / "end.onnx", "-o", tmp_path / "b.fcam", "--preset", "unit")
    assert status == 0
    assert [note in n for n in notes(err)] == [True] * (note is not None)
    shown = " ".join(run("inspect", tmp_path / "end.onnx")[1].split())
    assert {"mean": "out of reach", "reached": "softmax, written as LogSoftmax / Exp"}.get(name, "within 0..1") in shown
    output = json.loads(run("inspect", tmp_path / "end.onnx", "--json")[1])["output"]
    assert output["reach"] == {"mean": "out_of_reach", "reached": "reached"}.get(name, "doubtful")


@pytest.mark.parametrize(
    ("sigmoid", "ending", "becomes", "noted"),
    [
        (False, (), "sigmoid", [True]),
        (False, ("--ending", "sigmoid"), "sigmoid", []),
        (False, ("--ending", "value"), "value", []),
        (True, (), "sigmoid", []),
        (True, ("--ending", "value"), "value", []),
    ],
)
def test_one_output(sigmoid, ending, becomes, noted, run, one_output, tmp_path):
    source, bundle = one_output("one.onnx", sigmoid), tmp_path / "b.fcam"
    status, _, err = run("export", source, "-o", bundle, "--preset", "unit", *ending)
    assert status == 0
    assert [n.startswith(ONE_OUTPUT) for n in notes(err)] == noted
    manifest = read_bundle(bundle)
    assert (manifest.ending, manifest.classes, manifest.source.outputs) == (becomes, 2, 1)
    assert run("check", bundle)[0] == 0
    assert "2 classes of one number" in run("inspect", source)[1]
    assert json.loads(run("inspect", source, "--json")[1])["output"]["numbers"] == 1
    assert notes(run("export", source, "-o", bundle, "--preset", "unit", "--quiet", *ending)[2]) == []


def test_one_label_for_one_output(run, one_output, tmp_path):
    (tmp_path / "label.txt").write_text("cat\n")
    source = one_output("one.onnx", True)
    assert run("export", source, "-o", tmp_path / "b.fcam", "--labels", tmp_path / "label.txt")[0] == 0
    assert read_bundle(tmp_path / "b.fcam").labels == ("not cat", "cat")


@pytest.mark.parametrize("ending", ["softmax", "sigmoid", "value"])
def test_ending(ending, run, tmp_path):
    status, out, _ = run("export", "tiny.onnx", "-o", tmp_path / "b.fcam", "--ending", ending, "--json")
    said = json.loads(out)
    assert status == 0
    assert (said["ending"], said["source"]["ending"]) == (ending, "logits" if ending == "value" else "softmax")
    assert run("check", tmp_path / "b.fcam")[0] == 0


def test_endings_that_cannot_be(run, one_output, only_line, tmp_path):
    status, _, err = run("export", "tiny.onnx", "-o", tmp_path / "b.fcam", "--ending", "relu")
    assert status == 2
    assert "softmax, sigmoid or value" in only_line(err)
    status, _, err = run("export", one_output("one.onnx", True), "-o", tmp_path / "b.fcam", "--ending", "softmax")
    assert status == 2
    assert "always 1" in only_line(err)


def test_a_bundle_without_a_head_is_noted(run, tmp_path, monkeypatch):
    monkeypatch.setattr("fusioncam.export.assembly.head_graph", lambda *_: None)
    status, _, err = run("export", "tiny.onnx", "-o", tmp_path / "b.fcam", "--preset", "unit")
    assert status == 0
    assert len(notes(err)) == 1
    assert "Recipro-CAM is unavailable" in err
    assert not (tmp_path / "b.fcam" / HEAD_GRAPH).exists()
