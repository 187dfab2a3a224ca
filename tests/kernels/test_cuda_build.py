"""The kernels as nvcc builds them: no GPU is needed for that."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fusioncam.kernels.specs import SPECS

SOURCE = Path(__file__).parents[2] / "kernels" / "cuda" / "fusioncam.cu"
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
FEW = 64  # registers a thread of a mask kernel may have, or too few threads fit to hide the memory's latency


@pytest.fixture(scope="module")
def nvcc():
    """Runs nvcc on the kernels; returns what it says."""
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc")

    def run(*options):
        done = subprocess.run(["nvcc", *map(str, options), str(SOURCE)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def report(nvcc, tmp_path_factory):
    """What ptxas says of each kernel, by name."""
    text = nvcc("-cubin", "-arch=sm_90", "-Xptxas", "-v", "-o", tmp_path_factory.mktemp("nvcc") / "kernels.cubin")
    _, *parts = re.split(r"Compiling entry function '(\w+)'", text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def number(pattern, text):
    return int(re.search(pattern, text)[1])


def test_the_binary_holds_the_kernels_of_the_specs_and_no_others(report):
    assert set(report) == set(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_a_kernel_keeps_all_its_values_in_registers(report, name):
    said = report[name]
    for what in ("stack frame", "spill stores", "spill loads"):
        assert number(rf"(\d+) bytes {what}", said) == 0, said
    used = number(r"Used (\d+) registers", said)
    assert used * SPECS[name].block <= 65536, f"{used} registers: a block does not fit"
    if name.startswith("mask_pictures"):
        assert used <= FEW


def test_a_kernel_is_compiled_for_the_blocks_its_spec_starts(nvcc, tmp_path):
    nvcc("-ptx", "-arch=compute_75", "-o", tmp_path / "kernels.ptx")
    entries = re.findall(r"\.entry (\w+)\(.*?\)\s*\.maxntid (\d+)", (tmp_path / "kernels.ptx").read_text(), re.DOTALL)
    assert {name: int(threads) for name, threads in entries} == {name: s.block for name, s in SPECS.items()}


def test_the_kernels_compile_for_all_architectures_without_a_warning(nvcc, tmp_path):
    codes = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in ARCHITECTURES]
    assert nvcc("-fatbin", "-Werror", "all-warnings", *codes, "-o", tmp_path / "kernels.fatbin").strip() == ""
