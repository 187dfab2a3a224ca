"""Who would run which node of a bundle, and why a node is left over."""

import importlib.util

import onnx
import pytest
from onnx import TensorProto, helper

from fusioncam import Explainer
from fusioncam.errors import ProviderError, UsageError
from fusioncam.runtime.sessions.open import Opening
from fusioncam.runtime.sessions.survey import reason_of, survey_bundle, survey_graph


@pytest.fixture
def qnn():
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        pytest.skip("needs the wheel of onnxruntime_qnn")


def test_on_the_cpu_nothing_is_left(tiny, capfd):
    explain, score, head = survey_bundle(tiny.bundle, Explainer(tiny.bundle).manifest, ["cpu"])
    assert [s.graph for s in (explain, score, head)] == ["explain.onnx", "score.onnx", "head.onnx"]
    for survey in (explain, score, head):
        assert survey.counts["Conv"] == {"cpu": 2}
        assert (survey.left, survey.reasons, survey.refused) == ([], {}, None)
        assert sum(n for by in survey.counts.values() for n in by.values()) == len(survey.nodes)
    assert len(explain.nodes) > len(head.nodes) > len(score.nodes)
    assert capfd.readouterr() == ("", "")


def test_score_and_head_run_wholly_on_the_npu(qnn, tiny, capfd):
    _, score, head = survey_bundle(tiny.bundle, Explainer(tiny.bundle).manifest, ["qnn"])
    assert {short for survey in (score, head) for by in survey.counts.values() for short in by} == {"qnn"}
    assert not score.left
    assert not head.left
    assert capfd.readouterr() == ("", "")


def save(path, *nodes):
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3, 4, 4])] for name in "xy"]
    graph = helper.make_graph(nodes, "g", *ends)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def test_what_is_left_comes_with_the_providers_own_words(qnn, tmp_path):
    path = save(
        tmp_path / "g.onnx",
        helper.make_node("Relu", ["x"], ["a"], "first"),
        helper.make_node("Erf", ["a"], ["b"], "lonely"),
        helper.make_node("Erf", ["b"], ["y"]),
    )
    survey = survey_graph(path, Opening(["QNNExecutionProvider"], sizes={"N": 1}, survey=True))
    assert [(n.name, n.operator) for n in survey.left] == [("lonely", "Erf"), ("", "Erf")]
    assert survey.reasons.keys() == {"lonely"}
    assert survey.reasons["lonely"].startswith("Operators of type `Erf` are not supported by QNN EP.")
    assert survey.counts == {"Erf": {"cpu": 2}, "Relu": {"qnn": 1}}


LOG = """2026-11-30 06:32:56 [V:onnxruntime:, x.cc:40 f] QNN node builder is trying to add node: [a/Gemm_9]
\x1b[0;93m2026-11-30 06:32:56 [W:onnxruntime:, x.cc:565 CreateQnnNode] failed for node `a/Gemm_99` with error 1
\x1b[m
\x1b[0;93m2026-11-30 06:32:56 [W:onnxruntime:, x.cc:565 CreateQnnNode] failed for node `a/Gemm_9` with error 3110\x1b[m
2026-11-30 06:32:56 [V:onnxruntime:, x.cc:1713 LogNodeSupport] Validation FAILED for 1 nodes in OrtNodeUnit (Erf) :
\tOperator type: Erf Node name: odd(1) Node index: 29
\tREASON : there is no Erf.
"""


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/Gemm_9", "failed for node `a/Gemm_9` with error 3110"),
        ("a/Gemm_99", "failed for node `a/Gemm_99` with error 1"),
        ("odd(1)", "there is no Erf."),
        ("Gemm_9", None),
        ("odd", None),
    ],
)
def test_reasons_are_read_from_logs(name, reason):
    assert reason_of(LOG, name) == reason


@pytest.mark.parametrize(("given", "error"), [(["cuda"], ProviderError), (["no"], UsageError), ([], UsageError)])
def test_who_cannot_be_asked(tiny, given, error):
    with pytest.raises(error):
        survey_bundle(tiny.bundle, Explainer(tiny.bundle).manifest, given)
