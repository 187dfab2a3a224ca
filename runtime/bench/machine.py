"""The machine of a measurement, and the versions of packages."""

import os
import platform
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fusioncam.runtime.sessions.chunk_tuning import processor

PACKAGES = ("fusioncam", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "opencv-python", "opencv-python-headless")


def describe() -> dict[str, Any]:
    """Return the processor, cores, system and Python version."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
    }


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of those of the packages that are installed."""
    installed = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    return installed
