"""Small models of drawn shapes, and their training scenes: demos that need no download."""

from functools import cache
from pathlib import Path

from fusioncam.manifest import Manifest, sha256

MODEL = Path(__file__).with_name("shapes.onnx")
"""The trained classifier; `python benchmarks/demo_model.py classifier` writes it."""

SEGMENTER = MODEL.with_name("segmenter.onnx")
"""The trained segmenter; `python benchmarks/demo_model.py segmenter` writes it."""

EMBEDDER = MODEL.with_name("embedder.onnx")
"""The trained embedder; `python benchmarks/demo_model.py embedder` writes it."""

DETECTOR = MODEL.with_name("detector.onnx")
"""The trained detector; `python benchmarks/demo_model.py detector` writes it."""

MODELS = {"classify": MODEL, "segment": SEGMENTER, "embed": EMBEDDER, "detect": DETECTOR}
"""The built-in models by what they do."""


def is_demo_model(manifest: Manifest) -> bool:
    """Return whether a bundle was made from a built-in model, which knows the shapes of the drawn scenes."""
    return manifest.source.sha256 in _digests()


@cache
def _digests() -> set[str]:
    return {sha256(model) for model in MODELS.values()}
