"""The choice of an output and of its reader: by shapes, by names, or by the user."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir

from fusioncam.errors import FusionCamError, ModelError, UsageError
from fusioncam.export.endings import ranked, refuse_ranks
from fusioncam.export.endings.tail import before_views
from fusioncam.export.readers.boxes import (
    BOX_READERS,
    BoxReading,
    Hints,
    choose_boxes,
    choose_cut,
    choose_own,
    hints_of,
    is_own,
    readable,
)
from fusioncam.export.readers.normalised import ends_normalised
from fusioncam.export.readers.request import Request
from fusioncam.export.readers.shapes import Shapes, shapes_of
from fusioncam.export.readers.table import READERS, VECTOR, Reader, Shape
from fusioncam.export.reading.image_input import ImageInput
from fusioncam.forms import Task
from fusioncam.kernels.arrays import Size

FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)
EMBEDDING = re.compile("embed|pooler|feature", re.IGNORECASE)  # in the name of an output
# Of outputs with such names, the first is what the model is for: torchvision's segmenters, transformers' CLIP.
PREFERRED = (("out", "aux"), ("image_embeds", "pooler_output"))


@dataclass(frozen=True)
class Reading:
    """An output, and the way to read it.

    Attributes:
        name: Name of the output in the source.
        value: The tensor to read; for an output of class numbers, the scores that an ArgMax takes them from.
        reader: How it is read.
        task: What the model does.
        argmax: Whether an ArgMax lies between the tensor and the output.
        by_user: Whether the user named the reader.
        boxes: The tensors of a detector, in place of `value`, and how they are read; None for other models.
    """

    name: str
    value: ir.Value
    reader: Reader
    task: Task
    argmax: bool
    by_user: bool
    boxes: BoxReading | None = None

    @property
    def values(self) -> tuple[ir.Value, ...]:
        """Return the tensors to read."""
        return (self.value,) if self.boxes is None else self.boxes.values

    @property
    def tensors(self) -> tuple[str, ...]:
        """Return the names in the source of a detector's tensors; none of other models."""
        return () if self.boxes is None else self.boxes.names

    @property
    def reader_name(self) -> str:
        """Return the name of the reader, as a user gives it."""
        return self.reader.name if self.boxes is None else self.boxes.reader.name

    @property
    def is_vector(self) -> bool:
        """Return whether the output holds one number per class or value."""
        return self.reader is VECTOR and self.task not in ("embed", "detect")


@dataclass(frozen=True)
class Output:
    """An output that may be explained.

    Attributes:
        name: Its name in the source.
        value: The tensor to read.
        argmax: The ArgMax that makes the output of it, or None where it is the output.
    """

    name: str
    value: ir.Value
    argmax: ir.Node | None = None

    @property
    def is_embedding(self) -> bool:
        """Return whether its name or the operators that close it say that it is an embedding."""
        return EMBEDDING.search(self.name) is not None or ends_normalised(self.value)


def choose_reading(
    model: ir.Model,
    outputs: Mapping[str, ir.Value],
    request: Request,
    taken: ImageInput,
    folder: Path | None = None,
    source_names: Mapping[ir.Value, str] | None = None,
) -> Reading:
    """Return the output to explain, and its reader.

    Args:
        model: A model with the input `image`; a detector is cut above its search for the best boxes.
        outputs: Its outputs, by their names in the source.
        request: What the user says.
        taken: The image input.
        folder: Where the model lies, perhaps with a configuration of transformers.
        source_names: The names of tensors in the source.

    Raises:
        ModelError: No reader takes the output, or it holds ranks or text.
        UsageError: There are several outputs to choose from, or the request fits none.
    """
    hints = hints_of(model.metadata_props, folder)
    cut = _cut(model, outputs, request, taken, hints, source_names or {})
    if cut is not None:
        return _of_boxes(cut, request)
    found = _candidates(model, outputs, request.output)
    shapes = shapes_of(model, [o.value for o in found], taken.batch or 1)
    boxes = _boxes(model, found, shapes, request, taken, hints)
    if boxes is not None:
        return _of_boxes(boxes, request)
    able = [(o, fits[0]) for o in found if (fits := _fitting(o, shapes[o.value], request, taken))]
    names = [output.name for output, _ in able]
    if len(able) > 1:
        first = next((one for one, other in PREFERRED if {one, other} <= {*names}), None)
        if first is None:
            raise several(able, shapes, taken.size)
        able = [able[names.index(first)]]
    if not able:
        raise none_fits(found, shapes, request, taken.size)
    ((output, reader),) = able
    return Reading(
        name=output.name,
        value=output.value,
        reader=reader,
        task=_task(output, reader, request),
        argmax=output.argmax is not None,
        by_user=request.reader is not None,
    )


def _of_boxes(boxes: BoxReading, request: Request) -> Reading:
    return Reading(boxes.names[0], boxes.values[0], VECTOR, "detect", False, request.reader is not None, boxes)


def _cut(
    model: ir.Model,
    outputs: Mapping[str, ir.Value],
    request: Request,
    taken: ImageInput,
    hints: Hints,
    names: Mapping[ir.Value, str],
) -> BoxReading | None:
    """Return how a detector is read above its search for the best boxes; None where it is none that ends in one."""
    if request.task not in (None, "detect") or request.ending is not None or len(taken.size) != 2:
        return None
    floats = {n: o for n, o in outputs.items() if request.output in (None, n) and o.dtype in FLOATS}
    return choose_cut(model, floats, names, taken.batch or 1, hints, request.reader)


def _boxes(
    model: ir.Model, found: list[Output], shapes: Shapes, request: Request, taken: ImageInput, hints: Hints
) -> BoxReading | None:
    """Return how the boxes of a detector are read; None where the user wants, or the outputs are, something else."""
    if request.task not in (None, "detect") or len(taken.size) != 2:
        return None
    outputs = {o.name: o.value for o in found}
    if request.reader is not None and is_own(request.reader):
        return choose_own(request.reader, outputs, shapes, taken.size, model.opset_imports[""])
    return choose_boxes(outputs, shapes, taken.size, hints, request.reader)


def _candidates(model: ir.Model, outputs: Mapping[str, ir.Value], name: str | None) -> list[Output]:
    """Return the outputs that may be explained: the named one, else those of real numbers, else all tensors."""
    ranks = ranked(model.graph)
    tensors = {n: o for n, o in outputs.items() if isinstance(o.type, ir.TensorType)}
    floats = {n: o for n, o in tensors.items() if o.dtype in FLOATS and o not in ranks}
    scores = {name: outputs[name]} if name is not None else floats or tensors or outputs
    first_name, first = next(iter(scores.items()))
    cause = ranks.get(first)
    if cause is not None and (cause.op_type != "ArgMax" or before_views(first).producer() is not cause):
        raise refuse_ranks(first, cause, list(floats))
    if len(scores) == 1 and first.dtype == ir.DataType.STRING:
        raise ModelError(f"output {first_name!r} is text, not scores; cut the graph before the names are looked up")
    causes = {n: ranks.get(o) for n, o in scores.items()}
    return [Output(n, o if (c := causes[n]) is None else c.inputs[0] or o, c) for n, o in scores.items()]


def _fitting(output: Output, shape: Shape | None, request: Request, taken: ImageInput) -> list[Reader]:
    """Return the readers that an output could be read by, the best first."""
    if shape is None:
        return [VECTOR]
    suited = [r for r in READERS if r.suits(taken.size)]
    named = [r for r in suited if r.name == request.reader and r.takes_shape(shape[1:])]
    fitting = named or [r for r in suited if r.fits(shape[1:], taken.size)]
    fitting.sort(key=lambda r: taken.channels_last and r.name == "maps")  # one that also fits as maps-last is that
    if output.argmax is not None:
        axis = output.argmax.attributes.get_int("axis", 0) % len(shape)
        fitting = [r for r in fitting if r.classes_at == axis]
    if request.reader is not None:
        return [r for r in fitting if r.name == request.reader]
    if request.task is not None:
        return [r for r in fitting if request.task in r.tasks]
    embeds = request.ending is None and output.is_embedding
    return [r for r in fitting if ("embed" in r.tasks if embeds else r.tasks != ("embed",))]


def by_roles(reading: Reading, roles: str) -> Reading:
    """Return a reading whose maps have their axes of classes, height and width where the positions of pixels say so."""
    if reading.by_user or reading.argmax or reading.reader.roles is None:
        return reading
    return replace(reading, reader=next((r for r in READERS if r.roles == roles), reading.reader))


def _task(output: Output, reader: Reader, request: Request) -> Task:
    if request.task is not None:
        return request.task
    embeds = "embed" in reader.tasks and request.ending is None and output.is_embedding
    return "embed" if embeds else reader.tasks[0]


def several(able: list[tuple[Output, Reader]], shapes: Shapes, size: Size) -> UsageError:
    """Return the error for several outputs that could be explained."""
    if all(reader is VECTOR for _, reader in able):
        names = ", ".join(output.name for output, _ in able)
        return UsageError(f"the model has several outputs; say which holds the class scores with --scores: {names}")
    listed = _listed([output for output, _ in able], shapes, size)
    return UsageError(f"the model has several outputs; say which to explain with --scores NAME: {listed}")


def none_fits(found: list[Output], shapes: Shapes, request: Request, size: Size) -> FusionCamError:
    """Return the error for outputs that nothing reads, or not as the user wants."""
    listed = _listed(found, shapes, size)
    asked = [f"--{k} {v}" for k, v in (("task", request.task), ("reader", request.reader)) if v is not None]
    if asked:
        return UsageError(f"{' '.join(asked)} fits no output of the model: {listed}")
    first = found[0]
    if first.argmax is not None:
        return refuse_ranks(first.argmax.outputs[0], first.argmax, [])
    outputs = "output" if len(found) == 1 else "outputs"
    return ModelError(f"no reader takes the model's {outputs} by itself: {listed}")


def _listed(outputs: list[Output], shapes: Shapes, size: Size) -> str:
    """Return the outputs with their shapes, and the options that would read each."""
    detectors = _detectors(outputs, shapes, size)
    return "; ".join(f"{o.name!r} {_shape(shapes[o.value])}: {_ways(o, shapes, size, detectors)}" for o in outputs)


def _detectors(outputs: list[Output], shapes: Shapes, size: Size) -> dict[str, list[str]]:
    """Return the readers of detectors that could read each output, alone or with another, by its name."""
    found: dict[str, list[str]] = {o.name: [] for o in outputs}
    named = {o.name: o.value for o in outputs}
    for reader in BOX_READERS if len(size) == 2 else ():
        for name in {n for t, _ in readable(reader, named, shapes, size, Hints()) for n in t.names}:
            found[name].append(reader.name)
    return found


def _shape(shape: Shape | None) -> str:
    return "" if shape is None else f"({', '.join(map(str, ('N', *shape[1:])))})"


def _ways(output: Output, shapes: Shapes, size: Size, detectors: Mapping[str, list[str]]) -> str:
    shape = shapes[output.value]
    able = [r for r in READERS if shape is not None and r.suits(size) and r.takes_shape(shape[1:])]
    ways = [f"{reader.name} ({', '.join(reader.tasks)})" for reader in able]
    if detectors[output.name]:
        ways.append(f"{', '.join(detectors[output.name])} (detect)")
    return f"--reader {', '.join(ways)}" if ways else "no reader"
