"""`fusioncam inspect --providers`: who would run a model's graphs."""

import json

import pytest

from fusioncam.runtime.commands import survey as surveys
from fusioncam.runtime.sessions.placement import PlacedNode
from fusioncam.runtime.sessions.survey import Survey

QNN, CPU = "QNNExecutionProvider", "CPUExecutionProvider"
NODES = [
    PlacedNode("a", "Conv", QNN),
    PlacedNode("b", "Conv", QNN),
    PlacedNode("c", "Erf", CPU),
    PlacedNode("", "Erf", CPU),
]


def test_a_model_becomes_a_bundle_for_it_and_is_gone(run, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "fusioncam.runtime.sessions.survey.survey_bundle",
        lambda folder, manifest, providers: asked.append((folder, manifest.layer.name, providers)) or [],
    )
    assert run("inspect", "tiny.onnx", "--providers", " cpu ", "--layer", "features") == (0, "", "")
    ((folder, layer, providers),) = asked
    assert (layer, providers) == ("features", ["cpu"])
    assert not folder.exists()


@pytest.mark.parametrize("option", [("--layer", "features"), ("--size", 4, 4), ("--scores", "logits")])
def test_options_of_an_export_are_refused_for_a_bundle(run, bundle, option):
    status, out, err = run("inspect", bundle, "--providers", "cpu", *option)
    why = f"{bundle} is a bundle, whose layer, size, layout and scores are fixed; leave those options out"
    assert (status, out, " ".join(err.split())) == (2, "", f"error: {why}")


@pytest.mark.parametrize("what", ["tiny.onnx", "bundle"])
def test_on_the_cpu_all_runs(run, bundle, what):
    status, out, err = run("inspect", bundle if what == "bundle" else what, "--providers", "cpu")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    graphs = [line for line in lines if ".onnx: " in line]
    assert [line.partition(":")[0] for line in graphs] == ["explain.onnx", "score.onnx", "head.onnx"]
    assert all(line.endswith(" nodes, none left to the CPU") for line in graphs)
    assert ["Conv", "1"] in [line.split() for line in lines]


def test_as_json(run, bundle):
    status, out, err = run("inspect", bundle, "--providers", "cpu", "--json")
    assert (status, err) == (0, "")
    explain, *_ = json.loads(out)
    assert {k: explain[k] for k in ("graph", "refused", "left")} == {
        "graph": "explain.onnx",
        "refused": None,
        "left": 0,
    }
    assert explain["operators"]["Conv"] == {"cpu": 1}
    conv = next(n for n in explain["nodes"] if n["operator"] == "Conv")
    assert conv == {"name": conv["name"], "operator": "Conv", "provider": "cpu", "left": False, "reason": None}


def test_what_is_left_is_listed_with_its_reason(capsys):
    surveys.print_survey(Survey("score.onnx", NODES, NODES[2:], {"c": "there is no Erf"}))
    first, *table, left, unnamed = capsys.readouterr().out.splitlines()
    assert first == "score.onnx: 4 nodes, 2 left to the CPU"
    assert [line.split() for line in table] == [["operator", "qnn", "cpu"], ["Conv", "2"], ["Erf", "2"]]
    assert left == "left: Erf c: there is no Erf"
    assert unnamed == "left: Erf: the provider does not say why"
    nodes = surveys.survey_json(Survey("score.onnx", NODES, NODES[2:], {"c": "there is no Erf"}))["nodes"]
    assert [(n["provider"], n["left"], n["reason"]) for n in nodes] == [
        ("qnn", False, None),
        ("qnn", False, None),
        ("cpu", True, "there is no Erf"),
        ("cpu", True, None),
    ]


def test_a_refused_graph_is_one_line(capsys):
    surveys.print_survey(Survey("explain.onnx", refused="qnn refuses Erf c of explain.onnx"))
    assert capsys.readouterr().out == "qnn refuses Erf c of explain.onnx\n"


def test_a_provider_that_cannot_be_used_is_one_line_before_any_work(run, monkeypatch, only_line):
    monkeypatch.setattr("fusioncam.export.export_model", lambda *_, **__: pytest.fail("the model is exported first"))
    status, out, err = run("inspect", "tiny.onnx", "--providers", "mine:/no/library.so")
    assert (status, out) == (1, "")
    assert "the mine provider cannot be used: there is no file /no/library.so" in only_line(err)


def test_a_bundle_is_for_providers(run, bundle, only_line):
    status, _, err = run("inspect", bundle)
    assert status == 2
    assert only_line(err).endswith("is a bundle: give --providers, or the .onnx file that it was made from")


def test_a_layer_is_for_providers(run, only_line):
    status, _, err = run("inspect", "tiny.onnx", "--layer", "conv")
    assert status == 2
    assert only_line(err) == "error: --layer chooses the graphs for --providers: give both"
