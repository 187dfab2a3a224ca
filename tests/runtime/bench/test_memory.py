"""Peak memory: of the work alone, and of a process that does nothing else."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from fusioncam.errors import FusionCamError
from fusioncam.runtime.bench import memory
from fusioncam.runtime.bench.memory import Memory, in_fresh_process

MB = 1 << 20
needs_proc = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")

PROGRAM = """
import sys
import numpy as np
from fusioncam.runtime.bench.memory import answer

def load(asked):
    np.ones(asked["loading"], np.uint8)  # given back at once
    kept = np.ones(asked["kept"], np.uint8)
    return lambda: kept.sum() + np.ones(asked["working"], np.uint8).sum()

answer(load)
"""


@needs_proc
def test_only_what_the_work_takes_counts(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    base = in_fresh_process([str(program)], {"loading": 1, "kept": 1, "working": 1})
    found = in_fresh_process([str(program)], {"loading": 300 * MB, "kept": 50 * MB, "working": 100 * MB})
    assert found.added == pytest.approx(100 * MB, abs=10 * MB)
    assert found.loaded - base.loaded == pytest.approx(50 * MB, abs=10 * MB)
    assert found.peak - base.peak == pytest.approx(150 * MB, abs=15 * MB), "the peak while loading is forgotten"


def test_a_process_that_fails_says_why_in_one_line(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("raise ValueError('nothing there')")
    with pytest.raises(FusionCamError, match="memory cannot be measured: ValueError: nothing there"):
        in_fresh_process([str(program)], {})


def test_where_the_system_tells_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    monkeypatch.setattr(memory, "CLEAR", tmp_path / "neither" / "none")
    done = []
    found = memory.measure_here(lambda: lambda: done.append(np.ones(10).sum()))
    assert done
    assert (found.loaded, found.added) == (None, None)
    assert found.peak is None or found.peak > MB
    monkeypatch.setitem(sys.modules, "resource", None)
    assert memory.measure_here(lambda: lambda: None) == (None, None)


def test_what_was_added():
    assert Memory(10, 25).added == 15
    assert Memory(25, 10).added == 0
    assert json.dumps(Memory(10, 25)) == "[10, 25]"
