"""The usual preprocessing of detectors, by the reader of their boxes."""

from fusioncam.export.readers.boxes import BOX_READERS
from fusioncam.export.readers.boxes.coding import cells
from fusioncam.kernels.arrays import Size


def preset_of_detector(reader: str, anchors: int | None, size: Size) -> str | None:
    """Return the preset that detectors of a reader usually have; None where they have no usual one.

    Args:
        reader: Its name.
        anchors: The number of boxes; None of a model that is no detector.
        size: (H, W) of the input.
    """
    if anchors is None or len(size) != 2:
        return None
    # Of the families with an objectness YOLOX has one box per cell, YOLOv5 and YOLOv7 have three.
    usual = dict.fromkeys((r.name for r in BOX_READERS if r.name.startswith("yolo")), "yolo") | {"yolox-raw": "yolox"}
    return "yolox" if reader == "yolo-objectness" and anchors == cells(size) else usual.get(reader)
