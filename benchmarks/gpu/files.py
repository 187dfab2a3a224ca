"""Models that come as ONNX files: those of a folder of assets where there is one, else the built-in demo model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wanted import WANTED

from fusioncam.runtime.demo import MODEL
from fusioncam.runtime.demo.scenes import draw_scene
from fusioncam.runtime.photos.model_input import ImageLike

# What a file gets that says nothing itself: maps are compared, whatever the picture looks like to the model.
OTHERWISE: Mapping[str, Mapping[str, Any]] = {"cifar": {"preset": "raw"}, "": {"preset": "unit"}}


@dataclass(frozen=True)
class ModelFile:
    """An ONNX file to explain.

    Attributes:
        path: The file.
        photo: What is explained.
        preprocessing: As `export_model` takes it; None where the file says it.
        precisions: Of its bundles; a file that computes in float16 already has no other.
    """

    path: Path
    photo: ImageLike
    preprocessing: Mapping[str, Any] | None = None
    precisions: tuple[str, ...] = ("fp32", "fp16")


def model_files(assets: Path | None) -> dict[str, ModelFile]:
    """The files by name: `models/*.onnx` of a folder of assets, with the first photo that its annotations name."""
    models = sorted((assets / "models").glob("*.onnx")) if assets else []
    if assets is None or not models:
        return {"demo": ModelFile(MODEL, draw_scene(0).image)}
    photo = assets / "images" / json.loads((assets / "images" / "annotations.json").read_text())[0]["file"]
    known = {**WANTED, **OTHERWISE}
    return {
        path.stem: ModelFile(
            path,
            photo,
            next(fields for part, fields in known.items() if path.stem.startswith(part)),
            ("fp16",) if "fp16" in path.stem else ("fp32", "fp16"),
        )
        for path in models
    }
