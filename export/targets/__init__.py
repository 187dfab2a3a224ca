"""Targets in a graph: the score and the confidence of each, by plain ONNX nodes after the normal form."""

from fusioncam.export.targets.scoring import Scoring

__all__ = ["Scoring"]
