"""The choice of the tensors that hold a detector's boxes, and of their reader."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import get_args

import numpy as np
import onnx_ir as ir

from fusioncam.detector import Detector
from fusioncam.errors import UsageError
from fusioncam.export.readers.boxes.coding import Sides, corners
from fusioncam.export.readers.boxes.cuts import CUT_READERS, CutReading, name_in, read_cut
from fusioncam.export.readers.boxes.hints import Hints
from fusioncam.export.readers.boxes.own import OwnGraph, OwnReader, graph_of, load_own
from fusioncam.export.readers.boxes.table import BOX_READERS, PAIRS, BoxReader, Outputs, Shape
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Array, Size

ROUNDING = 1e-3
HALF = 0.5
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
        cut: The search for the best boxes that the tensors lie above; None where the model ends in them.
        bypassed: See `Source`.
        own: The user's own reader, and its nodes as a graph; None for one of the table.
        prototypes: The output that holds the prototypes of instance masks, by its name in the source, and its tensor.
    """

    names: tuple[str, ...]
    values: tuple[ir.Value, ...]
    reader: BoxReader
    anchors: int
    numbers: int
    cut: CutReading | None = None
    bypassed: tuple[tuple[str, str], ...] = ()
    own: tuple[OwnReader, OwnGraph] | None = None
    prototypes: tuple[str, ir.Value] | None = None

    @property
    def in_stages(self) -> bool:
        """Return whether a first stage proposes boxes for a second one, more or fewer for each picture."""
        return self.cut is not None and self.cut.cut.proposals is not None

    @property
    def classes(self) -> int:
        """Return the number C of classes: a background that comes last is none."""
        return self.numbers - (self.reader.coding.background == "last")


def detector_of(boxes: BoxReading, columns: int, mask_size: tuple[int, int] | None = None) -> Detector:
    """Return the part of the manifest about boxes, of a normal form of so many columns and prototypes of a size."""
    coding = boxes.reader.coding
    detector = Detector(
        anchors=boxes.anchors,
        background={"none": None, "first": 0, "last": boxes.numbers - 1}[coding.background],
        nms=coding.nms,
        multi_label=coding.multi_label,
        extra=coding.extra,
        extras=columns - SIDES - boxes.numbers,
        keypoint=coding.keypoint,
        mask_size=mask_size,
        **boxes.reader.limits,
    )
    return detector if boxes.cut is None else boxes.cut.change(detector)


def named_reader(name: str) -> BoxReader:
    """Return the reader of a name, which a manifest or a user gives."""
    return next(r for r in (*BOX_READERS, *CUT_READERS) if r.name == name)


def choose_cut(
    model: ir.Model,
    outputs: Mapping[str, ir.Value],
    names: Mapping[ir.Value, str],
    batch: int,
    hints: Hints,
    wanted: str | None = None,
) -> BoxReading | None:
    """Return the tensors above the search for the best boxes that a model ends in; None where it ends otherwise.

    Args:
        model: The model; it is changed where it is cut.
        outputs: The outputs that may be read, by their names in the source.
        names: The names of tensors in the source.
        batch: The only batch that the model takes, or 1.
        hints: What the model says of itself.
        wanted: The name of the reader that the user wants.

    Raises:
        ModelError: The model ends in a search that cannot be taken off.
    """
    found = read_cut(model, outputs, batch, hints, wanted)
    if found is None:
        return None
    cut, joint = found.cut, found.joint
    of_source = tuple(name_in(names, v) for v in cut.values)
    bypassed = cut.bypassed_in(names)
    masks = None if cut.prototypes is None else (name_in(names, cut.prototypes), cut.prototypes)
    return BoxReading(
        of_source, cut.values, found.reader, found.anchors, joint.numbers, found, bypassed, prototypes=masks
    )


def choose_own(
    text: str, outputs: Mapping[str, ir.Value], shapes: Mapping[ir.Value, Shape | None], size: Size, opset: int
) -> BoxReading:
    """Return how a user's own reader reads the outputs.

    Args:
        text: FILE.py:function.
        outputs: The outputs that may be read, by their names in the source.
        shapes: Their shapes, with the batch.
        size: (H, W) of the picture.
        opset: That of the model.

    Raises:
        UsageError: The file, the function or its result is not as it should be.
    """
    own = load_own(text)
    known = {n: (1, *s[1:]) for n, v in outputs.items() if v.dtype in FLOATS and (s := shapes.get(v)) is not None}
    graph = graph_of(own, known, size, opset)
    values = tuple(outputs[n] for n in known)
    return BoxReading(tuple(known), values, graph.reader, graph.anchors, graph.numbers, own=(own, graph))


def choose_boxes(
    outputs: Mapping[str, ir.Value],
    shapes: Mapping[ir.Value, Shape | None],
    size: Size,
    hints: Hints,
    wanted: str | None = None,
) -> BoxReading | None:
    """Return the tensors of a detector and their reader; None where no reader takes any.

    Args:
        outputs: The outputs that may be read, by their names in the source.
        shapes: Their shapes, with the batch.
        size: (H, W) of the picture.
        hints: What the model says of itself.
        wanted: The name of the reader that the user wants.

    Raises:
        UsageError: By their names two outputs are boxes and numbers of classes, and nothing says how to read these.
    """
    readers = [r for r in BOX_READERS if wanted in (None, r.name)]
    if not any(hints.kind in r.kinds for r in BOX_READERS):
        hints = replace(hints, kind=None)
    found = {reader: readable(reader, outputs, shapes, size, hints) for reader in readers}
    for reader, candidates in found.items():
        for tensors, numbers in candidates:
            if wanted is not None or reader.fits(tensors, numbers):
                anchors = tensors.shapes[0][1 if reader.coding.anchors_last else 0]
                reader = replace(reader, coding=replace(reader.coding, keypoint=hints.keypoint))
                named = tensors.prototypes if reader.coding.extra == "masks" else None
                prototypes = None if named is None else (named, outputs[named])
                return BoxReading(tensors.names, tensors.values, reader, anchors, numbers, prototypes=prototypes)
    pairs = {t.names for candidates in found.values() for t, _ in candidates if t.names in PAIRS}
    if pairs:
        raise undecided(
            min(pairs), [r for r, candidates in found.items() if any(t.names in pairs for t, _ in candidates)]
        )
    return None


def readable(
    reader: BoxReader,
    outputs: Mapping[str, ir.Value],
    shapes: Mapping[ir.Value, Shape | None],
    size: Size,
    hints: Hints,
) -> list[tuple[Outputs, int]]:
    """Return the outputs that a reader can read, each with the numbers of classes, the likeliest first."""
    known = {n: s[1:] for n, v in outputs.items() if v.dtype in FLOATS and (s := shapes.get(v)) is not None}
    found = []
    for names in permutations(known, reader.coding.tensors):
        values, others = tuple(outputs[n] for n in names), {n: s for n, s in known.items() if n not in names}
        tensors = Outputs(names, values, tuple(known[n] for n in names), others, size, hints)
        numbers = reader.numbers(tensors)
        if numbers is not None:
            found.append((tensors, numbers))
    return sorted(found, key=lambda f: f[0].likely, reverse=True)


def undecided(names: Sequence[str], readers: Sequence[BoxReader]) -> UsageError:
    """Return the error for boxes and numbers of classes that can be read in several ways."""
    ways = ", ".join(f"--reader {r.name} ({r.coding.words})" for r in readers)
    return UsageError(
        f"outputs {names[0]!r} and {names[1]!r} are boxes and numbers of classes, and nothing says how to read these: "
        f"lay the model's config.json beside it, or say one of {ways}"
    )


def refuse_no_scores(boxes: BoxReading, raw: Sequence[Array]) -> None:
    """Make sure that what is read as scores of a picture of noise lies within 0 and 1.

    Raises:
        UsageError: It does not, so the reader is not the right one.
    """
    coding = boxes.reader.coding
    if coding.ending != "value":
        return
    whole = np.concatenate([a.swapaxes(1, 2) if coding.anchors_last else a for a in raw], axis=2)
    scores = whole[..., SIDES : coding.before_classes + boxes.numbers]
    low, high = float(scores.min()), float(scores.max())
    if low < -ROUNDING or high > 1 + ROUNDING:
        raise UsageError(
            f"reader {boxes.reader.name!r} takes {boxes.numbers} scores from 0 to 1, and {boxes.names[-1]!r} has "
            f"numbers from {low:.3g} to {high:.3g} there: it is read in another way, see --reader"
        )


def refuse_inverted(boxes: BoxReading, raw: Sequence[Array], size: Size) -> None:
    """Make sure that most of what is read as boxes of a picture of noise begins before it ends.

    Raises:
        UsageError: It does not, so the four numbers are read in the wrong way.
    """
    coding = boxes.reader.coding
    sides = (raw[0].swapaxes(1, 2) if coding.anchors_last else raw[0])[..., :SIDES].astype(np.float64)
    with np.errstate(all="ignore"):
        found = corners(sides, coding, size)
    # No area is fine: boxes may be clipped to the picture.
    inverted = float((found[..., 2:] < found[..., :2]).any(axis=-1).mean())
    if inverted > HALF:
        ways = "--reader" if boxes.own is None else f"the key 'sides' ({', '.join(get_args(Sides))})"
        raise UsageError(
            f"reader {boxes.reader.name!r} takes the four numbers of a box as {coding.sides}, and then {inverted:.0%} "
            f"of the boxes end before they begin: they are read in another way, see {ways}"
        )
