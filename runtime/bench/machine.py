"""The machine a figure was measured on, and the versions."""

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fusioncam.runtime.sessions.chunk_tuning import processor

PACKAGES = ("fusioncam", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "opencv-python", "opencv-python-headless")


def describe() -> dict[str, Any]:
    """Processor, cores, system, Python."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": sys.version.split()[0],
    }


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of the packages, those that are installed."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
