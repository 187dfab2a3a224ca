"""A small classifier of drawn shapes, and its training scenes: a demo that needs no download."""

from pathlib import Path

MODEL = Path(__file__).with_name("shapes.onnx")
"""The trained classifier, written by `python benchmarks/demo_model.py`."""
