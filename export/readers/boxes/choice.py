"""The choice of the tensors that hold a detector's boxes, and of their reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import onnx_ir as ir

from fusioncam.detector import Detector
from fusioncam.export.readers.boxes.hints import Hints, hints_of
from fusioncam.export.readers.boxes.table import BOX_READERS, BoxReader, Shape
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Size

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass(frozen=True)
class BoxReading:
    """The tensors of a detector, and the way to read them.

    Attributes:
        names: Their names in the source.
        values: The tensors.
        reader: How they are read.
        anchors: The number A of anchors.
        numbers: The numbers of classes of an anchor, background included.
    """

    names: tuple[str, ...]
    values: tuple[ir.Value, ...]
    reader: BoxReader
    anchors: int
    numbers: int

    @property
    def classes(self) -> int:
        """Return the number C of classes: a background that comes last is none."""
        return self.numbers - (self.reader.coding.background == "last")


def detector_of(boxes: BoxReading, columns: int) -> Detector:
    """Return the part of the manifest about boxes, of a normal form of so many columns."""
    coding = boxes.reader.coding
    return Detector(
        anchors=boxes.anchors,
        background={"none": None, "first": 0, "last": boxes.numbers - 1}[coding.background],
        nms=coding.nms,
        multi_label=coding.multi_label,
        extra=coding.extra,
        extras=columns - SIDES - boxes.numbers,
    )


def choose_boxes(
    model: ir.Model,
    shapes: Mapping[ir.Value, Shape | None],
    outputs: Mapping[str, ir.Value],
    size: Size,
    wanted: str | None = None,
) -> BoxReading | None:
    """Return the tensors of a detector and their reader; None where no reader takes any.

    Args:
        model: The model.
        shapes: The shapes of outputs, with the batch.
        outputs: The outputs that may be read, by their names in the source.
        size: (H, W) of the picture.
        wanted: The name of the reader that the user wants.
    """
    hints = hints_of(model.metadata_props)
    readers = [r for r in BOX_READERS if wanted is None or r.name == wanted]
    known = {n: s[1:] for n, v in outputs.items() if v.dtype in FLOATS and (s := shapes.get(v)) is not None}
    for reader in sorted(readers, key=lambda r: hints.kind not in r.kinds):
        for names in permutations(known, reader.coding.tensors):
            of_names = [known[n] for n in names]
            numbers = reader.classes(of_names, hints)
            if numbers is None or not (wanted or _fits(reader, of_names, size, hints)):
                continue
            first = of_names[0]
            anchors = first[1] if reader.coding.anchors_last else first[0]
            return BoxReading(names, tuple(outputs[n] for n in names), reader, anchors, numbers)
    return None


def _fits(reader: BoxReader, shapes: Sequence[Shape], size: Size, hints: Hints) -> bool:
    """Return whether the model's metadata or the shapes say that tensors are read so."""
    return hints.kind in reader.kinds or reader.looks_so(shapes, size)
