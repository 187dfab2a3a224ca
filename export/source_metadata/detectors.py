"""The usual preprocessing of detectors: by the reader of their boxes, or by what their own graph begins with."""

import onnx_ir as ir

from fusioncam.export.gradient.reader import constant_of
from fusioncam.export.readers.boxes import BOX_READERS
from fusioncam.export.readers.boxes.coding import cells
from fusioncam.kernels.arrays import Size

VIEWS = ("Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Gather", "Split")


def preset_of_detector(reader: str, anchors: int | None, size: Size, image: ir.Value | None = None) -> str | None:
    """Return the preset that detectors of a reader usually have; None where they have no usual one.

    Args:
        reader: Its name.
        anchors: The number of boxes; None of a model that is no detector.
        size: (H, W) of the input.
        image: The input of the graph, which may subtract the mean of colours itself, as torchvision's detectors do.
    """
    if anchors is None or len(size) != 2:
        return None
    # Of the families with an objectness YOLOX has one box per cell, YOLOv5 and YOLOv7 have three.
    usual = dict.fromkeys((r.name for r in BOX_READERS if r.name.startswith("yolo")), "yolo") | {"yolox-raw": "yolox"}
    if reader == "yolo-objectness" and anchors == cells(size):
        return "yolox"
    return usual.get(reader) or (None if image is None else _by_mean(image))


def _by_mean(image: ir.Value) -> str | None:
    """Return the preset of pictures that a graph subtracts a mean of: in 0..1, or whole pixels; None without one."""
    todo = [use.node for use in image.uses()]
    while todo:
        node = todo.pop()
        if node.op_type == "Sub" and (mean := constant_of(node.inputs[1])) is not None and (mean > 0).all():
            return "unit" if mean.max() < 1 else "raw"
        if node.op_type in VIEWS:
            todo += [use.node for o in node.outputs for use in o.uses()]
    return None
