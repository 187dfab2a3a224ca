"""Readers of a user's own: a function in a Python file that makes boxes and numbers of classes of a model's outputs."""

import difflib
import json
import runpy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import onnx_ir as ir

from fusioncam.errors import FusionCamError, UsageError, first_line
from fusioncam.export.gradient import Ops
from fusioncam.export.readers.boxes.coding import Coding
from fusioncam.export.readers.boxes.table import BoxReader
from fusioncam.export.sessions import run
from fusioncam.forms import SIDES
from fusioncam.kernels.arrays import Array, Size

MARK = ".py:"  # in the name of a reader of one's own: FILE.py:function
MEANING = "coding"  # key of the metadata of a reader's graph
# Fields of `Coding` that are a function's work.
DONE = ("tensors", "anchors_last", "of_cells", "objectness", "extra", "keypoint")
Function = Callable[[Ops, Mapping[str, ir.Value], Size], Any]


@dataclass(frozen=True, eq=False)
class OwnReader:
    """A reader of a user's own.

    Attributes:
        text: Its file and function, as the user names them.
        function: Appends nodes and returns boxes (N, A, 4), numbers of classes (N, A, C), and perhaps their meaning:
            fields of `Coding`.
    """

    text: str
    function: Function

    def nodes(self, op: Ops, outputs: Mapping[str, ir.Value], size: Size) -> tuple[list[ir.Value], Coding]:
        """Append the nodes that make boxes and numbers of classes; return these, and what they mean.

        Args:
            op: Appends nodes.
            outputs: The model's outputs in float32, by their names.
            size: (H, W) of the input.

        Raises:
            UsageError: The function fails, or returns something else.
        """
        try:
            found = self.function(op, outputs, size)
        except FusionCamError:
            raise
        except (Exception, SystemExit) as error:  # whatever the user's own code raises
            why = f"{type(error).__name__}: {first_line(error)}"
            raise UsageError(f"reader {self.text} fails ({why}); the outputs are {', '.join(outputs)}") from error
        values, meaning = (found[:2], {**found[2]} if len(found) == 3 else {}) if _is_result(found) else ((), {})
        if len(values) != 2 or not all(isinstance(v, ir.Value) for v in values):
            raise self.wrong(f"returns {type(found).__name__}")
        known = sorted({f.name for f in fields(Coding)} - {*DONE})
        if strange := [name for name in meaning if name not in known]:
            raise self.wrong(f"says {strange[0]!r}, which is none of {', '.join(known)}")
        hints = get_type_hints(Coding)
        for name, value in meaning.items():
            allowed = get_args(hints[name]) or (False, True)
            if type(value) is not type(allowed[0]) or value not in allowed:
                raise self.wrong(f"says {name}={value!r}, which is none of {', '.join(map(str, allowed))}")
        return list(values), Coding(tensors=2, **{"sides": "xyxy", **meaning})

    def wrong(self, why: str) -> UsageError:
        """Return the error for a result that is no detector's."""
        return UsageError(
            f"reader {self.text} {why}; it must return boxes (N, A, 4) and numbers of classes (N, A, C), and perhaps a "
            "dict that says what they mean"
        )


def _is_result(found: Any) -> bool:
    return isinstance(found, tuple | list) and len(found) in (2, 3) and (len(found) == 2 or isinstance(found[2], dict))


@dataclass(frozen=True, eq=False)
class OwnGraph:
    """The nodes of a reader of one's own as a graph, for comparisons with the source.

    Attributes:
        model: Its inputs are the outputs of the source.
        reader: What its outputs mean.
        anchors: The number A of anchors.
        numbers: The numbers C of classes.
    """

    model: ir.Model
    reader: BoxReader
    anchors: int
    numbers: int


def is_own(reader: object) -> bool:
    """Return whether the name of a reader is a file and a function in it."""
    return isinstance(reader, str) and MARK in reader


def load_own(text: str) -> OwnReader:
    """Return a user's reader, which runs its file.

    Args:
        text: FILE.py:function.

    Raises:
        UsageError: There is no such file or function, or the file does not run.
    """
    file, _, name = text.rpartition(":")
    if not Path(file).is_file():
        raise UsageError(f"reader {text}: there is no file {file}")
    try:
        names = runpy.run_path(file)
    except (Exception, SystemExit) as error:
        raise UsageError(f"reader {text}: {file} does not run ({type(error).__name__}: {first_line(error)})") from error
    function = names.get(name)
    if not callable(function):
        close = difflib.get_close_matches(name, [n for n, v in names.items() if callable(v)], n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UsageError(f"reader {text}: {file} has no function {name!r}{hint}")
    return OwnReader(text, function)


def graph_of(own: OwnReader, shapes: Mapping[str, Sequence[int]], size: Size, opset: int) -> OwnGraph:
    """Return the nodes of a reader as a graph, once it has run on random numbers.

    Args:
        own: The reader.
        shapes: The shapes of the outputs for one picture, by their names.
        size: (H, W) of the input.
        opset: That of the model.

    Raises:
        UsageError: The function fails, or its results are no boxes and numbers of classes.
    """
    float32 = ir.TensorType(ir.DataType.FLOAT)
    inputs = [ir.Value(name=n, shape=ir.Shape(["N", *s[1:]]), type=float32) for n, s in shapes.items()]
    graph = ir.Graph(inputs, [], nodes=[], opset_imports={"": opset}, name="reader")
    found, coding = own.nodes(Ops(graph, "own"), {str(v.name): v for v in inputs}, size)
    names = "boxes", "numbers"
    op = Ops(graph, "reader")
    for name, value in zip(names, found, strict=True):
        made = op.Identity(value)
        made.name, made.type = f"own/{name}", float32
        graph.outputs.append(made)
    model = ir.Model(graph, ir_version=8)
    model.metadata_props[MEANING] = json.dumps(asdict(coding))
    rng = np.random.default_rng(0)
    try:
        boxes, numbers = run(model, {n: rng.random(s, np.float32) for n, s in shapes.items()})
    except FusionCamError as error:
        raise UsageError(f"reader {own.text} makes nodes that do not run: {first_line(error)}") from error
    if boxes.ndim != 3 or boxes.shape[2] != SIDES or numbers.ndim != 3 or numbers.shape[:2] != boxes.shape[:2]:
        raise own.wrong(f"returns tensors of shapes {boxes.shape} and {numbers.shape}")
    if min(boxes.shape[1], numbers.shape[2] - (coding.background != "none")) < 1:
        raise own.wrong(f"returns tensors of shapes {boxes.shape} and {numbers.shape}, without a box or a class")
    reader = BoxReader(own.text, "the outputs that its function reads", coding)
    return OwnGraph(model, reader, boxes.shape[1], numbers.shape[2])


def read_by_graph(model: ir.Model, outputs: Mapping[str, Array]) -> tuple[list[Array], Coding]:
    """Return boxes and numbers of classes that a reader's graph makes of a source's outputs, and what they mean."""
    meaning = Coding(**json.loads(model.metadata_props[MEANING]))
    return run(model, {n: np.asarray(a, np.float32) for n, a in outputs.items()}), meaning
