"""PyCUDA and cuda-core as users install them, over a driver that needs no GPU."""

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fusioncam.errors import DeviceError, UsageError
from fusioncam.kernels.device import LAUNCHERS, available, open_device

FOLDER = Path(__file__).parent / "driver"
LIMIT = 50_000_000


@pytest.fixture(scope="session")
def machine(compiler, tmp_path_factory):
    """The environment of a machine with two GPUs."""
    folder = tmp_path_factory.mktemp("driver")
    spec = importlib.util.spec_from_file_location("driver_tests_build", FOLDER / "build.py")
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    build.build(folder)
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "FUSIONCAM_CACHE": str(folder),
        "FAKE_CUDA_KERNELS": str(compiler.library("launched", flags=())),
        "FAKE_CUDA_MEMORY": str(LIMIT),
        "FAKE_CUDA_REPORT": str(folder / "report"),
    }


@pytest.fixture(params=LAUNCHERS)
def launcher(request):
    try:
        importlib.metadata.distribution(request.param)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{request.param} is not installed")
    return request.param


def play(machine, name, launcher, *rest):
    """Run a scenario; returns the mistakes that the driver saw."""
    report = Path(machine["FAKE_CUDA_REPORT"])
    report.unlink(missing_ok=True)
    command = [sys.executable, "-W", "error", str(FOLDER / "scenarios.py"), name, launcher, *rest]
    done = subprocess.run(command, env=machine, capture_output=True, text=True, check=False, timeout=300)
    assert not done.returncode, done.stderr
    assert not done.stdout + done.stderr
    return report.read_text() if report.exists() else None


@pytest.mark.parametrize(
    "name",
    [
        *("kernels", "threads", "order", "rows", "memory", "too_much", "wrong", "abandoned", "captures", "foreign"),
        *("ending", "number"),
    ],
)
def test_a_launcher_does_its_work_without_a_mistake(machine, launcher, name):
    assert play(machine, name, launcher) == ""


def test_a_driver_older_than_the_package_gets_kernels_compiled_here(machine, launcher):
    assert play({**machine, "FAKE_CUDA_OLD": "1"}, "old", launcher) == ""


def test_a_driver_older_than_the_package_is_named_where_there_is_no_compiler(machine, launcher):
    assert play({**machine, "FAKE_CUDA_OLD": "1"}, "old", launcher, "without") == ""


def test_the_primary_context_is_current_within_and_not_beyond(machine, launcher):
    assert play(machine, "context", launcher) == "cuMemAlloc_v2 without a context\n"


def test_without_a_gpu_the_error_says_so(machine, launcher):
    assert play({**machine, "FAKE_CUDA_DEVICES": "0"}, "absent", launcher, "nvidia-smi") == ""


def test_without_a_driver_the_error_says_so(machine, launcher, tmp_path):
    (tmp_path / "libcuda.so.1").write_text("no library")  # found before any that is one
    missing = {**machine, "LD_LIBRARY_PATH": str(tmp_path)}
    assert play(missing, "absent", launcher, "install the NVIDIA driver") is None


def test_a_driver_that_lacks_functions_is_an_error(machine, launcher, tmp_path):
    soname, library = "-Wl,-soname,libcuda.so.1", tmp_path / "libcuda.so.1"
    subprocess.run(["g++", "-shared", "-x", "c++", "/dev/null", soname, "-o", library], check=True)
    said = {"pycuda": "undefined symbol", "cuda-core": "update the NVIDIA driver"}
    play({**machine, "LD_LIBRARY_PATH": str(tmp_path)}, "absent", launcher, said[launcher])


def test_without_a_launcher_the_error_names_both_and_how_to_get_them(monkeypatch):
    for name in ("pycuda.driver", "cuda.core"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(DeviceError, match=r'no pycuda .*no cuda-core .*pip install "fusioncam\[gpu\]".*pycuda') as info:
        open_device()
    assert available() == (False, str(info.value))


def test_an_unknown_launcher_is_refused():
    with pytest.raises(UsageError, match="no launcher 'opencl'; choose pycuda or cuda-core"):
        open_device(0, "opencl")


@pytest.mark.parametrize("launcher", [[], "", 0, {}])
def test_what_is_no_launcher_is_refused(launcher):
    with pytest.raises(UsageError, match="there is no launcher"):
        open_device(0, launcher)


@pytest.mark.parametrize("index", ["0", 1.5, None, True, [0], np.zeros((2, 2)), np.bool_(True)], ids=str)
def test_what_is_no_number_of_a_gpu_is_refused(index):
    with pytest.raises(UsageError, match=r"^the number of a GPU cannot be a .*; give 0 for the first"):
        open_device(index)
    assert not available(index)[0]


@pytest.fixture
def broken(monkeypatch, tmp_path):
    """Installs a package that raises something as it is imported; it is forgotten after the test."""
    installed = []

    def install(package, module, problem):
        installed.append(package)
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
        (tmp_path / package / module).write_text(problem)
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(tmp_path)

    yield install
    for name in [name for name in sys.modules if name.split(".")[0] in installed]:
        del sys.modules[name]


PROBLEMS = [
    *(f"raise {kind}('it is broken')" for kind in ("AttributeError", "RuntimeError", "OSError", "ValueError")),
    "it is broken = 1", "raise SystemExit('it is broken')", "import nothing_of_that_name",
]  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_broken_pycuda_does_not_take_the_gpu_away(monkeypatch, broken, problem):
    broken("pycuda", "driver.py", problem)
    monkeypatch.setattr("fusioncam.kernels.with_cuda_core.open_device", lambda index: "cuda-core")
    assert open_device() == "cuda-core"
    with pytest.raises(DeviceError, match=r"no pycuda \(.+\); .*pip install"):
        open_device(0, "pycuda")


@pytest.mark.parametrize("problem", PROBLEMS)
def test_a_broken_cuda_core_is_none(broken, problem):
    broken("cuda", "__init__.py", problem)
    with pytest.raises(DeviceError, match=r"no cuda-core \(.+\); .*pip install"):
        open_device(0, "cuda-core")


def test_what_a_launcher_reports_is_not_passed_over(monkeypatch, broken):
    broken("pycuda", "driver.py", "raise ImportError('libcuda.so.1: cannot open shared object file')")
    monkeypatch.setattr("fusioncam.kernels.with_cuda_core.open_device", lambda index: "cuda-core")
    with pytest.raises(DeviceError, match="install the NVIDIA driver"):
        open_device()


@pytest.mark.parametrize("problem", [ZeroDivisionError, SystemExit, GeneratorExit])
def test_available_never_raises(monkeypatch, problem):
    def fail(index):
        raise problem

    monkeypatch.setattr("fusioncam.kernels.device.open_device", fail)
    fine, reason = available()
    assert not fine
    assert problem.__name__ in reason


def test_available_can_be_interrupted(monkeypatch):
    def fail(index):
        raise KeyboardInterrupt

    monkeypatch.setattr("fusioncam.kernels.device.open_device", fail)
    with pytest.raises(KeyboardInterrupt):
        available()


def test_pycuda_comes_first(monkeypatch):
    opened = []
    monkeypatch.setattr("fusioncam.kernels.with_pycuda.open_device", lambda index: opened.append(index) or "pycuda")
    monkeypatch.setattr("fusioncam.kernels.with_cuda_core.open_device", lambda index: "cuda-core")
    assert open_device(3) == "pycuda"
    assert opened == [3]
    assert open_device(3, "cuda-core") == "cuda-core"


def test_nothing_of_a_gpu_is_imported_before_a_device_is_opened():
    modules = ", ".join([*LAUNCHERS.values(), "fusioncam.kernels.binary"])
    script = f"import sys, {modules}; print(*(m for m in sys.modules if m.split('.')[0] in ('cuda', 'pycuda')))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
