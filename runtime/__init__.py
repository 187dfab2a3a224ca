"""Run time: a bundle explains pictures, on onnxruntime alone."""

from typing import TYPE_CHECKING, Any

from fusioncam.libraries import load

if TYPE_CHECKING:
    from fusioncam.runtime.budget import auto, deadline
    from fusioncam.runtime.explainer import Explainer
    from fusioncam.runtime.explanation import Explanation, Passes
    from fusioncam.runtime.photos.calibration import photos_in
    from fusioncam.runtime.photos.decode import read_image
    from fusioncam.runtime.photos.geometry import on_photo, visible_slices

__all__ = [
    "Explainer",
    "Explanation",
    "Passes",
    "auto",
    "deadline",
    "on_photo",
    "photos_in",
    "read_image",
    "visible_slices",
]

# Loaded on first use: `fusioncam --help` and `fusioncam inspect` run where OpenCV or onnxruntime do not load.
_PUBLIC = {
    "Explainer": "fusioncam.runtime.explainer",
    "Explanation": "fusioncam.runtime.explanation",
    "Passes": "fusioncam.runtime.explanation",
    "auto": "fusioncam.runtime.budget",
    "deadline": "fusioncam.runtime.budget",
    "on_photo": "fusioncam.runtime.photos.geometry",
    "photos_in": "fusioncam.runtime.photos.calibration",
    "read_image": "fusioncam.runtime.photos.decode",
    "visible_slices": "fusioncam.runtime.photos.geometry",
}


def __dir__() -> list[str]:
    return __all__


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return load(_PUBLIC[name], name)
