"""Cuts: a graph that ends in a search for the best boxes is cut above it, at the boxes and scores of all anchors."""

from fusioncam.export.readers.boxes.cuts.cut import name_in
from fusioncam.export.readers.boxes.cuts.joining import NEVER, Joint, join_arrays, join_nodes, joint_of
from fusioncam.export.readers.boxes.cuts.reading import CutReading, read_cut
from fusioncam.export.readers.boxes.cuts.table import CUT_READERS

__all__ = [
    "CUT_READERS",
    "NEVER",
    "CutReading",
    "Joint",
    "join_arrays",
    "join_nodes",
    "joint_of",
    "name_in",
    "read_cut",
]
