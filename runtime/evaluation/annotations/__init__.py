"""What is known of photos: the classes that count as right, and where their objects lie."""

from fusioncam.runtime.evaluation.annotations.model import Annotations, Problem, in_model_input
from fusioncam.runtime.evaluation.annotations.read import read_annotations

__all__ = ["Annotations", "Problem", "in_model_input", "read_annotations"]
