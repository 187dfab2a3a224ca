"""A GPU that is none, for a dry run: the kernels compiled for the CPU, as the tests have them, and small networks."""

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

SHIM = Path(__file__).parents[2] / "tests" / "shim" / "host.py"
SIZE, CLASSES = 24, 6


def device(folder: Path) -> Any:
    """A device as the launchers give it; its library is compiled into `folder` once.

    Raises:
        ImportError: The tests are not there.
    """
    host, library = _host(), folder / "plain.so"
    folder.mkdir(parents=True, exist_ok=True)
    return host.HostDevice(library if library.exists() else host.Compiler(folder).library("plain"))


def _host() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_dry_host", SHIM)
    if spec is None or spec.loader is None or not SHIM.exists():
        raise ImportError(f"{SHIM} is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def networks() -> dict[str, Any]:
    """Both kinds of networks, small: layers of 16 and 12 channels, pictures of 24 pixels."""
    from networks import Kind, mobile_network, residual_network

    table = ((1, 4, 1, 1), (2, 6, 2, 2))
    return {
        "residual": Kind(lambda classes: residual_network((1, 1), 2, classes), SIZE, CLASSES),
        "mobile": Kind(lambda classes: mobile_network(table, 6, 12, classes), SIZE, CLASSES),
    }
