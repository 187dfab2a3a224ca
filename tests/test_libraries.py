"""A package or a shared library that does not load: one line that names it and says what to do."""

import ctypes
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import pytest

from fusioncam.libraries import describe_import_failure
from fusioncam.runtime.commands.app import COMMANDS
from fusioncam.runtime.demo import MODEL

NO_GL = "libGL.so.1: cannot open shared object file: No such file or directory"
NO_OPENCV = {"cv2": f"raise ImportError({NO_GL!r})"}
# What a package does when it is imported, by its name, and what the line then says of it.
BROKEN = {
    "no libGL": ("cv2", NO_OPENCV["cv2"], ["libGL.so.1", "opencv-python-headless"]),
    "two builds": ("cv2", "raise ImportError('ERROR: recursion is detected')", ["recursion", "pip uninstall opencv"]),
    "half removed": ("cv2", "", ["'cv2' has no attribute", "pip uninstall opencv-python"]),
    "no libstdc++": ("onnxruntime", "import ctypes; ctypes.CDLL('libstdc++-of-none.so.6')", ["libstdc++6"]),
    "an old system": ("onnxruntime", 'raise ImportError("version `GLIBC_2.99\' not found")', ["a newer system"]),
    "no file": ("onnx_ir", "raise ModuleNotFoundError(\"No module named 'onnx_ir'\", name='onnx_ir')", ["onnx-ir"]),
}


@pytest.fixture
def fusioncam_with(tmp_path):
    """Runs the command line where packages do something else when they are imported."""

    def run(packages, *arguments):
        for package, code in packages.items():
            (tmp_path / package).mkdir(exist_ok=True)
            (tmp_path / package / "__init__.py").write_text(code)
        paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, "-m", "fusioncam", *map(str, arguments)]
        env = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=120)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.mark.parametrize("case", BROKEN)
def test_a_package_that_does_not_load_is_one_line(fusioncam_with, tmp_path, case):
    package, code, words = BROKEN[case]
    status, _, err = fusioncam_with({package: code}, "demo", "-o", tmp_path / "out")
    assert status == 1
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: the Python package")
    assert all(word in err for word in words), err


def test_debug_adds_the_traceback(fusioncam_with, tmp_path):
    status, _, err = fusioncam_with(NO_OPENCV, "demo", "--debug", "-o", tmp_path / "out")
    assert status == 1
    assert "Traceback" in err
    assert NO_GL in err


@pytest.mark.parametrize("package", ["typer", "rich", "numpy"])
def test_what_the_command_line_itself_needs_is_told_too(fusioncam_with, package):
    broken = {package: "raise ImportError('of all things')"}
    status, _, err = fusioncam_with(broken, "--version")
    assert (status, len(err.splitlines())) == (1, 1), err
    assert err.startswith(f"error: the Python package {package} cannot be loaded (of all things)")
    assert "Traceback" in fusioncam_with(broken, "--version", "--debug")[2]


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), *((f.__name__, "--help") for f, _ in COMMANDS)])
def test_version_and_help_need_neither_opencv_nor_onnxruntime(fusioncam_with, arguments):
    hidden = dict.fromkeys(("cv2", "onnxruntime", "onnx"), "raise ImportError('hidden')")
    status, out, err = fusioncam_with(hidden, *arguments)
    assert (status, err) == (0, "")
    assert out


@pytest.mark.parametrize("arguments", [("inspect", MODEL), ("export", MODEL, "-o", "{}/b.fcam")])
def test_models_are_inspected_and_exported_without_opencv(fusioncam_with, tmp_path, arguments):
    status, out, err = fusioncam_with(NO_OPENCV, *(str(a).format(tmp_path) for a in arguments))
    assert status == 0, err
    assert "relu" in out


def test_a_part_of_this_package_that_is_missing_is_told():
    with pytest.raises(ImportError) as error:
        import fusioncam.nowhere  # noqa: F401
    assert "pip install -e ." in describe_import_failure(error.value)


def test_a_file_that_was_there_at_the_install_is_told(tmp_path):
    """A checkout that was updated since: the editable install looks for a module that is a folder now."""
    spec = spec_from_file_location("fusioncam.gone", tmp_path / "gone.py")
    with pytest.raises(FileNotFoundError) as error:
        spec.loader.exec_module(module_from_spec(spec))
    line = describe_import_failure(error.value)
    assert "gone.py" in line
    assert "pip install -e ." in line


def test_other_errors_are_not_blamed_on_a_package():
    assert describe_import_failure(OSError(28, "No space left on device")) is None
    assert describe_import_failure(FileNotFoundError(2, "No such file or directory", "libx.so")) is None
    assert describe_import_failure(AttributeError("'int' object has no attribute 'x'", obj=3, name="x")) is None
    ours = AttributeError("no attribute", obj=ModuleType("fusioncam.runtime"), name="x")
    assert describe_import_failure(ours) is None


def test_a_library_of_the_system_is_named():
    with pytest.raises(OSError, match="nowhere") as error:
        ctypes.CDLL("libnowhere.so.3")
    assert "libnowhere.so.3" in describe_import_failure(error.value)
