"""Short runs of `benchmarks/fuzz.py`, and that it sees every way in which a case may end wrongly."""

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="cases run in forks, watched as Linux has it")


@pytest.mark.parametrize("target", ["models", "bundles", "requests", "cpp"])
def test_a_short_run_finds_nothing_and_keeps_its_counts(target, tmp_path):
    if target == "cpp" and (shutil.which("g++") is None or not Path("/usr/include/opencv4").is_dir()):
        pytest.skip("g++ or OpenCV's C++ headers are not here")
    (tmp_path / "fuzz.json").write_text('{"earlier": {}}')
    command = [sys.executable, BENCHMARKS / "fuzz.py", target, "--count", "3", "--json", tmp_path / "fuzz.json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=300)
    if target == "cpp" and "MissingHeadersError" in done.stderr:
        pytest.skip("onnxruntime's C++ headers are not here")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "fuzz.json").read_text())
    assert "earlier" in kept
    found = kept[target]
    assert (found["cases"], found["failures"]) == (3, [])
    statuses = found["statuses"]
    by_command = [statuses] if target == "requests" else [*statuses.values()]
    assert sum(sum(counts.values()) for counts in by_command) == 3 * (2 if target in ("models", "bundles") else 1)


# What a case does, and what is then said of it.
ENDINGS = {
    "a signal": ("os.kill(os.getpid(), signal.SIGSEGV)", "ended by SIGSEGV"),
    "a traceback": ("raise ZeroDivisionError", "ZeroDivisionError"),
    "a bug": ("sys.exit('error: unexpected KeyError: 3; this is a bug, please report it')", "this is a bug"),
    "another status": ("sys.exit(9)", "exit status 9"),
    "no line": ("sys.exit(1)", "0 lines in place of one error"),
    "two lines": ("sys.exit('error: a\\nerror: b')", "2 lines in place of one error"),
    "noise": ("sys.exit('libpng error\\nerror: b')", "2 lines in place of one error"),
    "noise of a success": ("sys.stderr.write('loop detected')", "done, but says loop detected"),
    "no end": ("time.sleep(60)", "over 1 s"),
    "no end of a child": ("os.fork() or time.sleep(60); os.wait()", "over 1 s"),
    "memory": ("b = bytearray(300_000_000); time.sleep(60)", "over 200 MB"),
    "memory for a moment": ("b = bytearray(b'x') * 300_000_000", "over 200 MB"),
    "one line": ("sys.exit('error: a')", ""),
    "notes besides": ("sys.exit('note: c\\nerror: a')", ""),
    "a finding of check": ("print('FAIL  logits'); sys.stdout.flush(); sys.exit(1)", ""),
    "success": ("print('done')", ""),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_wrong_end_is_seen(ending, tmp_path):
    act, expected = ENDINGS[ending]
    code = f"""
import os, signal, sys, time
from pathlib import Path
from fuzz import sandbox
sandbox.SECONDS, sandbox.MEGABYTES = 1.0, 200.0
def work():
    try:
        {act}
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(end.code)
            raise SystemExit(1)
        raise
print(sandbox.complaint(sandbox.run_forked(work, Path({str(tmp_path)!r}))), end="")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=BENCHMARKS, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout
    assert bool(expected) == bool(done.stdout)


def test_a_case_is_the_same_every_time_and_differs_from_others(part):
    mutations = part("fuzz.model_mutations")
    data = part("fuzz.seeds").SEEDS["if"]().SerializeToString()
    made = [mutations.mutate(random.Random(f"0 {number}"), data) for number in (*range(40), *range(40))]
    assert made[:40] == made[40:]
    assert len({spoiled for spoiled, _ in made}) > 35
    assert all(spoiled != data for spoiled, _ in made[:5])


def test_the_sound_models_are_sound(part, tmp_path):
    for path in part("fuzz.seeds").write_seeds(tmp_path).values():
        onnx.checker.check_model(path)
