import importlib.util
import shutil
from pathlib import Path

import pytest

from fusioncam.kernels import binary


@pytest.fixture(scope="session")
def checks():
    """The module that holds a kernel against its reference."""
    path = Path(__file__).parents[1] / "shim" / "checks.py"
    spec = importlib.util.spec_from_file_location("kernel_tests_checks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine with nothing packaged and nothing cached, and without an nvcc; the sources are a copy."""
    shutil.copytree(binary.SOURCES, tmp_path / "kernels" / "cuda")
    monkeypatch.setattr(binary, "FOLDER", tmp_path / "kernels")
    monkeypatch.setattr(binary, "SOURCES", tmp_path / "kernels" / "cuda")
    monkeypatch.setenv("FUSIONCAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    monkeypatch.delenv("CUDA_PATH", raising=False)


@pytest.fixture
def edit(bare):
    """Appends text to one of the sources."""

    def append(name, text):
        with (binary.SOURCES / name).open("a") as file:
            file.write(text)

    return append
