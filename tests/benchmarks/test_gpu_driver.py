"""The command as on a machine with a GPU, over the driver that is none: what only the dry run would leave out."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def measured(compiler, tmp_path_factory):
    """The report of a run with the demo model alone, and what was printed."""
    if not importlib.util.find_spec("cuda.core"):
        pytest.skip("cuda-core is not installed")
    folder = tmp_path_factory.mktemp("driver")
    builder = ROOT / "tests" / "kernels" / "driver" / "build.py"
    spec = importlib.util.spec_from_file_location("benchmark_driver_build", builder)
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.build(folder)
    machine = {
        **os.environ, "LD_LIBRARY_PATH": str(folder), "FUSIONCAM_CACHE": str(folder),
        "FAKE_CUDA_KERNELS": str(compiler.library("benchmarked", flags=())), "FAKE_CUDA_MEMORY": "2000000000",
    }  # fmt: skip
    machine.pop("FUSIONCAM_ASSETS", None)
    out = folder / "r.json"
    command = [sys.executable, ROOT / "benchmarks" / "gpu.py", "--quick", "--models", "-o", out]
    stages = ["--stages", "kernels", "maps", "engine"]
    done = subprocess.run([*command, *stages], env=machine, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text()), done.stdout


def test_kernels_are_checked_through_a_launcher(measured):
    report = measured[0]
    assert report["machine"]["gpu"]["name"] == "Fake GPU 0"
    assert {"l2_bytes", "multiprocessors", "nvidia_smi"} <= report["machine"]["gpu"].keys()
    assert report["settings"]["launcher"] in ("cuda-core", "pycuda")
    stage = report["stages"]["kernels"]
    assert stage["status"] == "done"
    assert len(stage["checks"]) > 10


def test_what_onnxruntime_lacks_is_left_out_with_the_remedy(measured):
    report, printed = measured
    left = {o["what"]: o["why"] for name in ("maps", "engine") for o in report["stages"][name]["left_out"]}
    assert "maps by onnxruntime" in left
    assert all("provider" in why or "there is no" in why for why in left.values()), left
    assert [s["status"] for s in report["stages"].values()] == ["done"] * 4
    assert "demo, single graph: made in" in printed
