"""Lack of memory is told as what it is, whoever met it."""

import subprocess
import sys

import numpy as np
import pytest

from fusioncam.errors import BundleError, FusionCamError, OutOfMemoryError, out_of_memory
from fusioncam.runtime.sessions.failures import run_failure


@pytest.mark.parametrize(
    ("error", "detail"),
    [
        (MemoryError(), "out of memory; use a smaller"),
        (np._core._exceptions._ArrayMemoryError((1 << 40,), np.dtype("f4")), "out of memory (Unable to allocate 4.00"),
        (MemoryError("std::bad_alloc"), "out of memory (std::bad_alloc); "),
        (
            RuntimeError(
                "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Conv node. Name:'c' "
                "bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 589824000\n"
            ),
            "out of memory (Failed to allocate memory for requested buffer of size 589824000); ",
        ),
        (RuntimeError("FAIL : Exception during loading: std::bad_alloc"), "out of memory (std::bad_alloc); "),
        (
            RuntimeError("(-4:Insufficient memory) Failed to allocate 24300 bytes in function 'f'"),
            "out of memory (Insu",
        ),
        (RuntimeError("CUDA failure 2: out of memory ; GPU=0"), "out of memory (CUDA failure 2: out of memory); "),
    ],
)
def test_lack_of_memory_is_known_by_whoever_reports_it(error, detail):
    said = out_of_memory(error)
    assert isinstance(said, FusionCamError)
    assert isinstance(said, MemoryError)
    assert str(said).startswith(detail)
    assert "\n" not in str(said)
    assert out_of_memory(said) is said
    assert isinstance(run_failure(error), OutOfMemoryError)


@pytest.mark.parametrize("error", [ValueError("allocation of seats"), BundleError("memory.onnx is damaged")])
def test_other_errors_are_not_about_memory(error):
    assert out_of_memory(error) is None


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from fusioncam.runtime.sessions.open import open_session
from fusioncam.runtime.sessions.run import run
bundle = Path(sys.argv[1])
opened = open_session(bundle / "score.onnx", threads=1)
x = np.zeros((20000, 3, 24, 32), np.float32)
pages = int(Path("/proc/self/statm").read_text().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (4 << 20),) * 2)
try:
    run(opened, ["logits"], {"image": x})
except MemoryError as error:
    print(type(error).__name__, error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit of memory is Linux's")
def test_onnxruntime_without_memory(tiny):
    done = subprocess.run([sys.executable, "-c", LIMITED, str(tiny.bundle)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("OutOfMemoryError out of memory (")
    assert done.stdout.count("\n") == 1
