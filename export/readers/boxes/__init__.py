"""Readers of detectors: boxes and numbers of classes, in whatever way a family codes them, become one tensor."""

from fusioncam.export.readers.boxes.arrange import arrange_boxes, filled_up
from fusioncam.export.readers.boxes.choice import (
    BoxReading,
    choose_boxes,
    choose_cut,
    choose_own,
    detector_of,
    named_reader,
    readable,
    refuse_inverted,
    refuse_no_scores,
)
from fusioncam.export.readers.boxes.coding import Coding, decode, read_raw
from fusioncam.export.readers.boxes.cuts import CUT_READERS, join_arrays, join_nodes, joint_of
from fusioncam.export.readers.boxes.hints import Hints, hints_of
from fusioncam.export.readers.boxes.own import is_own, read_by_graph
from fusioncam.export.readers.boxes.table import BOX_READERS, BoxReader
from fusioncam.export.readers.boxes.thresholds import refuse_thresholds, with_thresholds

__all__ = [
    "BOX_READERS",
    "CUT_READERS",
    "BoxReader",
    "BoxReading",
    "Coding",
    "Hints",
    "arrange_boxes",
    "choose_boxes",
    "choose_cut",
    "choose_own",
    "decode",
    "detector_of",
    "filled_up",
    "hints_of",
    "is_own",
    "join_arrays",
    "join_nodes",
    "joint_of",
    "named_reader",
    "read_by_graph",
    "read_raw",
    "readable",
    "refuse_inverted",
    "refuse_no_scores",
    "refuse_thresholds",
    "with_thresholds",
]
