"""Fusion-CAM explanations for image classifiers, straight from ONNX files (arXiv 2603.05386)."""

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Before onnxruntime is imported: its official builds send events to Microsoft, and write an identifier into the home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from fusioncam.errors import FusionCamError
    from fusioncam.export import export_model, export_torch, inspect_model
    from fusioncam.runtime import Explainer, Explanation
    from fusioncam.runtime.async_explainer import AsyncExplainer
    from fusioncam.runtime.methods import fusion_cam
    from fusioncam.runtime.photos.fetching import fetch_picture
    from fusioncam.runtime.photos.photo import Photo

# Loaded on first use, so that `import fusioncam` stays quick and a run machine never loads the export stage.
_PUBLIC = {
    "AsyncExplainer": "fusioncam.runtime.async_explainer",
    "Explainer": "fusioncam.runtime",
    "Explanation": "fusioncam.runtime",
    "FusionCamError": "fusioncam.errors",
    "Photo": "fusioncam.runtime.photos.photo",
    "export_model": "fusioncam.export",
    "export_torch": "fusioncam.export",
    "fetch_picture": "fusioncam.runtime.photos.fetching",
    "fusion_cam": "fusioncam.runtime.methods",
    "inspect_model": "fusioncam.export",
}

__all__ = [
    "AsyncExplainer",
    "Explainer",
    "Explanation",
    "FusionCamError",
    "Photo",
    "__version__",
    "export_model",
    "export_torch",
    "fetch_picture",
    "fusion_cam",
    "inspect_model",
]


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
