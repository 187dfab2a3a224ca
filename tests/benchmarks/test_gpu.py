"""`benchmarks/gpu.py` with the kernels on the CPU: all but the GPU itself."""

import json
from dataclasses import replace

import pytest

from fusioncam.kernels.specs import SPECS
from fusioncam.runtime.explanation import Passes
from fusioncam.runtime.methods import METHODS

SETTINGS = [(m, p, 5) for m in ("residual", "mobile") for p in ("fp32", "fp16")]
BACKENDS = ("onnxruntime", "torch")


@pytest.fixture(scope="module")
def run(part, command, lab, host_device, tmp_path_factory):
    """Runs the command in this process on small networks; gives its exit status and its report."""
    folder = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part("dry"), "device", lambda folder: host_device)
        patch.setattr(command, "lab_of", lambda asked, folder, device: lab)

        def call(name, *arguments):
            out = folder / f"{name}.json"
            status = command.main(["--dry", "--together", "-o", str(out), *arguments])
            return status, json.loads(out.read_text())

        yield call


@pytest.fixture(scope="module")
def measured(run):
    """One run of everything."""
    return run("everything")


def test_everything_passes_and_the_status_says_so(measured):
    status, report = measured
    wrong = [c for s in report["stages"].values() for c in s["checks"] if not c["ok"]]
    assert (status, wrong, report["passed"]) == (0, [], True)
    found = {name: s["status"] for name, s in report["stages"].items()}
    assert found.pop("row 9, watched") == "not run", "nothing watches this process"
    assert {*found.values()} == {"done"}
    rows = [f"row {number}" for number in (1, 9, 2, 3, 8, 7, 5, 6, 10)]
    assert [*found] == ["kernels", "models", "maps", *rows, "engine", "bandwidth", "explanations"], (
        "what matters most comes first"
    )


def test_the_report_says_where_and_with_what(measured):
    report = measured[1]
    assert (report["benchmark"], report["schema"], report["settings"]["dry"]) == ("gpu", 2, True)
    assert report["machine"]["gpu"]["name"] == "host"
    assert {"processor", "cores", "system", "python"} < set(report["machine"])
    assert {"fusioncam", "numpy", "torch", "onnx", "kernels"} <= set(report["versions"])
    assert report["settings"]["chunks"] == [5]
    assert (report["settings"]["launcher"], report["settings"]["tf32"]) == ("host", False)


def test_every_kernel_is_held_against_its_reference(measured):
    stage = measured[1]["stages"]["kernels"]
    worst = {c["kernel"]: c for c in stage["checks"] if not c["what"].endswith("differ")}
    assert {name: c["limit"] for name, c in worst.items()} == {name: s.tolerance for name, s in SPECS.items()}
    assert all(c["samples"] > 1 for c in worst.values())
    assert worst["mask_pictures_half"]["found"] > worst["mask_pictures_float"]["found"] > 0
    assert stage["left_out"] == [{"what": "launcher cuda-core", "why": "a dry run has no GPU"}]


def test_every_backend_and_precision_is_held_against_the_cpu(part, measured):
    stage = measured[1]["stages"]["maps"]
    found = {c["what"]: c for c in stage["checks"]}
    for model in ("residual", "mobile"):
        for backend in BACKENDS:
            for method in METHODS:
                exact = found[f"{model}, fp32, by {backend}: {method}, largest difference"]
                assert (exact["limit"], exact["pixels"]) == (2e-3, 24 * 24)
                assert exact["p99_9"] <= exact["found"] < 2e-3
                half = found[f"{model}, fp16, by {backend}: {method}, correlation"]
                assert (half["limit"], half["found"] <= 1 + 1e-9) == (0.999, True)
            assert found[f"{model}, fp16, by {backend}: score_cam, correlation"]["max"] > 1e-5, "float16 rounds"
        assert found[f"{model}, fp32, plain torch: score_cam, correlation"]["max"] < 1e-4
    for backend in ("onnxruntime", part("lab").BY_HOST):
        assert found[f"demo, fp32, by {backend}: fusion_cam, largest difference"]["ok"]
    assert stage["left_out"] == []


def test_every_kernel_is_timed_against_a_copy(measured):
    stage = measured[1]["stages"]["bandwidth"]
    assert stage["left_out"] == []
    assert {f["kernel"] for f in stage["figures"]} == set(SPECS)
    for f in stage["figures"]:
        assert f["seconds"]["count"] == 2
        assert 0 < f["seconds"]["min"] <= f["seconds"]["p50"] <= f["seconds"]["p95"] <= f["seconds"]["max"]
        assert f["gb_per_s"] == pytest.approx(f["seconds"]["bytes"] / f["seconds"]["p50"] / 1e9)
        assert f["share_of_copy"] == pytest.approx(f["gb_per_s"] / f["copy_gb_per_s"])
    assert len(stage["targets"]) == 4, "both mask kernels, both chunks"


def test_every_setting_is_timed_with_all_candidates(part, measured):
    stage = measured[1]["stages"]["explanations"]
    timed = [f for f in stage["figures"] if "who" in f]
    everyone = (*BACKENDS, *part("lab").LATE)
    candidates = {f"{w} by {r}" for w in ("fusion_cam", "bare passes") for r in everyone} | {"score_cam by plain torch"}
    for setting in SETTINGS:
        here = [f for f in timed if (f["model"], f["precision"], f["chunk"]) == setting]
        assert {f["who"] for f in here} == candidates, setting
        assert all(f["seconds"]["count"] == 2 for f in here)
    fused = [f for f in timed if f["who"].startswith("fusion_cam")]
    channels = {"residual": 16, "mobile": 12}
    for f in fused:
        assert f["passes"] == Passes(channels[f["model"]] + 4, channels[f["model"]])._asdict()
    assert all(set(f["stage_seconds"]) == {"preprocess", "explain", "masked_passes", "fusion"} for f in fused)
    assert len(stage["targets"]) == len(fused) == 16
    best = [f for f in stage["figures"] if "best_of" in f]
    assert len(best) == 2 * 2 * 5


def test_a_crash_in_a_stage_leaves_the_others(part, run, monkeypatch):
    def broken(*arguments, **more):
        raise RuntimeError("an illegal address was met")

    monkeypatch.setattr(part("kernels"), "check", broken)
    monkeypatch.setattr(part("bandwidth"), "measure", broken)
    status, report = run("crash", "--stages", "bandwidth", "kernels", "engine")
    assert (status, report["passed"]) == (1, False)
    found = {name: s["status"] for name, s in report["stages"].items()}
    assert found == {"kernels": "crashed", "models": "done", "engine": "done", "bandwidth": "crashed"}
    assert report["stages"]["kernels"]["reason"] == "RuntimeError: an illegal address was met"


def test_the_report_is_there_before_the_next_stage_begins(part, run, monkeypatch, tmp_path):
    class Killed(BaseException):
        pass

    def killed(*arguments, **more):
        raise Killed

    monkeypatch.setattr(part("kernels"), "check", lambda record, devices, missing: record.check("a kernel", 0, 1))
    monkeypatch.setattr(part("bandwidth"), "measure", killed)
    out = tmp_path / "r.json"
    with pytest.raises(Killed):
        run("unused", "--stages", "kernels", "bandwidth", "-o", str(out))
    assert list(json.loads(out.read_text())["stages"]) == ["kernels"]


def test_what_was_found_is_kept_while_a_stage_runs(part, run, monkeypatch, tmp_path):
    class Killed(BaseException):
        pass

    def killed(record, devices, missing):
        record.check("a kernel", 2, 1)
        record.save()
        raise Killed

    monkeypatch.setattr(part("kernels"), "check", killed)
    out = tmp_path / "r.json"
    with pytest.raises(Killed):
        run("unused", "--stages", "kernels", "-o", str(out))
    report = json.loads(out.read_text())
    assert (report["passed"], report["stages"]["kernels"]["status"]) == (False, "stopped")
    assert [c["what"] for c in report["stages"]["kernels"]["checks"]] == ["a kernel"]


def test_wrong_maps_fail_the_command(run, lab, monkeypatch):
    right = lab.reference("mobile")
    maps = {method: m.copy() for method, m in right.maps.items()}
    maps["fusion_cam"].flat[0] += 0.01
    monkeypatch.setitem(lab._made, ("reference", "mobile"), replace(right, maps=maps))
    status, report = run("wrong", "--stages", "maps", "--models", "mobile")
    wrong = [c for c in report["stages"]["maps"]["checks"] if not c["ok"]]
    assert status == 1
    assert [c["what"] for c in wrong] == [f"mobile, fp32, by {r}: fusion_cam, largest difference" for r in BACKENDS]
    assert all(c["found"] == pytest.approx(0.01, abs=1e-4) and c["pixels_over"] == 1 for c in wrong)
