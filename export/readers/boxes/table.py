"""The table of readers of detectors: a row for each way in which families code boxes and numbers of classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from fusioncam.export.readers.boxes.coding import Coding, cells
from fusioncam.export.readers.boxes.hints import Hints
from fusioncam.export.readers.boxes.makers import first_maker
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Size

Shape = tuple[int, ...]  # of a tensor, without its batch
# Names of the outputs of families that give boxes and numbers of classes apart.
PAIRS = (("pred_boxes", "logits"), ("pred_boxes", "pred_logits"), ("dets", "labels"), ("boxes", "scores"))


@dataclass(frozen=True)
class Outputs:
    """Tensors that may be a detector's: boxes, and numbers of classes where these are apart.

    Attributes:
        names: Their names.
        values: The tensors.
        shapes: Their shapes.
        others: The shapes of all other outputs, by their names.
        size: (H, W) of the input.
        hints: What the model says of itself.
    """

    names: tuple[str, ...]
    values: tuple[ir.Value, ...]
    shapes: tuple[Shape, ...]
    others: Mapping[str, Shape]
    size: Size
    hints: Hints

    @property
    def likely(self) -> tuple[bool, bool]:
        """Return whether names say that tensors belong together, as DETR's do, and that the first holds boxes."""
        return self.names in PAIRS, "box" in self.names[0].lower()

    @property
    def prototypes(self) -> str | None:
        """Return the name of another output that holds prototypes of instance masks (P, h, w); None where none does."""
        return next((name for name, shape in self.others.items() if len(shape) == len(self.size) + 1), None)

    @property
    def straight(self) -> bool:
        """Return whether the sides come straight from a convolution, so that nothing has made pixels of them."""
        return first_maker(self.values[0]) == "Conv"


@dataclass(frozen=True, eq=False)
class BoxReader:
    """A way to read a detector.

    Attributes:
        name: The name that a user gives.
        takes: The shapes of the tensors, for messages.
        coding: What they mean.
        looks_so: Returns whether tensors that can be read so are read so by default.
        kinds: Ultralytics' names of the tasks, and transformers' types of the models, that are read so.
        limits: Fields of the manifest's `Detector` that the family has otherwise.
    """

    name: str
    takes: str
    coding: Coding
    looks_so: Callable[[Outputs], bool] = lambda outputs: False
    kinds: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)

    def numbers(self, outputs: Outputs) -> int | None:
        """Return the numbers of classes that tensors hold; None where they cannot be read so."""
        shapes = outputs.shapes
        if len(shapes) != self.coding.tensors or any(len(s) != 2 for s in shapes):
            return None
        (anchors, *same), columns = zip(*(s[::-1] if self.coding.anchors_last else s for s in shapes), strict=True)
        if self.coding.tensors == 2:
            return columns[1] if columns[0] == SIDES and same == [anchors] else None
        found = columns[0] - self.coding.before_classes
        behind = found - (outputs.hints.classes or 1)
        found -= {
            "none": 0,
            "masks": outputs.others[outputs.prototypes][0] if outputs.prototypes is not None else found,
            "keypoints": behind if behind > 0 and behind % outputs.hints.keypoint == 0 else found,
            "rotated": 1,
        }[self.coding.extra]
        return found if found > 0 else None

    def fits(self, outputs: Outputs, numbers: int) -> bool:
        """Return whether a model's own words, or else its shapes, say that tensors with so many classes are read so."""
        hints = outputs.hints
        classes = numbers - (self.coding.background != "none")
        if hints.classes not in (None, classes, numbers):
            return False
        return hints.kind in self.kinds or (hints.kind is None and self.looks_so(outputs))


def _one_per_cell(outputs: Outputs) -> bool:
    return cells(outputs.size) == outputs.shapes[0][0] and not outputs.straight


BOX_READERS = (
    BoxReader(
        "yolo-seg", "(N, 4 + C + P, A) and (N, P, h, w)",
        Coding(anchors_last=True, extra="masks"),
        lambda outputs: outputs.shapes[0][1] == cells(outputs.size),
        kinds=("segment",),
    ),
    BoxReader(
        "yolo-pose", "(N, 4 + C + 3 K, A)",
        Coding(anchors_last=True, extra="keypoints"),
        kinds=("pose",),
    ),
    BoxReader(
        "yolo-obb", "(N, 4 + C + 1, A)",
        Coding(anchors_last=True, extra="rotated"),
        kinds=("obb",),
    ),
    BoxReader(
        "yolo", "(N, 4 + C, A)",
        Coding(anchors_last=True),
        lambda outputs: outputs.shapes[0][1] == cells(outputs.size),
        kinds=("detect",),
    ),
    BoxReader(
        "rt-detr-joined", "(N, Q, 4 + C)",
        Coding(relative=True, nms=False),
        kinds=("detect",),
    ),
    BoxReader(
        "yolo-objectness-seg", "(N, A, 5 + C + P) and (N, P, h, w)",
        Coding(objectness=True, extra="masks"),
        lambda outputs: outputs.shapes[0][0] == 3 * cells(outputs.size),
        limits={"iou": 0.45},
    ),
    BoxReader(
        "yolo-objectness", "(N, A, 5 + C)",
        Coding(objectness=True),
        lambda outputs: outputs.shapes[0][0] == 3 * cells(outputs.size) or _one_per_cell(outputs),
        limits={"iou": 0.45},
    ),
    BoxReader(
        "yolox-raw", "(N, A, 5 + C)",
        Coding(objectness=True, of_cells=True),
        lambda outputs: outputs.shapes[0][0] == cells(outputs.size) and outputs.straight,
        limits={"iou": 0.45},
    ),
    BoxReader(
        "detr", "boxes (N, Q, 4) and logits (N, Q, C + 1)",
        Coding(tensors=2, relative=True, ending="softmax", background="last", nms=False),
        kinds=("detr", "yolos", "table-transformer"),
    ),
    BoxReader(
        "rt-detr", "boxes (N, Q, 4) and logits (N, Q, C)",
        Coding(tensors=2, relative=True, ending="sigmoid", nms=False, multi_label=True),
        lambda outputs: outputs.names == PAIRS[2],  # as RF-DETR's own export names them
        kinds=("conditional_detr", "deformable_detr", "rt_detr", "rt_detr_v2", "d_fine", "rf_detr", "lw_detr"),
    ),
    BoxReader(
        "boxes-scores", "boxes (N, A, 4) and scores (N, A, C)",
        Coding(tensors=2, sides="xyxy"),
        _one_per_cell,
    ),
    BoxReader(
        "ssd", "boxes (N, A, 4) and scores (N, A, 1 + C)",
        Coding(tensors=2, sides="xyxy", relative=True, background="first"),
    ),
)  # fmt: skip
