"""nvcc, NVRTC and the build of a wheel, mostly with scripts in the place of nvcc."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fusioncam.errors import DeviceError
from fusioncam.kernels import binary
from fusioncam.kernels.specs import SPECS

ROOT = Path(__file__).parents[2]
CUBIN = binary.ELF + b" of no GPU"
pytestmark = pytest.mark.usefixtures("bare")


@pytest.fixture
def no_nvcc():
    if shutil.which("nvcc", path="/usr/bin:/bin"):
        pytest.skip("there is an nvcc where it cannot be hidden")


@pytest.fixture
def no_nvrtc(monkeypatch):
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)


@pytest.fixture
def nvrtc():
    pytest.importorskip("cuda.bindings.nvrtc", reason="cuda-bindings is not installed")


def write_nvcc(folder, script):
    """An nvcc that runs a shell script; its arguments are left in `asked`."""
    folder.mkdir(parents=True)
    (folder / "nvcc").write_text(f'#!/bin/sh\necho "$@" > {folder}/asked\n{script}\n')
    (folder / "nvcc").chmod(0o755)


WRITES = 'while [ "$1" != -o ]; do shift; done; printf "\\177ELF by nvcc" > "$2"'
COMPLAINS = "echo 'masks.cu(3): warning: x'; echo 'masks.cu(7): error: y is undefined'; echo '2 errors'; exit 2"


def configure(folder, nvcc):
    """Run the build with an nvcc; returns the binaries it made, and what it said."""
    if not (shutil.which("cmake") and shutil.which("make")):
        pytest.skip("there is no cmake, or no make")
    write_nvcc(folder / "bin", nvcc)
    shutil.copy(ROOT / "CMakeLists.txt", folder)
    environment = {**os.environ, "CUDA_HOME": str(folder)}
    command = ["cmake", "-S", folder, "-B", folder / "build", "-G", "Unix Makefiles"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    made = list((folder / "build").glob("*.fatbin")) if done.returncode == 0 else []
    return made, done.stdout + done.stderr


def test_the_build_names_the_binary_by_the_same_digest(tmp_path):
    (made,), _ = configure(tmp_path, f"[ $1 = --list-gpu-arch ] && echo compute_90 && exit\n{WRITES}")
    assert made.name == f"fusioncam-{binary.source_digest()[:16]}.fatbin"
    asked = (tmp_path / "bin" / "asked").read_text()
    assert "code=[sm_75,compute_75]" in asked
    assert "code=sm_90" in asked
    assert "code=sm_120" not in asked  # this nvcc does not know it
    assert all(option in asked for option in binary.OPTIONS)
    assert "kernels/cuda/fusioncam.cu" in asked


def test_the_build_ends_where_nvcc_fails_and_says_why(tmp_path):
    made, said = configure(tmp_path, COMPLAINS)
    assert not made
    assert "y is undefined" in said


def test_processes_that_compile_at_once_do_not_disturb_each_other(tmp_path):
    write_nvcc(tmp_path / "bin", f"sleep 0.3\n{WRITES}")
    script = "from fusioncam.kernels.binary import load_kernels; print(load_kernels((6, 1), bytes))"
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    command = [sys.executable, "-c", script]
    three = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert {process.communicate()[0] for process in three} == {"b'\\x7fELF by nvcc'\n"}
    (cached,) = binary.cache_folder().iterdir()
    assert cached.read_bytes() == binary.sealed(b"\x7fELF by nvcc")


@pytest.mark.parametrize("variable", ["PATH", "CUDA_HOME", "CUDA_PATH"])
def test_nvcc_is_found_by_each_of_its_variables(no_nvcc, monkeypatch, tmp_path, variable):
    write_nvcc(tmp_path / "bin", WRITES)
    monkeypatch.setenv(variable, f"{tmp_path / 'bin'}:/usr/bin:/bin" if variable == "PATH" else str(tmp_path))
    assert binary.with_nvcc("sm_89") == b"\x7fELF by nvcc"
    asked = (tmp_path / "bin" / "asked").read_text().split()
    assert asked[:2] == ["-cubin", "-arch=sm_89"]
    assert asked[-1] == str(binary.SOURCES / "fusioncam.cu")


def test_what_nvcc_says_becomes_one_line(no_nvrtc, monkeypatch, tmp_path):
    write_nvcc(tmp_path / "bin", COMPLAINS)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(DeviceError) as info:
        binary.load_kernels((8, 9), bytes)
    text = str(info.value)
    assert text.startswith("the kernels cannot be compiled for sm_89: nvcc: masks.cu(7): error: y is undefined; ")
    assert "there is no NVRTC" in text
    assert text.endswith(binary.INSTALL)
    assert "\n" not in text


def test_an_nvcc_that_does_not_run_is_no_nvcc(monkeypatch, tmp_path):
    write_nvcc(tmp_path / "bin", "")
    (tmp_path / "bin" / "nvcc").write_text("#!/nowhere/sh\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    with pytest.raises(binary.CompilerError, match="nvcc does not run"):
        binary.with_nvcc("sm_90")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "nvcc: it makes no cubin, and ends with status 3"),
        ("exit 0", "nvcc: it makes no cubin, and ends with status 0"),
        (WRITES.replace("177ELF", "041ELF"), "nvcc: it makes no cubin, and ends with status 0"),
        (f"{WRITES}; exit 1", "nvcc: it makes no cubin, and ends with status 1"),
        ("exec sleep 60", "nvcc is not done after 0.2 s"),
        ("cat; echo ready; exit 1", "nvcc: ready"),
    ],
    ids=["silent", "nothing made", "no cubin", "failed late", "hanging", "asking"],
)
def test_an_nvcc_that_does_not_do_its_work_is_given_up(monkeypatch, tmp_path, script, said):
    write_nvcc(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(binary, "TIMEOUT", 0.2 if "sleep" in script else 60)
    monkeypatch.setattr(binary, "with_nvrtc", lambda architecture: CUBIN)
    with pytest.raises(binary.CompilerError, match=re.escape(said)):
        binary.run_nvcc(str(tmp_path / "bin" / "nvcc"), "sm_90")
    assert binary.compile_kernels("sm_90") == CUBIN


def test_an_nvcc_that_fails_does_not_hide_another(no_nvcc, monkeypatch, tmp_path):
    for name in ("one", "two"):
        write_nvcc(tmp_path / name, COMPLAINS)
    write_nvcc(tmp_path / "three" / "bin", WRITES)
    monkeypatch.setenv("PATH", f"{tmp_path / 'one'}::{tmp_path / 'two'}:/usr/bin:/bin")
    with pytest.raises(binary.CompilerError, match=r"^nvcc: masks\.cu\(7\): error: y is undefined$"):
        binary.with_nvcc("sm_90")
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "three"))
    assert binary.with_nvcc("sm_90") == b"\x7fELF by nvcc"


def test_without_a_folder_for_nvcc_to_write_to_nvrtc_is_tried(monkeypatch, tmp_path):
    def nowhere(**_):
        raise FileNotFoundError(2, "No usable temporary directory found")

    write_nvcc(tmp_path / "bin", WRITES)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(binary, "temporary_folder", nowhere)
    monkeypatch.setattr(binary, "with_nvrtc", lambda architecture: CUBIN)
    assert binary.compile_kernels("sm_90") == CUBIN
    with pytest.raises(binary.CompilerError, match="No usable temporary directory"):
        binary.with_nvcc("sm_90")


@pytest.mark.parametrize("problem", ["AttributeError('x')", "OSError('x')", "SyntaxError('x')", "SystemExit('x')"])
def test_a_broken_cuda_bindings_is_none(monkeypatch, tmp_path, problem):
    (tmp_path / "broken" / "cuda").mkdir(parents=True)
    (tmp_path / "broken" / "cuda" / "__init__.py").write_text(f"raise {problem}")
    for name in [name for name in sys.modules if name.split(".")[0] == "cuda"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "broken")
    with pytest.raises(binary.CompilerError, match=r"there is no NVRTC \(x\)"):
        binary.with_nvrtc("sm_90")


@pytest.mark.parametrize("architecture", ["sm_61", "sm_70", "sm_72"])
def test_for_a_gpu_that_is_too_old_no_compiler_is_advised(no_nvcc, no_nvrtc, architecture):
    with pytest.raises(DeviceError, match=r"compute capability 7\.5 or later") as info:
        binary.compile_kernels(architecture)
    assert "install" not in str(info.value)


def test_without_a_compiler_the_error_says_what_to_install(no_nvcc, no_nvrtc):
    with pytest.raises(DeviceError, match=r'sm_90: there is no nvcc; there is no NVRTC .*; .*"fusioncam\[gpu\]"'):
        binary.load_kernels((9, 0), bytes)


def holds_all_kernels(cubin):
    return cubin.startswith(binary.ELF) and all(b"\0" + name.encode() + b"\0" in cubin for name in SPECS)


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90", "sm_120"])
def test_nvrtc_compiles_all_kernels(nvrtc, architecture):
    assert holds_all_kernels(binary.with_nvrtc(architecture))


def test_what_nvrtc_makes_must_be_a_cubin(nvrtc, monkeypatch):
    monkeypatch.setattr(binary, "_nvrtc_text", lambda *_: b"")
    with pytest.raises(binary.CompilerError, match="NVRTC: it makes no cubin"):
        binary.with_nvrtc("sm_90")


def test_nvrtc_takes_over_where_nvcc_fails(nvrtc, monkeypatch, tmp_path):
    write_nvcc(tmp_path / "bin", COMPLAINS)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert holds_all_kernels(binary.load_kernels((9, 0), bytes))


@pytest.mark.parametrize(
    ("change", "architecture", "said"),
    [
        ("__device__ int f() { return g(); }", "sm_90", r'overlay\.cu\(\d+\): error: identifier "g" is undefined'),
        ("", "sm_20", "arch"),
    ],
)
def test_what_nvrtc_says_becomes_one_line(nvrtc, change, architecture, said, edit):
    edit("overlay.cu", change)
    with pytest.raises(binary.CompilerError, match=said) as info:
        binary.with_nvrtc(architecture)
    assert "\n" not in str(info.value)


def test_nvcc_compiles_all_kernels(monkeypatch):
    monkeypatch.undo()
    if shutil.which("nvcc") is None:
        pytest.skip("there is no nvcc")
    assert holds_all_kernels(binary.with_nvcc("sm_90"))
