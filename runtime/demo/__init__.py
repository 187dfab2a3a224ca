"""A small classifier of drawn shapes, and its training scenes: a demo that needs no download."""

from functools import cache
from pathlib import Path

from fusioncam.manifest import Manifest, sha256

MODEL = Path(__file__).with_name("shapes.onnx")
"""The trained classifier, written by `python benchmarks/demo_model.py`."""


def is_demo_model(manifest: Manifest) -> bool:
    """Return whether a bundle was made from the built-in model, which knows the shapes of the drawn scenes."""
    return manifest.source.sha256 == _digest()


@cache
def _digest() -> str:
    return sha256(MODEL)
