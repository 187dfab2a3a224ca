"""The codings of boxes that cuts find: which sides they have, in pixels or in shares of the input."""

import itertools

from fusioncam.export.readers.boxes.coding import Coding, Sides
from fusioncam.export.readers.boxes.table import BoxReader

SIDES_OF_CUTS: tuple[Sides, ...] = ("xyxy", "yxyx", "cxcywh", "xywh")


def _row(sides: Sides, relative: bool) -> BoxReader:
    name = f"cut-{sides}{'-relative' * relative}"
    takes = "boxes and scores above a search"
    return BoxReader(name, takes, Coding(sides=sides, relative=relative))


CUT_READERS = tuple(itertools.starmap(_row, itertools.product(SIDES_OF_CUTS, (False, True))))


def cut_reader(sides: Sides, relative: bool) -> BoxReader:
    """Return the reader of boxes in a coding."""
    return next(r for r in CUT_READERS if (r.coding.sides, r.coding.relative) == (sides, relative))
