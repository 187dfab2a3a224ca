"""The benchmark's modules, and networks small enough for kernels that run on the CPU."""

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="session")
def part():
    """Imports a module of `benchmarks/` or of `benchmarks/gpu/` by its name."""

    def find(name):
        path = BENCHMARKS / "gpu" / name.replace(".", "/")
        of_gpu = path.is_dir() or path.with_suffix(".py").exists()
        return importlib.import_module(f"gpu.{name}" if of_gpu else name)

    sys.path.insert(0, str(BENCHMARKS))
    yield find
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="session")
def command_of(part):
    """Imports a command of `benchmarks/` that has the name of its folder."""

    def find(name):
        spec = importlib.util.spec_from_file_location(f"benchmarks_{name}_command", BENCHMARKS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return find


@pytest.fixture(scope="session")
def command(command_of):
    """The module `benchmarks/gpu.py`."""
    return command_of("gpu")


@pytest.fixture(scope="session")
def small(part):
    """The two kinds of networks, small: layers of 16 and 12 channels, pictures of 24 pixels."""
    networks, kinds = part("networks"), part("dry").networks()
    with pytest.MonkeyPatch.context() as patch:
        for name, kind in kinds.items():
            patch.setitem(networks.NETWORKS, name, kind)
        yield kinds


@pytest.fixture(scope="session")
def lab(part, small, host_device, tmp_path_factory):
    """Bundles and backends of the small networks and of the demo model, with the kernels on the CPU."""
    return part("lab").Lab(host_device, tmp_path_factory.mktemp("lab"), part("files").model_files(None))
