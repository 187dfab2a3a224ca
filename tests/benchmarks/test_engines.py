"""`benchmarks/engines.py` on a bundle and on one small network, with the real builder, and how it tells a refusal."""

import json

import onnx
import pytest

BUILT = {"refusal": None, "bytes": 9, "seconds": 0.1, "processor_seconds": 0.1}


@pytest.fixture(scope="module")
def engines(part, command_of):
    module = command_of("engines")
    try:
        module.Builder().__exit__()
    except part("engines.builder").MissingBuilderError as error:
        pytest.skip(str(error))
    return module


def test_bundles_are_printed_and_not_written(engines, make_tiny, tmp_path, capsys):
    bundle = make_tiny().bundle
    assert engines.main([str(bundle), "--out", str(tmp_path / "t.json")]) == 0
    assert not (tmp_path / "t.json").exists()
    said = capsys.readouterr().out
    assert "| tiny.fcam |  |" in said
    assert "3 graphs built, 0 refused" in said


def test_a_folder_without_graphs_is_an_error(engines, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        engines.main([str(tmp_path)])
    assert "holds no graph of a bundle" in capsys.readouterr().err


def test_a_refused_graph_fails(engines, tmp_path, capsys):
    text = '<ir_version: 10, opset_import: ["": 18]> agraph (float[4] x) => (float[4] y) {y = Softmax(x)}'
    (tmp_path / "b.fcam").mkdir()
    onnx.save(onnx.parser.parse_model(text), tmp_path / "b.fcam" / "score.onnx")
    assert engines.main([str(tmp_path / "b.fcam")]) == 1
    said = capsys.readouterr()
    assert "at least 2 dimensions" in said.err
    assert "| refused |" in said.out


def test_one_network_goes_beside_the_others(engines, tmp_path, capsys):
    out = tmp_path / "t.json"
    other = {"network": "other", "scores": "fp32", "graph": "score.onnx", **BUILT}
    out.write_text(json.dumps({"rows": [other]}))
    assert engines.main(["--only", "tests/pooled", "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert [row["graph"] for row in report["rows"]] == ["score.onnx", *engines.GRAPHS[:3], "score.onnx", "score.onnx"]
    assert [row["scores"] for row in report["rows"][-2:]] == ["fp16", "int8"]
    assert (report["built"], report["refused"]) == (6, 0)
    assert all(row["layers"] > 0 and row["bytes"] > 1000 for row in report["rows"][1:])


def test_a_slow_engine_fails(engines, monkeypatch, make_tiny, tmp_path):
    row = {"network": "n", "scores": "", "graph": "fusioncam.onnx", **BUILT, "seconds": 60.1}
    monkeypatch.setattr(engines, "rows_of", lambda *given: [row])
    assert engines.main([str(make_tiny().bundle)]) == 1


def test_networks_of_tests_and_files_are_built(part, tmp_path):
    sources = part("engines.sources")
    (tmp_path / "model.onnx").touch()
    found = sources.sources(tmp_path)
    assert {"resnet18", "mobilenetv2", "model", "tests/swin", "tests/vgg"} <= {*found}
    assert found["model"][1] == sources.PRECISIONS
    assert len([name for name in found if name.startswith("tests/")]) >= 30
