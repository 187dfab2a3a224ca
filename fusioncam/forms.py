"""The tensors of a task: the normal form of a model's outputs, and what a target of it is made of.

A target is a scalar function of the outputs. A reader brings the outputs into one of four normal forms; the score and
the confidence of a target are read from that. Export writes graphs by this table, and whoever runs them asks it.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fusioncam.detector import Detector
from fusioncam.kernels.arrays import Array

Task = Literal["classify", "value", "segment", "embed", "detect"]
Kind = Literal["vector", "maps", "embedding", "boxes"]

SCORES, CONFIDENCES = "scores", "confidences"
ACTIVATIONS, GRADIENTS = "activations", "gradients"
PROTOTYPES = "prototypes"  # of instance masks, an output of the explain graph
TARGETS_AXIS = "T"  # name of the free axis of targets in graphs that score every target on every picture


def of_level(name: str, level: int) -> str:
    """Return the name of an output of the explain graph for a level, counted from 0."""
    return f"{name}_{level}" if level else name


class Tensor(NamedTuple):
    """An input or output of a graph.

    Attributes:
        name: Its name.
        dtype: Type of its elements, as NumPy names it.
        shape: Its shape without the first axis, that of pictures or targets.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


CLASS_INDEX = Tensor("class_index", "int64", ())
PEAK = Tensor("peak", "bool", ())
SIDES = 4  # of a box: x1, y1, x2, y2, in pixels of the model's input
OF_BOX = Tensor("box", "float32", (SIDES,)), Tensor("anchor", "int64", ()), Tensor("weights", "float32", (SIDES + 1,))


@dataclass(frozen=True)
class Form:
    """The normal form of a task, and the tensors of its targets.

    | kind | normal form | targets |
    |---|---|---|
    | vector | `logits` (N, C) | `class_index` |
    | maps | `logits` (N, C, h, w) | `class_index`, `region` (h, w) of weights, `peak`: maximum in place of mean |
    | embedding | `embedding` (N, D) | `reference` (D,) |
    | boxes | `detections` (N, A, 4 + numbers of classes + extras) | `class_index`; `box` (4,); `anchor`, -1 for the one
    that fits best; `weights` (5,) of the anchor's edges and of its number of the class in the differentiated score |

    Attributes:
        kind: Which of the four.
        output: The normal form.
        targets: The tensors that a target is made of, inputs of the graphs.
        classes: The number C of classes or values, or the length D of an embedding.
        detector: The boxes of a detector; None for other models.
    """

    kind: Kind
    output: Tensor
    targets: tuple[Tensor, ...]
    classes: int = 0
    detector: Detector | None = None

    @property
    def scored(self) -> bool:
        """Return whether graphs give `scores` and `confidences`; those of a vector are read from the vector itself."""
        return self.kind != "vector"

    @property
    def words(self) -> str:
        """Return the normal form in a few words: `5 classes`, `maps of 5 classes (64 x 64)`."""
        _, *size = self.output.shape
        if self.kind == "embedding":
            return f"an embedding of {self.classes} numbers"
        classes = f"{self.classes} class{'es' if self.classes != 1 else ''}"
        if self.kind == "boxes":
            return f"boxes of {classes} at {self.output.shape[0]} anchors"
        return classes if self.kind == "vector" else f"maps of {classes} ({' x '.join(map(str, size))})"

    @property
    def prototypes(self) -> Tensor | None:
        """Return what the explain graph gives of instance masks, (P, h, w); None where it gives nothing."""
        detector = self.detector
        if detector is None or detector.mask_size is None:
            return None
        return Tensor(PROTOTYPES, "float32", (detector.extras, *detector.mask_size))

    @property
    def asked(self) -> tuple[Tensor, ...]:
        """Return the tensors by which a request names a target: all but those that follow of the detection at a box."""
        return tuple(t for t in self.targets if t not in OF_BOX[1:])

    def placeholders(self, count: int) -> dict[str, Array]:
        """Return targets (count, ...) for a run whose scores nobody reads: the top class everywhere, ones."""
        return {
            t.name: np.broadcast_to(np.array(_PLACEHOLDERS[t.name], t.dtype), (count, *t.shape)).copy()
            for t in self.targets
        }


_PLACEHOLDERS: dict[str, Any] = {
    **{"class_index": -1, "region": 1, "peak": False, "reference": 1},
    **{"box": (0, 0, 1, 1), "anchor": -1, "weights": (0, 0, 0, 0, 1)},
}


def form_of(task: Task, classes: int, map_size: tuple[int, ...] | None, detector: Detector | None = None) -> Form:
    """Return the form of a task.

    Args:
        task: What the model does.
        classes: The number C of classes or values, or the length D of an embedding.
        map_size: (h, w) of the maps of classes; None where there are none.
        detector: The boxes of a detector; None for other models.
    """
    if detector is not None:
        boxes = Tensor("detections", "float32", (detector.anchors, SIDES + detector.numbers(classes) + detector.extras))
        return Form("boxes", boxes, (CLASS_INDEX, *OF_BOX), classes, detector)
    if task == "embed":
        vector = Tensor("embedding", "float32", (classes,))
        return Form("embedding", vector, (vector._replace(name="reference"),), classes)
    if map_size is None:
        return Form("vector", Tensor("logits", "float32", (classes,)), (CLASS_INDEX,), classes)
    targets = CLASS_INDEX, Tensor("region", "float32", map_size), PEAK
    return Form("maps", Tensor("logits", "float32", (classes, *map_size)), targets, classes)
