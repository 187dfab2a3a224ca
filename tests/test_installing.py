"""Wheels and editable installs of a checkout, with symbolic links and without."""

import email
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from fusioncam.kernels.binary import source_digest

ROOT = Path(__file__).parents[1]
PARTS = ("export", "kernels", "runtime")
SOURCE_FILES = {"CHANGELOG.md", "CMakeLists.txt", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml"}


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


BUILDERS = ("hatch_fancy_pypi_readme", "scikit_build_core")
HERE = ["--no-build-isolation"] if all(map(importlib.util.find_spec, BUILDERS)) else []


def pip(*arguments, python=sys.executable):
    """Runs pip for an interpreter."""
    return run(sys.executable, "-m", "pip", "--python", python, *arguments, "--quiet", "--no-deps", *HERE)


@pytest.fixture(scope="module", params=["links", "no links"])
def checkout(request, tmp_path_factory):
    """What git makes of this checkout, by its setting of symbolic links; what is not committed is as it is here."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no checkout of git")
    clone = tmp_path_factory.mktemp("checkout") / "fusioncam"
    links = "true" if request.param == "links" else "false"
    run("git", "clone", "--quiet", "-c", f"core.symlinks={links}", ROOT, clone)
    changed = run("git", "-C", ROOT, "ls-files", "-z", "--modified", "--others", "--exclude-standard").split("\0")
    for name in filter(None, changed):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_file():
            shutil.copyfile(ROOT / name, clone / name)
        else:
            (clone / name).unlink(missing_ok=True)
    assert all((clone / "fusioncam" / part).is_file() == (links == "false") for part in PARTS)
    return clone


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--wheel-dir", folder, checkout)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def environment(tmp_path):
    """The interpreter of an environment that has what fusioncam depends on, but not fusioncam."""
    folder = tmp_path / "environment"
    venv.create(folder, symlinks=os.name != "nt")
    (site,) = folder.glob("[Ll]ib/**/site-packages")
    packages = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "dependencies.pth").write_text("\n".join(packages) + "\n")
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.fixture
def hidden(tmp_path):
    """The environment variables of a machine that lacks the libraries of windows and of GL."""
    if sys.platform != "linux":
        pytest.skip("the loader of this system cannot be misled")
    (tmp_path / "hidden").mkdir()
    for library in ("libGL.so.1", "libX11.so.6", "libxcb.so.1", "libSM.so.6", "libXext.so.6", "libglib-2.0.so.0"):
        (tmp_path / "hidden" / library).touch()  # found first, and no library
    return {**os.environ, "LD_LIBRARY_PATH": str(tmp_path / "hidden")}


def package_files():
    """The files of the package in this checkout, as a wheel names them."""
    listed = run("git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard", *PARTS, "fusioncam")
    names = {name for name in listed.split("\0") if name and (ROOT / name).is_file()}
    return {name if name.startswith("fusioncam/") else f"fusioncam/{name}" for name in names}


def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_a_wheel_holds_every_file_once_and_nothing_of_this_machine(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
    assert len(names) == len(set(names))
    assert set(names) == package_files()
    assert wheel.name.endswith("-py3-none-any.whl")


def test_a_wheel_brings_neither_onnxruntime_nor_opencv_unless_an_extra_names_them(wheel):
    by_extra = {}
    for line in metadata(wheel).get_all("Requires-Dist"):
        package, extra = re.match(r"[\w-]+", line)[0], re.search(r"extra == ['\"](\w+)", line)
        by_extra.setdefault(extra and extra[1], set()).add(package)
    rivals = {extra: {n for n in names if n.startswith(("onnxruntime", "opencv"))} for extra, names in by_extra.items()}
    del rivals["test"]
    assert {extra: names for extra, names in rivals.items() if names} == {
        "cpu": {"onnxruntime", "opencv-python-headless"},
        "gpu": {"onnxruntime-gpu", "opencv-python-headless"},
    }


def test_the_readme_of_a_wheel_leads_to_the_repository(wheel):
    """PyPI shows it alone: what it links to must be named in full, and exist."""
    (source,) = (v.split(", ")[1] for v in metadata(wheel).get_all("Project-URL") if v.startswith("Source"))
    targets = re.findall(r"\]\(([^)]+)\)", metadata(wheel).get_payload())
    ours = [t.removeprefix(source).partition("#")[0].split("/", 3) for t in targets if t.startswith(source)]
    assert all(target.startswith("https://") for target in targets)
    assert {(kind, Path(path).suffix == ".webp") for _, kind, _, path in ours} == {("blob", False), ("raw", True)}
    assert all((ROOT / path).exists() for *_, path in ours)


@pytest.mark.parametrize("resolution", ["highest", "lowest-direct"])
def test_packages_exist_that_meet_the_pins_for_the_newest_python(resolution, tmp_path):
    pytest.importorskip("uv")
    extras = [word for extra in ("cpu", "serve", "evaluate", "parquet", "grpc") for word in ("--extra", extra)]
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--python-version", "3.14", *extras]
    command += ["--only-binary", ":all:", "--resolution", resolution, ROOT / "pyproject.toml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if re.search("Failed to fetch|error sending request|dns error", done.stderr):
        pytest.skip("there is no network")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^onnxruntime==", done.stdout, re.M)


def test_an_installed_wheel_runs_where_libraries_of_windows_are_missing(wheel, environment, hidden, tmp_path):
    pip("install", wheel, python=environment)

    def fusioncam(*arguments):
        command = [environment, "-m", "fusioncam", *arguments]
        return subprocess.run(command, env=hidden, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert fusioncam("--version").stdout.strip() == version("fusioncam")
    (model,) = environment.parents[1].glob("**/fusioncam/runtime/demo/shapes.onnx")
    assert "relu_3" in fusioncam("inspect", model).stdout
    demo = fusioncam("demo")
    try:
        version("opencv-python")
    except PackageNotFoundError:
        assert (demo.returncode, demo.stderr) == (0, "")
        assert (tmp_path / "demo-output" / "explained" / "scene.png").is_file()
    else:  # the build with windows takes the place of the other
        assert demo.returncode == 1
        assert re.fullmatch(
            r"error: the Python package opencv-\S+ cannot be loaded .*; pip uninstall .*\n", demo.stderr
        )


def test_an_editable_install_runs_the_checkout(checkout, environment, tmp_path):
    pip("install", "--editable", checkout, python=environment)
    code = "import fusioncam.export.gradient as e, fusioncam.kernels.masks, fusioncam.runtime.demo as d; "
    code += "print(e.__file__, d.MODEL.is_file(), sep='|')"
    where, model = run(environment, "-c", code, cwd=tmp_path).strip().split("|")
    assert Path(where).resolve() == (checkout / "export" / "gradient" / "__init__.py").resolve()
    assert model == "True"


def test_a_source_distribution_makes_the_same_wheel_byte_for_byte(checkout, wheel, tmp_path):
    pytest.importorskip("build")
    run(sys.executable, "-m", "build", "--sdist", *(["--no-isolation"] if HERE else []), "--outdir", tmp_path, checkout)
    (source,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {name for name in names if name.count("/") == 0} == SOURCE_FILES
    pip("wheel", "--wheel-dir", tmp_path, source)  # from another folder, and files of another time
    (built,) = tmp_path.glob("*.whl")
    assert built.name == wheel.name
    assert built.read_bytes() == wheel.read_bytes()
    pytest.importorskip("twine")
    assert run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", built, source).count("PASSED") == 2


def test_kernels_are_compiled_when_asked_for_only_and_the_wheel_is_for_one_platform(checkout, tmp_path):
    """The compiler is a stand-in: the real one takes minutes."""
    if shutil.which("cmake") is None:
        pytest.skip("there is no cmake")
    compiler = tmp_path / "nvcc"
    compiler.write_text('#!/bin/sh\nwhile [ $# -gt 1 ]; do [ "$1" = -o ] && echo code > "$2"; shift; done\n')
    compiler.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *HERE, "-C", "wheel.cmake=true", checkout]
    run(*command, "--wheel-dir", tmp_path, env={**os.environ, "PATH": path, "CUDA_HOME": "", "CUDA_PATH": ""})
    (built,) = tmp_path.glob("*.whl")
    assert re.search(r"-py3-none-(?!any)\w+\.whl$", built.name)
    with zipfile.ZipFile(built) as archive:
        (binary,) = (name for name in archive.namelist() if name.endswith(".fatbin"))
        assert archive.read(binary) == b"code\n"
    assert binary == f"fusioncam/kernels/fusioncam-{source_digest()[:16]}.fatbin"
