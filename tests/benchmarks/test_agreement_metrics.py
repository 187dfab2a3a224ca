"""The proof of the metrics, on a network small enough for every pass; the other packages are not needed."""

import json

import pytest
import torch

NAME = "wide-8"


@pytest.fixture(scope="module")
def proof(part):
    return part("agreement.metrics")


@pytest.fixture(scope="module")
def bench(part, proof, tmp_path_factory):
    return proof.Bench(part("cpu.subjects").made_up(NAME, tmp_path_factory.mktemp("agreement"), 1))


@pytest.mark.parametrize("name", ["insertion", "deletion"])
def test_a_loop_in_torch_finds_the_same_area(proof, bench, name, monkeypatch):
    monkeypatch.setattr(proof, "rise_blur", torch.zeros_like)  # RISE's kernel of 11 pixels is for pictures of 224
    from fusioncam.runtime.probes import probe

    monkeypatch.setattr(probe, "blurred", lambda x: x * 0)
    (picture,) = bench.subject.pictures
    map_ = bench.positive_map(picture)
    found = bench.ours(picture, {"map": map_}, (name,), steps=proof.STEPS)["map"].values[name]
    assert found == pytest.approx(proof.plain_area(bench, picture, map_, name), abs=1e-5)
    upside_down = bench.ours(picture, {"map": 1 - map_}, (name,), steps=proof.STEPS)["map"].values[name]
    assert found != pytest.approx(upside_down, abs=1e-4)


def test_what_differs_fails_and_what_is_missing_is_said(proof, bench, monkeypatch):
    def differs(record, bench):
        record.check("this as that", 2e-4, proof.LIMIT)

    def missing(record, bench):
        raise ImportError("No module named 'theirs'")

    monkeypatch.setattr(proof, "COMPARISONS", {"one": differs, "other": missing})
    kept = []
    stages = proof.agreement(bench.subject, kept.append)
    assert [c["ok"] for c in stages["one"]["checks"]] == [False]
    assert stages["other"]["status"] == "not run"
    assert "theirs" in stages["other"]["reason"]
    assert len(kept) == 2


@pytest.mark.parametrize(("found", "status"), [(0.0, 0), (1.0, 1)])
def test_the_report_and_the_exit_status(proof, monkeypatch, tmp_path, capsys, found, status):
    monkeypatch.setattr(proof, "NETWORK", NAME)
    monkeypatch.setattr(proof, "COMPARISONS", {"one": lambda record, bench: record.check("it", found, proof.LIMIT)})
    assert proof.main(["--count", "1", "-o", str(tmp_path / "found.json")]) == status
    report = json.loads((tmp_path / "found.json").read_text())
    assert (report["network"], report["passed"]) == (NAME, not status)
    assert ("FAILED" in capsys.readouterr().out) == bool(status)


def test_a_model_needs_photos(proof, capsys, tmp_path):
    with pytest.raises(SystemExit):
        proof.main(["--model", str(tmp_path / "m.onnx")])
    assert "go together" in capsys.readouterr().err
