"""Bundles of models whose gradient cannot be had, or is not wanted."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from fusioncam.errors import ModelError, UnsupportedOperatorError, UsageError
from fusioncam.export import check, export_model, export_torch, inspect_model
from fusioncam.export.gradient import RULES
from fusioncam.manifest import EXPLAIN_GRAPH, HEAD_GRAPH, SCORE_GRAPH, read_bundle

WAY_OUT = r"choose a layer after that operator with --layer .* --no-gradient: Score-CAM and Recipro-CAM still work$"


@pytest.fixture
def odd(tiny, monkeypatch):
    """A model with an operator whose rule is taken away, after the layer 'r1'."""
    monkeypatch.delitem(RULES, ("", "CumSum"))
    source = tiny(operator="Relu")
    model = onnx.load(source)
    node = next(n for n in model.graph.node if n.name == "odd")
    node.op_type = "CumSum"
    node.input.append("axis")
    model.graph.initializer.append(numpy_helper.from_array(np.int64(2), "axis"))
    onnx.save(model, source)
    return source


def test_what_there_is(odd, tmp_path, run):
    manifest = export_model(odd, tmp_path / "n.fcam", layer="r1", gradient=False)
    assert (manifest.gradient, read_bundle(tmp_path / "n.fcam").gradient) == (False, False)
    session = onnxruntime.InferenceSession(tmp_path / "n.fcam" / EXPLAIN_GRAPH, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["image", "class_index"], "it is run as any other"
    assert [o.name for o in session.get_outputs()] == ["logits", "activations"]
    assert [o.shape for o in session.get_outputs()] == [["N", 5], ["N", 4, 8, 6]]
    findings = check(tmp_path / "n.fcam")
    assert all(f.ok for f in findings)
    assert [f.what.split()[2] for f in findings[1:]] == [SCORE_GRAPH, EXPLAIN_GRAPH, HEAD_GRAPH]
    image = np.random.default_rng(1).random((1, 3, 8, 6), np.float32)
    given = run(tmp_path / "n.fcam" / EXPLAIN_GRAPH, {"image": image, "class_index": np.array([3])})
    assert given["activations"].std() > 0
    assert np.allclose(given["logits"], run(tmp_path / "n.fcam" / SCORE_GRAPH, {"image": image})["logits"], atol=1e-6)


def test_the_same_but_for_the_gradient(tiny, tmp_path, run):
    full = export_model(tiny(), tmp_path / "g.fcam")
    less = export_model(tiny(), tmp_path / "n.fcam", gradient=False)
    assert full.gradient
    assert less.layer == full.layer
    feeds = {"image": np.random.default_rng(1).random((2, 3, 8, 6), np.float32), "class_index": np.array([1, -1])}
    one, other = (run(tmp_path / name / EXPLAIN_GRAPH, feeds) for name in ("g.fcam", "n.fcam"))
    for name in ("logits", "activations"):
        assert np.array_equal(one[name], other[name])
    for name in (SCORE_GRAPH, HEAD_GRAPH):
        assert (tmp_path / "g.fcam" / name).read_bytes() == (tmp_path / "n.fcam" / name).read_bytes()


def test_from_torch(networks, tmp_path):
    network = networks["squeezenet"]
    example = torch.zeros(1, 3, *network.size)
    assert not export_torch(network.make(), example, tmp_path / "n.fcam", gradient=False).gradient
    assert all(f.ok for f in check(tmp_path / "n.fcam"))


def test_it_is_offered_but_never_chosen(odd, tmp_path):
    with pytest.raises(UsageError, match=rf"'r1' cannot explain the model: no gradient rule for CumSum .*; {WAY_OUT}"):
        export_model(odd, tmp_path / "n.fcam", layer="r1")
    assert export_model(odd, tmp_path / "n.fcam").layer.name == "relu", "which comes after it"
    assert read_bundle(tmp_path / "n.fcam").gradient
    found = inspect_model(odd)
    assert found.missing == {"CumSum": 1}
    assert "--no-gradient" in found.way_out


def test_where_no_layer_is_after_it(tiny, tmp_path, monkeypatch):
    monkeypatch.delitem(RULES, ("", "Sinh"))
    source = tiny(ending=["Sinh"])
    with pytest.raises(ModelError, match=rf"^no layer .*: no gradient rule for Sinh .*; {WAY_OUT}"):
        export_model(source, tmp_path / "n.fcam")
    assert inspect_model(source).default is None
    manifest = export_model(source, tmp_path / "n.fcam", gradient=False)
    assert (manifest.layer.name, manifest.has_head) == ("relu", True), "the one that would have been taken"
    assert all(f.ok for f in check(tmp_path / "n.fcam"))


def test_no_way_out_where_none_is_needed(tiny):
    assert inspect_model(tiny()).way_out is None


def test_other_refusals_stay(tiny, tmp_path):
    with pytest.raises(UsageError, match=r"layer 'c2' cannot explain the model \("):
        export_model(tiny(), tmp_path / "m.fcam", layer="c2", gradient=False)


def test_error_of_the_walk_offers_it(tiny, tmp_path, monkeypatch):
    # A rule that does not know this use of its operator shows only while the gradient is made.
    def refuse(step):
        raise NotImplementedError("not like that")

    name = ("", "GlobalAveragePool")
    monkeypatch.setitem(RULES, name, replace(RULES[name], gradient=refuse))
    with pytest.raises(UnsupportedOperatorError, match=rf"has no gradient rule: not like that; {WAY_OUT}"):
        export_model(tiny(), tmp_path / "n.fcam")
    assert not (tmp_path / "n.fcam").exists()
    assert not export_model(tiny(), tmp_path / "n.fcam", gradient=False).gradient
