"""The table of readers of detectors: a row for each way in which families code boxes and numbers of classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fusioncam.export.readers.boxes.coding import Coding
from fusioncam.export.readers.boxes.hints import Hints
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Size

Shape = tuple[int, ...]  # of a tensor, without its batch


@dataclass(frozen=True)
class BoxReader:
    """A way to read a detector.

    Attributes:
        name: The name that a user gives.
        takes: The shapes of the tensors, for messages.
        coding: What they mean.
        looks_so: Returns whether tensors of these shapes are read so by default, for a picture of a size.
        kinds: Ultralytics' names of the tasks whose models are read so.
    """

    name: str
    takes: str
    coding: Coding
    looks_so: Callable[[Sequence[Shape], Size], bool]
    kinds: tuple[str, ...] = ()

    def classes(self, shapes: Sequence[Shape], hints: Hints) -> int | None:
        """Return the numbers of classes that tensors of these shapes hold; None where they cannot be read so."""
        if len(shapes) != self.coding.tensors or any(len(s) != 2 for s in shapes):
            return None
        columns = [s[0] if self.coding.anchors_last else s[1] for s in shapes]
        if self.coding.tensors == 2:
            anchors = {s[1] if self.coding.anchors_last else s[0] for s in shapes}
            return columns[1] if columns[0] == SIDES and len(anchors) == 1 else None
        found = columns[0] - self.coding.before_classes
        if self.coding.extra != "none":
            return hints.classes if hints.classes is not None and 0 < hints.classes < found else None
        return found if found > 0 else None


def cells(size: Size, strides: Sequence[int] = (8, 16, 32)) -> int:
    """Return the number of cells of the grids of a picture (H, W) at these strides, as most detectors have them.

    A picture that is smaller than a cell has none.
    """
    return 0 if min(size) < max(strides) else sum((size[0] // s) * (size[1] // s) for s in strides)


BOX_READERS = (
    BoxReader(
        "yolo", "(N, 4 + C, A)",
        Coding(anchors_last=True),
        lambda shapes, size: shapes[0][1] == cells(size),
        kinds=("detect",),
    ),
    BoxReader(
        "yolo-objectness", "(N, A, 5 + C)",
        Coding(objectness=True),
        lambda shapes, size: shapes[0][0] in (cells(size), 3 * cells(size)),
    ),
)  # fmt: skip


def box_reader(name: str) -> BoxReader:
    """Return the reader of a name, which a manifest or a user gives."""
    return next(r for r in BOX_READERS if r.name == name)
