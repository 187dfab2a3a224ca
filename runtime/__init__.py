"""Run time: a bundle explains pictures, on onnxruntime alone."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusioncam.runtime.explainer import Explainer
    from fusioncam.runtime.explanation import Explanation, Passes

__all__ = ["Explainer", "Explanation", "Passes"]

# Loaded on first use: `fusioncam --help` and `fusioncam inspect` run where OpenCV or onnxruntime do not load.
_PUBLIC = {
    "Explainer": "fusioncam.runtime.explainer",
    "Explanation": "fusioncam.runtime.explanation",
    "Passes": "fusioncam.runtime.explanation",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
