"""Fusion-CAM explanations for image classifiers and detectors, straight from ONNX files (arXiv 2603.05386)."""

import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# Before onnxruntime is imported: its official builds send events to Microsoft, and write an identifier into the home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from fusioncam.errors import (
        BundleError,
        BusyError,
        DeadlineError,
        DeadlineTooShortError,
        DeviceError,
        FusionCamError,
        GraphRefusedError,
        ImageError,
        LibraryError,
        ModelError,
        NotFiniteError,
        NothingDetectedError,
        OutOfMemoryError,
        OutputError,
        ProviderError,
        UnsupportedOperatorError,
        UsageError,
    )
    from fusioncam.export import Inspection, export_model, export_torch, inspect_model, single_graph
    from fusioncam.export.randomise import randomised_bundle
    from fusioncam.manifest import Layer, Manifest, Preprocessing, Source, read_bundle
    from fusioncam.runtime.arguments import Bundles, Classes
    from fusioncam.runtime.async_explainer import AsyncExplainer
    from fusioncam.runtime.budget import Budget, auto, deadline
    from fusioncam.runtime.detection_pictures import detections_panel
    from fusioncam.runtime.difference import Difference, difference
    from fusioncam.runtime.engine import Progress
    from fusioncam.runtime.explainer import Explainer
    from fusioncam.runtime.explanation import Explanation, Passes
    from fusioncam.runtime.methods import fusion_cam
    from fusioncam.runtime.photos.calibration import photos_in
    from fusioncam.runtime.photos.decode import read_image
    from fusioncam.runtime.photos.fetching import fetch_picture
    from fusioncam.runtime.photos.geometry import on_photo, visible_slices
    from fusioncam.runtime.photos.model_input import ImageLike
    from fusioncam.runtime.photos.photo import Photo
    from fusioncam.runtime.picture import Badge, difference_scale, overlay, overlay_difference, panel
    from fusioncam.runtime.probes.verdict import Verdict
    from fusioncam.runtime.providers.spec import Provider
    from fusioncam.runtime.targets.detections import Detection
    from fusioncam.runtime.targets.kinds import Box, Class, Detections, Like, Region, Target, Value
    from fusioncam.runtime.targets.resolved import ResolvedTarget
    from fusioncam.runtime.targets.tasks import TargetScore

# Loaded on first use, so that `import fusioncam` stays quick and a run machine never loads the export stage.
_MODULES = {
    "fusioncam.errors": (
        "BundleError BusyError DeadlineError DeadlineTooShortError DeviceError FusionCamError "
        "GraphRefusedError ImageError LibraryError ModelError NotFiniteError NothingDetectedError OutOfMemoryError "
        "OutputError ProviderError UnsupportedOperatorError UsageError"
    ),
    "fusioncam.export": "Inspection export_model export_torch inspect_model single_graph",
    "fusioncam.export.randomise": "randomised_bundle",
    "fusioncam.manifest": "Layer Manifest Preprocessing Source read_bundle",
    "fusioncam.runtime.arguments": "Bundles Classes",
    "fusioncam.runtime.async_explainer": "AsyncExplainer",
    "fusioncam.runtime.budget": "Budget auto deadline",
    "fusioncam.runtime.detection_pictures": "detections_panel",
    "fusioncam.runtime.difference": "Difference difference",
    "fusioncam.runtime.engine": "Progress",
    "fusioncam.runtime.explainer": "Explainer",
    "fusioncam.runtime.explanation": "Explanation Passes",
    "fusioncam.runtime.methods": "fusion_cam",
    "fusioncam.runtime.photos.calibration": "photos_in",
    "fusioncam.runtime.photos.decode": "read_image",
    "fusioncam.runtime.photos.fetching": "fetch_picture",
    "fusioncam.runtime.photos.geometry": "on_photo visible_slices",
    "fusioncam.runtime.photos.model_input": "ImageLike",
    "fusioncam.runtime.photos.photo": "Photo",
    "fusioncam.runtime.picture": "Badge difference_scale overlay overlay_difference panel",
    "fusioncam.runtime.probes.verdict": "Verdict",
    "fusioncam.runtime.providers.spec": "Provider",
    "fusioncam.runtime.targets.detections": "Detection",
    "fusioncam.runtime.targets.kinds": "Box Class Detections Like Region Target Value",
    "fusioncam.runtime.targets.resolved": "ResolvedTarget",
    "fusioncam.runtime.targets.tasks": "TargetScore",
}
_PUBLIC = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "AsyncExplainer", "Badge", "Box", "Budget", "BundleError", "Bundles", "BusyError", "Class", "Classes",
    "DeadlineError", "DeadlineTooShortError", "Detection", "Detections", "DeviceError", "Difference", "Explainer",
    "Explanation",
    "FusionCamError", "GraphRefusedError", "ImageError", "ImageLike", "Inspection", "Layer", "LibraryError",
    "Like", "Manifest", "ModelError", "NotFiniteError", "NothingDetectedError", "OutOfMemoryError", "OutputError",
    "Passes", "Photo", "Preprocessing", "Progress", "Provider", "ProviderError", "Region", "ResolvedTarget",
    "Source", "Target", "TargetScore", "UnsupportedOperatorError", "UsageError", "Value", "Verdict", "__version__",
    "auto", "deadline", "detections_panel", "difference", "difference_scale", "export_model", "export_torch",
    "fetch_picture", "fusion_cam", "inspect_model", "on_photo", "overlay", "overlay_difference", "panel", "photos_in",
    "randomised_bundle", "read_bundle", "read_image", "single_graph", "visible_slices",
]  # fmt: skip


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fusioncam.libraries import load

    return load(_PUBLIC[name], name)
