"""Wheels and editable installs of a checkout, with symbolic links and without."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("export", "kernels", "runtime")


def run(*command, **options):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


HERE = ["--no-build-isolation"] if importlib.util.find_spec("scikit_build_core") else []
NO_KERNELS = ["-C", "wheel.cmake=false"]  # where there is an nvcc, they take minutes


def pip(*arguments, python=sys.executable):
    """Runs pip for an interpreter."""
    command = [sys.executable, "-m", "pip", "--python", python, *arguments, "--quiet", "--no-deps", *HERE, *NO_KERNELS]
    return run(*command)


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


def own_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if ".dist-info/" not in name]


def test_a_wheel_holds_every_file_once(wheel):
    names = own_files(wheel)
    assert len(names) == len(set(names))
    assert set(names) == package_files()


def test_a_wheel_wants_opencv_without_windows(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        wanted = re.findall(r"^Requires-Dist: (opencv[\w-]*)", archive.read(name).decode(), re.M)
    assert wanted == ["opencv-python-headless"]


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


def test_a_source_distribution_makes_the_same_wheel(checkout, wheel, tmp_path):
    pytest.importorskip("build")
    run(sys.executable, "-m", "build", "--sdist", *(["--no-isolation"] if HERE else []), "--outdir", tmp_path, checkout)
    (source,) = tmp_path.glob("*.tar.gz")
    pip("wheel", "--wheel-dir", tmp_path, source)
    (built,) = tmp_path.glob("*.whl")
    assert sorted(own_files(built)) == sorted(own_files(wheel))
