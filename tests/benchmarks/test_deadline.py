"""`benchmarks/deadline.py` on the built-in model, with deadlines that any machine keeps."""

import json
import os

import numpy as np
import pytest


@pytest.fixture
def deadline(part, monkeypatch):
    monkeypatch.setenv("FUSIONCAM_CACHE", os.environ["FUSIONCAM_CACHE"])
    return part("deadline")


def test_a_miniature(deadline, tmp_path, capsys):
    given = ["--only", "demo", "--runs", "2", "--deadlines", "0.001ms", "1000s", "--out", str(tmp_path)]
    assert deadline.main(given) == 0
    report = json.loads((tmp_path / "results" / "deadline.json").read_text())
    stage = report["stages"]["deadline"]
    (figure,) = stage["figures"]
    assert (figure["deadline"], figure["runs"], figure["kept"], figure["late"]) == ("1000000ms", 2, 1, 0)
    assert figure["error"] == pytest.approx(0, abs=1e-9)
    assert [t["met"] for t in stage["targets"]] == [True, True]
    assert "too short" in stage["left_out"][0]["why"]
    text = (tmp_path / "README.md").read_text()
    assert "| demo, 1000000ms | 2 | 100.0% |" in text
    assert "- left out: demo, 0.001ms: a deadline of 0.001ms is too short" in text
    (tmp_path / "README.md").write_text(text.replace("| demo, 1000000ms |", "| lost |"))
    assert deadline.main(["--draw", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "README.md").read_text() == text


def test_a_blank_map_is_like_a_blank_one_only(deadline):
    blank, drawn = np.zeros((2, 2), np.float32), np.eye(2, dtype=np.float32)
    assert deadline.correlation(drawn, drawn) == pytest.approx(1)
    assert (deadline.correlation(blank, blank), deadline.correlation(blank, drawn)) == (1, 0)
