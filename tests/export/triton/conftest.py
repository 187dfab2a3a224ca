import importlib.util
import sys
from pathlib import Path

import pytest

from fusioncam.export import export_model
from fusioncam.export.triton import write_repository
from fusioncam.runtime.methods import EVERY

LABELS = ["ant", "bee", "cat", "dog", 'a "quoted" élan']
METHODS = tuple(m for m in EVERY if m != "recipro_cam")


def load(name):
    """The module in a file beside this one: with pytest's importlib mode, test modules cannot import each other."""
    full = f"triton_tests_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        sys.modules[full] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full])
    return sys.modules[full]


@pytest.fixture(scope="session")
def backend():
    """See `backend.py`."""
    return load("backend")


@pytest.fixture(scope="session")
def bundle(make_tiny, tmp_path_factory):
    """The bundle of a small network, with labels and the single graph."""
    made = make_tiny(zero=(1, 5), constant=(3,))
    target = tmp_path_factory.mktemp("triton") / "tiny.fcam"
    prep = {"size": (24, 32), "rescale": 1 / 255, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    source = made.bundle.with_name("tiny.onnx")
    export_model(source, target, layer="layer", preprocessing=prep, labels=LABELS, single=True)
    return target


@pytest.fixture(scope="session")
def half(make_tiny, tmp_path_factory):
    """A bundle whose scores are in float16, without a gradient."""
    target = tmp_path_factory.mktemp("half") / "tiny.fcam"
    source = make_tiny().bundle.with_name("tiny.onnx")
    export_model(source, target, layer="layer", precision="fp16", gradient=False)
    return target


@pytest.fixture
def write(bundle):
    """Writes the bundle, or another, to a repository."""
    return lambda repository, source=bundle, methods=METHODS, **options: write_repository(
        source, repository, methods, **options
    )


@pytest.fixture
def server(backend, write, tmp_path, monkeypatch):
    """A repository with both forms, and `triton_python_backend_utils` that asks it."""
    write(tmp_path / "repo", form="both")
    server = backend.Server(tmp_path / "repo")
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend.module(server))
    return server


@pytest.fixture
def front(backend, server):
    """The Python model."""
    return backend.Front(server, "tiny")


@pytest.fixture
def repo(tmp_path):
    return tmp_path / "deep" / "repo"


@pytest.fixture
def files():
    """What is in a folder: every path, and what files hold."""
    return lambda folder: {p.relative_to(folder): p.is_file() and p.read_bytes() for p in folder.rglob("*")}
