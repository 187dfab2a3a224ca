"""`benchmarks/onnx_suite.py` on a few cases."""

import json

import numpy as np
import onnx
import pytest

from fusioncam.export.gradient import RULES
from fusioncam.export.gradient.rules.table import Rule


@pytest.fixture(scope="module")
def suite(part):
    return part("onnx_suite")


@pytest.fixture
def examine(suite):
    """The findings of one case by its name, in this process."""

    def examine(name):
        (case,) = [c for c in suite.cases([name]) if c.name == f"test_{name}"]
        return {f.pair: (f.verdict, f.why) for f in suite.examine(case) if f.by == "fusioncam"}

    return examine


def test_a_few_cases(suite, tmp_path, monkeypatch, capsys):
    # In this process, which is quicker.
    monkeypatch.setattr(suite, "findings", lambda only, _: (f for c in suite.cases(only) for f in suite.examine(c)))
    names = ["maxpool_2d_dilations", "training_dropout_default", "and2d", "operator_maxpool"]
    assert suite.main(["--only", *names, "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "results" / "onnx-suite.json").read_text())
    assert report["wrong"] == []
    assert report["pairs"]["fusioncam"]["single operators"]["right"] == 2
    assert sum(report["references"].values()) == 2
    assert report["not_run"] == {"no pair of floating-point tensors": 1}
    assert any("Dropout" in why for why in report["refused"])
    assert "2 right" in capsys.readouterr().out


def test_both_operands_are_examined(examine):
    assert examine("matmul_3d") == {
        "a -> c": ("right", "onnxruntime, float64"),
        "b -> c": ("right", "onnxruntime, float64"),
    }


def test_what_onnxruntime_does_not_run_is_run_by_onnx(examine):
    assert examine("spacetodepth_crd_mode_example") == {"x -> y": ("right", "onnx.reference, float64")}


def test_a_wrong_rule_is_found(examine, monkeypatch):
    monkeypatch.setitem(RULES, ("", "Tanh"), Rule(lambda s: s.op.Mul(s.dy, s.y)))
    verdict, why = examine("tanh")["x -> y"]
    assert verdict == "wrong"
    assert "onnxruntime, float64" in why


def test_a_case_without_end_is_left(suite, monkeypatch):
    found = list(suite.findings(["test_and2d"], seconds=0))
    assert {f.verdict for f in found} == {"wrong"}
    assert all("not done after" in f.why for f in found)


def test_kinks_are_left_out(part):
    differences = part("differences")
    relu = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["": 18]> g (float[4] x) => (float[4] y) {y = Relu(x)}'
    )
    x = np.array([-1, 0, 2, 3], np.float32)
    ((reference, *_), differing) = differences.references(relu, "y", {"x": x}, "onnxruntime")
    found = differences.slopes(reference, {"x": x}, "x", np.array([1.0, 2, 3, 4]))
    assert differing == []
    assert found.kinks == 1
    assert found.directions.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(found.values, [0, 3, 4], atol=1e-6)
