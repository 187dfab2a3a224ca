"""Annotations of photos: the classes that count as right, and the places of their objects.

`read` tells the kinds of files apart; `coco`, `voc` and `listing` read one kind each.
"""

from fusioncam.runtime.evaluation.annotations.collection import Annotations
from fusioncam.runtime.evaluation.annotations.model import Problem
from fusioncam.runtime.evaluation.annotations.model_input import in_model_input
from fusioncam.runtime.evaluation.annotations.read import read_annotations

__all__ = ["Annotations", "Problem", "in_model_input", "read_annotations"]
