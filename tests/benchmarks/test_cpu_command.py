"""`benchmarks/cpu.py`: a miniature of the whole run, without other packages and processes."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
import torch

from fusioncam.runtime.bench.memory import Memory
from fusioncam.runtime.budget import auto

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
MINIATURE = {
    "networks": ("wide-8",), "rounds": 2, "study": 2, "widths": (8, 12), "chunks": (2, 4), "images": (1, 2),
    "narrow": "wide-8", "threads": 1, "budgets": ("exact",), "int8": False,
}  # fmt: skip


@pytest.fixture
def command(part, monkeypatch):
    spec = importlib.util.spec_from_file_location("benchmarks_cpu_command", BENCHMARKS / "cpu.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "QUICK", MINIATURE)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: None, raising=False)
    for name in ("candidates", "sizes"):
        monkeypatch.setattr(part(f"cpu.{name}"), "memory_of", lambda *given: Memory(1_000_000, 3_000_000))
    monkeypatch.setattr(part("cpu.candidates"), "memory_of_peer", lambda *given: Memory(1_000_000, 9_000_000))
    every = part("peers").every_peer
    monkeypatch.setattr(
        part("cpu.candidates"), "every_peer", lambda: [peer for peer in every() if peer.package == "torch"]
    )
    threads = torch.get_num_threads()
    monkeypatch.setenv("FUSIONCAM_CACHE", os.environ["FUSIONCAM_CACHE"])  # which it changes
    yield module
    torch.set_num_threads(threads)


def test_a_miniature_of_everything(command, tmp_path, capsys):
    assert command.main(["--quick", "-o", str(tmp_path)]) == 0
    report = json.loads((tmp_path / "results" / "cpu.json").read_text())
    assert report["passed"]
    assert {name: stage["status"] for name, stage in report["stages"].items()} == dict.fromkeys(command.STAGES, "done")
    (peers,) = report["stages"]["peers"]["figures"]
    names = ["bare passes", "fusioncam exact", "fusioncam: Grad-CAM", "plain torch, channel by channel: Fusion-CAM"]
    assert [row["name"] for row in peers["rows"]] == names
    assert all(row["wrong"] is None and row["seconds"]["count"] == 2 for row in peers["rows"])
    assert peers["rows"][3]["methods"]["fusion_cam"]["correlation"]["min"] > 0.999
    (budgets,) = report["stages"]["budgets"]["figures"]
    assert len(budgets["rows"][1]["passes"]) == 2
    assert {(f["what"], f["chunk"]) for f in report["stages"]["chunks"]["figures"]} == {
        (what, chunk) for what in ("bare", "exact") for chunk in (2, 4)
    }
    assert [f["channels"] for f in report["stages"]["channels"]["figures"]] == [8, 12]
    assert [f["images"] for f in report["stages"]["images"]["figures"]] == [1, 2]
    assert "**wide-8, random weights" in (tmp_path / "README.md").read_text()
    assert capsys.readouterr().out.count(": done (") == len(command.STAGES)


def test_a_wrong_map_fails_the_run(command, tmp_path, part, monkeypatch):
    monkeypatch.setattr(
        part("cpu.candidates").ReferenceCheck, "__call__", lambda self, picture, drawn: "score_cam: off"
    )
    assert command.main(["--quick", "--no-peers", "--stages", "peers", "-o", str(tmp_path)]) == 1
    report = json.loads((tmp_path / "results" / "cpu.json").read_text())
    assert not report["passed"]
    (failed,) = (c for c in report["stages"]["peers"]["checks"] if not c["ok"])
    assert (failed["what"], failed["reason"]) == ("wide-8: fusioncam exact", "score_cam: off")
    assert "| fusioncam exact |" in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--models", "."], "go together"),
        (["--models", "gone", "--photos", "."], "no folder gone"),
        (["--stages", "speed"], "invalid choice"),
    ],
)
def test_bad_usage(command, capsys, arguments, words):
    with pytest.raises(SystemExit) as end:
        command.main(arguments)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


def test_stages_that_are_not_run_stay(command, tmp_path):
    main = ["--quick", "-o", str(tmp_path), "--stages"]
    result = tmp_path / "results" / "cpu.json"
    assert command.main([*main, "images", "chunks"]) == 0
    first = json.loads(result.read_text())["stages"]
    assert command.main([*main, "chunks"]) == 0
    second = json.loads(result.read_text())["stages"]
    assert second["images"] == first["images"]
    assert second["chunks"] != first["chunks"]
    other = json.loads(result.read_text())
    result.write_text(json.dumps({**other, "versions": {}}))
    assert command.main([*main, "chunks"]) == 0
    assert set(json.loads(result.read_text())["stages"]) == {"chunks"}


def test_what_is_asked_is_what_is_measured(command, tmp_path):
    asked = command.options(["--networks", "resnet18", "--budgets", "auto,0.2,64", "--rounds", "9", "--no-int8"])
    setting = command.setting_of(asked, tmp_path)
    assert setting.networks == ("resnet18",)
    assert setting.budgets == ("exact", auto(), 0.2, 64)
    assert (setting.rounds, setting.int8, setting.peers) == (9, False, True)


def test_models_of_a_folder(command, tmp_path):
    for name in ("mobilenetv2_100.onnx", "squeezenet11_fp16.onnx", "other.onnx"):
        (tmp_path / name).touch()
    asked = command.options(["--models", str(tmp_path), "--photos", str(tmp_path)])
    assert [p.name for p in command.setting_of(asked, tmp_path).models] == ["mobilenetv2_100.onnx"]
