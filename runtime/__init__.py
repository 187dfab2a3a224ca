"""Run time: a bundle explains pictures, on onnxruntime alone."""

from fusioncam.runtime.explainer import Explainer
from fusioncam.runtime.explanation import Explanation, Passes

__all__ = ["Explainer", "Explanation", "Passes"]
