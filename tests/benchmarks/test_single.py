"""`benchmarks/single.py` on the built-in model, without other processes."""

import json
import os

from fusioncam.runtime.bench.memory import Memory


def test_a_miniature(part, tmp_path, monkeypatch, capsys):
    single = part("single")
    monkeypatch.setattr(single.memory, "in_fresh_process", lambda *given: Memory(1_000_000, 3_000_000))
    monkeypatch.setenv("FUSIONCAM_CACHE", os.environ["FUSIONCAM_CACHE"])  # which it changes
    monkeypatch.setattr(single, "CLASSES", (-1,))
    assert single.main(["--rounds", "2", "--count", "1", "--out", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "results" / "single.json").read_text())
    (stage,) = report["stages"].values()
    assert report["passed"]
    assert [c["ok"] for c in stage["checks"]] == [True, True]
    assert [f["times_runtime"]["count"] for f in stage["figures"] if "times_runtime" in f] == [2, 2]
    assert stage["figures"][0]["file_bytes"] > 1.5 * stage["figures"][1]["file_bytes"]
    assert "times the runtime" in capsys.readouterr().out


def test_a_wrong_map_fails(part, tmp_path, monkeypatch):
    single = part("single")
    monkeypatch.setenv("FUSIONCAM_CACHE", os.environ["FUSIONCAM_CACHE"])
    monkeypatch.setattr(single, "CLASSES", (-1,))
    monkeypatch.setattr(single, "SAME", -1.0)
    monkeypatch.setattr(single, "time_in_turns", lambda *given: None)
    monkeypatch.setattr(single, "weigh", lambda *given: None)
    assert single.main(["--count", "1", "--out", str(tmp_path)]) == 1
