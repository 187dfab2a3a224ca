"""The reading of a cut: what its tensors mean, by the model's metadata and by the numbers of a picture of noise."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx_ir as ir

from fusioncam.detector import Detector, ExtraKind
from fusioncam.errors import ModelError
from fusioncam.export.gradient import bodies
from fusioncam.export.readers.boxes.coding import Sides
from fusioncam.export.readers.boxes.cuts.cut import Cut, cut_above_search
from fusioncam.export.readers.boxes.cuts.joining import Joint, joint_of
from fusioncam.export.readers.boxes.cuts.table import CUT_READERS, cut_reader
from fusioncam.export.readers.boxes.cuts.walking import SEARCH
from fusioncam.export.readers.boxes.hints import Hints
from fusioncam.export.readers.boxes.table import BoxReader
from fusioncam.export.reading.shapes import feeds_of, run_all
from fusioncam.export.sessions import run
from fusioncam.kernels.arrays import Array

# By Ultralytics' names of tasks; its searches give corners in pixels, but for rotated boxes and RT-DETR.
EXTRAS: dict[str | None, ExtraKind] = {"detect": "none", "segment": "masks", "pose": "keypoints", "obb": "rotated"}
RELATIVE = 2.0  # the largest share of the input that a box reaches, but for outliers
ORDERED = 0.99  # of boxes coded by corners, the share whose second corner is behind the first, at least
ALONG = 0.5  # the least correlation of the rows of a grid with the numbers of its cells


@dataclass(frozen=True)
class CutReading:
    """A cut, and how it is read.

    Attributes:
        cut: The tensors.
        joint: Their axes.
        reader: The coding of the boxes.
    """

    cut: Cut
    joint: Joint
    reader: BoxReader

    @property
    def anchors(self) -> int:
        """Return the number of anchors: of a detector of two stages, for the most boxes that the first proposes."""
        joint, most = self.joint, self.cut.proposals
        return joint.anchors if most is None else most * (len(joint.own) if joint.apart else 1)

    def change(self, detector: Detector) -> Detector:
        """Return the detector with the thresholds of the search."""
        return Detector.model_validate(detector.model_dump() | self.cut.limits.changes())


def may_be_cut(graph: ir.Graph) -> bool:
    """Return whether a graph holds an operator that searches for the best."""
    return any(node.op_type in (SEARCH, "TopK") or any(map(may_be_cut, bodies(node))) for node in graph)


def read_cut(
    model: ir.Model, outputs: Mapping[str, ir.Value], batch: int, hints: Hints, wanted: str | None
) -> CutReading | None:
    """Cut a model above its search for the best boxes, and return how it is read; None where it ends otherwise.

    Args:
        model: The model; it is changed where it is cut.
        outputs: The outputs that may be read, by their names in the source.
        batch: The only batch that the model takes, or 1.
        hints: The model's hints about its boxes.
        wanted: The name of the reader that the user wants.

    Raises:
        ModelError: The model ends in a search that cannot be taken off.
    """
    if (wanted is not None and wanted not in [r.name for r in CUT_READERS]) or not may_be_cut(model.graph):
        return None
    shapes = {v: tuple(held.shape()) for v, held in run_all(model, feeds_of(model, batch)).items()}
    cut = cut_above_search(model.graph, outputs, shapes)
    if cut is None:
        return None
    arrays = run(model, feeds_of(model, batch))[: len(cut.values)]
    shapes_of_cut = [a.shape for a in arrays[: len(arrays) - len(cut.valid)]]
    joint = joint_of(shapes_of_cut, batch, bool(cut.extras), cut.background)
    if joint is None:
        listed = ", ".join(f"{v.name!r} {a.shape}" for v, a in zip(cut.values, arrays, strict=True))
        raise ModelError(
            f"the model ends in a search for the best boxes, above which boxes and scores do not belong together: "
            f"{listed}; export it without that search"
        )
    boxes = arrays[0].reshape(-1, joint.anchors, 4)[0].astype(np.float64)
    named = next((r for r in CUT_READERS if r.name == wanted), None)
    relative = _is_relative(boxes)
    reader = named or cut_reader(_sides(boxes, cut.centred, hints, relative, model.producer_name), relative)
    extra = EXTRAS.get(hints.kind, "none") if cut.extras else "none"
    if extra != "masks":
        cut = replace(cut, prototypes=None)
    ending: Literal["softmax", "value"] = "softmax" if joint.softmax else "value"
    coding = replace(reader.coding, background=cut.background, extra=extra, ending=ending, keypoint=hints.keypoint)
    return CutReading(cut, joint, replace(reader, coding=coding))


def _is_relative(boxes: Array) -> bool:
    """Return whether boxes (A, 4) are in shares of the input: pixels of all anchors reach far beyond."""
    return float(np.quantile(np.abs(boxes), 0.9)) <= RELATIVE


def _sides(boxes: Array, centred: bool | None, hints: Hints, relative: bool, producer: str | None) -> Sides:
    """Return the coding of the sides of boxes (A, 4), which are relative to the input or in pixels.

    Raises:
        ModelError: Their numbers are no corners, and no centres and sizes.
    """
    if hints.kind == "obb" or (hints.kind in EXTRAS and relative):
        return "cxcywh"
    ordered = float(((boxes[:, 2] >= boxes[:, 0]) & (boxes[:, 3] >= boxes[:, 1])).mean())
    if centred is None and hints.kind not in EXTRAS:
        if ordered < ORDERED and (boxes[:, 2:] < 0).any():
            raise ModelError(
                "boxes above the search are neither corners nor centres and sizes; say which with --reader cut-xywh"
            )
        centred = ordered < ORDERED
    if centred:
        return "cxcywh"
    return "yxyx" if _goes_down_first(boxes, producer) else "xyxy"


def _goes_down_first(boxes: Array, producer: str | None) -> bool:
    """Return whether the first number of corners is vertical: cells of a grid follow each other row by row.

    Where boxes lie on no grid, TensorFlow's do.
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    numbers = np.arange(len(boxes))
    with np.errstate(invalid="ignore"):
        first, second = (abs(float(np.corrcoef(numbers, c)[0, 1])) for c in centres.T)
    if max(first, second) > ALONG and min(first, second) < ALONG / 2:
        return first > second
    return "tf2onnx" in (producer or "")
