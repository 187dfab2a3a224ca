import importlib.util
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checks():
    """The module that holds a kernel against its reference."""
    path = Path(__file__).parents[1] / "shim" / "checks.py"
    spec = importlib.util.spec_from_file_location("kernel_tests_checks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
