"""A package or a shared library that does not load: one line that names it and says what to do."""

import ctypes
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType

import pytest

from fusioncam.errors import LibraryError
from fusioncam.libraries import describe_clash, describe_import_failure, require_version
from fusioncam.runtime.commands.app import COMMANDS
from fusioncam.runtime.demo import MODEL

NO_GL = "libGL.so.1: cannot open shared object file: No such file or directory"
NO_OPENCV = {"cv2": f"raise ImportError({NO_GL!r})"}
# What a package does when it is imported, by its name, and what the line then says of it.
BROKEN = {
    "no libGL": (
        "cv2",
        NO_OPENCV["cv2"],
        ["libGL.so.1", "pip uninstall opencv", "then pip install opencv-python-headless"],
    ),
    "half removed": ("cv2", "", ["'cv2' has no attribute", "pip install --force-reinstall opencv"]),
    "of NumPy 1": (
        "cv2",
        "raise ImportError('numpy.core.multiarray failed to import')",
        ["pip install --upgrade opencv"],
    ),
    "no libstdc++": ("onnxruntime", "import ctypes; ctypes.CDLL('libstdc++-of-none.so.6')", ["libstdc++6"]),
    "an old system": ("onnxruntime", 'raise ImportError("version `GLIBC_2.99\' not found")', ["a newer system"]),
    "no file": ("onnx_ir", "raise ModuleNotFoundError(\"No module named 'onnx_ir'\", name='onnx_ir')", ["onnx-ir"]),
}


@pytest.fixture
def fusioncam_with(tmp_path):
    """Runs the command line where packages do something else when they are imported."""

    def run(packages, *arguments, missing=(), program=("-m", "fusioncam")):
        for package, code in packages.items():
            (tmp_path / package).mkdir(exist_ok=True)
            (tmp_path / package / "__init__.py").write_text(code)
        hide = f"import sys; sys.modules.update(dict.fromkeys({missing!r}))"
        (tmp_path / "sitecustomize.py").write_text(hide if missing else "")
        paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
        command = [sys.executable, *program, *map(str, arguments)]
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


NOTHING = 'neither onnxruntime nor OpenCV is installed; pip install "fusioncam[cpu]", or beside an NVIDIA GPU'
NO_RUNTIME = "onnxruntime is not installed; pip install onnxruntime, or the build for your hardware"
NO_CV2 = "OpenCV is not installed; pip install opencv-python-headless"


@pytest.mark.parametrize(
    ("door", "missing", "line"),
    [
        *((d, ("cv2", "onnxruntime"), NOTHING) for d in ("explain", "serve", "export", "Explainer", "export_model")),
        *((d, ("onnxruntime",), NO_RUNTIME) for d in ("demo", "export_model")),
        *((d, ("cv2",), NO_CV2) for d in ("demo", "Explainer")),
    ],
)
def test_a_base_install_says_in_one_line_what_to_add(fusioncam_with, tiny, tmp_path, door, missing, line):
    arguments = {
        "explain": (tiny.bundle, "photo.png", "-o", tmp_path / "out"),
        "serve": (tiny.bundle, "--port", "0"),
        "demo": ("-o", tmp_path / "out"),
        "export": (MODEL, "-o", tmp_path / "m.fcam"),
    }
    if door in arguments:
        status, _, err = fusioncam_with({}, door, *arguments[door], missing=missing)
    else:
        code = f"import fusioncam\ntry:\n    fusioncam.{door}\nexcept ImportError as e:\n    exit(f'error: {{e}}')"
        status, _, err = fusioncam_with({}, missing=missing, program=("-c", code))
    assert status == 1
    assert err.startswith(f"error: {line}")
    assert len(err.splitlines()) == 1, err


@pytest.mark.parametrize(
    ("module", "version"), [("onnxruntime", "1.17.3"), ("onnxruntime", "1.9"), ("cv2", "4.9.0.80")]
)
def test_a_library_that_is_too_old_is_told(module, version):
    with pytest.raises(LibraryError, match=rf"{version} is too old; install .* or later"):
        require_version(module, version)


@pytest.mark.parametrize(
    ("module", "version"), [("onnxruntime", "1.21.0"), ("onnxruntime", "2.0.0+x"), ("cv2", "5.0.0-dev")]
)
def test_a_library_that_is_recent_enough(module, version):
    require_version(module, version)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Installs distributions that hold a module each, into a folder that Python looks into first."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(*names, module):
        monkeypatch.delitem(sys.modules, module, raising=False)
        for number, name in enumerate(names):
            info = tmp_path / f"{name.replace('-', '_')}-1.{number}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.{number}\n")
            (info / "RECORD").write_text(f"{module}/__init__.py,,\n{info.name}/RECORD,,\n")
            (tmp_path / module).mkdir(exist_ok=True)
            (tmp_path / module / "__init__.py").touch()

    return install


@pytest.mark.parametrize("build", ["gpu", "openvino", "directml", "qnn", "training", "rocm", "migraphx"])
def test_two_builds_in_one_folder_are_told(installed, build):
    installed("onnxruntime", f"onnxruntime-{build}", module="onnxruntime")
    said = describe_clash("onnxruntime")
    assert said.startswith(
        f"onnxruntime 1.0 and onnxruntime-{build} 1.1 are installed together and overwrite each other"
    )
    assert said.endswith(f"pip uninstall onnxruntime onnxruntime-{build}, then install one of them")


def test_one_build_and_plugins_with_folders_of_their_own_are_no_clash(installed):
    installed("onnxruntime-gpu", module="onnxruntime")
    installed("onnxruntime-qnn", module="onnxruntime_qnn")
    installed("onnxruntime-ep-openvino", module="onnxruntime_ep_openvino")
    assert describe_clash("onnxruntime") is None


def test_two_builds_that_do_not_load_are_told_with_the_reason(installed):
    installed("opencv-python", "opencv-contrib-python", module="cv2")
    said = describe_import_failure(ImportError("ERROR: recursion is detected", name="cv2"))
    assert said.startswith("opencv-contrib-python 1.1 and opencv-python 1.0 are installed together")
    assert said.endswith("(ERROR: recursion is detected)")


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
