"""The canonical form: one float32 NCHW image in, the normal form of its task out, free batch, every shape known."""

from collections.abc import Mapping, Sequence
from operator import index
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as passes

from fusioncam.detector import Detector
from fusioncam.errors import ModelError, UsageError
from fusioncam.export.batch.dynamic import quantise_by_image
from fusioncam.export.gradient import dims
from fusioncam.export.gradient.rules.elementwise import drops
from fusioncam.export.lowering import Uses
from fusioncam.export.model import CanonicalModel
from fusioncam.export.normal_form import make_normal_form
from fusioncam.export.readers import Reading, Request, choose_reading, request_of
from fusioncam.export.readers.boxes import detector_of
from fusioncam.export.reading.configurations import configured_ending
from fusioncam.export.reading.conversion import compare_conversion
from fusioncam.export.reading.file import read_model
from fusioncam.export.reading.frozen_inputs import freeze
from fusioncam.export.reading.further_inputs import freezing_may_help, picture_input
from fusioncam.export.reading.image_input import ImageInput, take_image
from fusioncam.export.reading.load import Conversion, converted, fold, refuse_random
from fusioncam.export.reading.unfused import keep_activations
from fusioncam.input_values import InputValues
from fusioncam.kernels.arrays import Array, Float32Array, Size
from fusioncam.manifest import PLACES, Ending

CHOICES: tuple[Ending, ...] = ("softmax", "sigmoid", "value")  # for a user; an ending nobody names is `logits`
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def canonicalize(
    source: Path,
    size: Size | None = None,
    output: str | None = None,
    ending: str | None = None,
    task: str | None = None,
    reader: str | None = None,
    side: int | None = None,
    layout: str | None = None,
    image: str | None = None,
    inputs: InputValues | None = None,
    vectors: Float32Array | None = None,
    refused: Uses | None = None,
) -> CanonicalModel:
    """Load a model and bring it to the canonical form.

    Args:
        source: The ONNX file, of opset 7 or later; see `read_model`.
        size: (H, W) of the input, for a model that leaves them open.
        output: Which output is explained, where there are several.
        ending: How logits become probabilities (see `CHOICES`), whatever the graph holds; `value`: they stay.
        task: What the model does; by default what its output looks like.
        reader: The name of the reader of the output; by default the first that fits.
        side: What is taken for an open H or W where `size` is not given.
        layout: `nchw` or `nhwc`, for a model whose shapes do not say which axis holds the channels.
        image: The input that is explained, where several can be.
        inputs: Values that are frozen into the graph, by the name of the input; see `freeze`.
        vectors: Vectors of classes (classes, D), see `read_class_vectors`: an embedding becomes logits by them.
        refused: Uses of operators that are written in others; see `lower`.

    Raises:
        ModelError: The file cannot be read, takes no image, or no reader takes its output.
        UsageError: An argument does not fit the model, or an input of it must be frozen.
    """
    request = request_of(output, task, reader, _chosen(ending), vectors is not None)
    proto = read_model(source)
    given = freeze(proto, inputs or {})
    loaded = converted(proto, source, refused)
    model, reading, taken = _prepared(loaded, given.defaults, size, request, side, layout, image, source.parent)
    with freezing_may_help(model):
        model, reading, model_ending, numbers = make_normal_form(model, reading, taken, request.ending, vectors)
    final_ending = _ending(reading, request.ending, model_ending.ending, numbers, source.parent)
    classes, map_size, detector = _sizes(model, reading, numbers)
    return CanonicalModel(
        dynamic=quantise_by_image(model),  # first, as it changes the model
        model=_without_prototypes(model),
        whole=model,
        taken=taken,
        frozen=given.frozen,
        reading=reading,
        task="value" if final_ending == "value" and reading.task == "classify" else reading.task,
        classes=classes,
        map_size=map_size,
        detector=detector,
        ending=final_ending,
        source=model_ending,
        outputs=numbers,
        class_vectors=vectors is not None,
        precision="float16" if _is_halved(model) else "float32",
    )


def _sizes(model: ir.Model, reading: Reading, numbers: int) -> tuple[int, tuple[int, int] | None, Detector | None]:
    """Return the number of classes, the size of their maps, and the boxes of a detector."""
    classes, *others = (d for d in dims(model.graph.outputs[0])[1:] if d is not None)
    if reading.boxes is not None:
        mask_sizes = [(h, w) for _, _, h, w in map(dims, list(model.graph.outputs)[1:]) if h and w]
        return numbers, None, detector_of(reading.boxes, others[0], next(iter(mask_sizes), None))
    return classes, (others[0], others[1]) if others else None, None


def _without_prototypes(model: ir.Model) -> ir.Model:
    """Return a copy without the prototypes of masks, which no masked pass needs; the model where it has none."""
    if len(model.graph.outputs) == 1:
        return model
    model = model.clone()
    del model.graph.outputs[1:]
    passes.RemoveUnusedNodesPass()(model)
    return model


def _is_halved(model: ir.Model) -> bool:
    """Tell whether a model has float16 weights."""
    return any(v.dtype == ir.DataType.FLOAT16 and v.shape for v in model.graph.initializers.values())


def _prepared(
    loaded: tuple[ir.Model, Conversion | None],
    defaults: Mapping[str, Array],
    size: Size | None,
    request: Request,
    side: int | None,
    layout: str | None,
    image: str | None,
    folder: Path,
) -> tuple[ir.Model, Reading, ImageInput]:
    """Return a loaded model with the output to read, and all that leads to it, and the image input, in front now."""
    model, conversion = loaded
    outputs = {str(o.name): o for o in model.graph.outputs}
    if not outputs:
        raise ModelError("the model has no output; export it again")
    if request.output is not None and request.output not in outputs:
        raise UsageError(f"the model has no output {request.output!r}; it has {', '.join(outputs)}")
    picture = picture_input(model.graph, image)
    first_reader = next(((u.node, u.idx) for u in picture.uses()), None)
    names = {o: str(o.name) for node in model.graph for o in node.outputs}
    taken = take_image(model, _checked(size), side, layout, picture, defaults)
    if conversion is not None and first_reader is not None:
        try:
            compare_conversion(model, conversion, taken.name, first_reader)
        except ModelError:
            for value in outputs.values():  # numbers made at random are the better reason
                refuse_random(value)
            raise
    reading = choose_reading(model, outputs, request, taken, folder, names)
    for value in reading.values:
        refuse_random(value)
    _keep_only(model, reading)
    return model, reading, taken


def _keep_only(model: ir.Model, reading: Reading) -> None:
    """Drop all that does not lead to the tensors that are read."""
    boxes = reading.boxes
    prototypes = [] if boxes is None or boxes.prototypes is None else [boxes.prototypes[1]]
    model.graph.outputs[:] = [*reading.values, *prototypes]
    _drop_copies(model)
    keep_activations(model)
    fold(model)
    if any(output.producer() is None for output in model.graph.outputs):
        raise ModelError(f"output {reading.name!r} is not computed from the image; export the model again")


def _checked(size: Sequence[int] | None) -> Size | None:
    if size is None:
        return None
    try:
        numbers = tuple(index(n) for n in size)
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) not in PLACES or min(numbers) < 1:
        others = "L of a signal, D, H and W of a volume"
        raise UsageError(f"size is two positive whole numbers, H and W, not {size!r}; {others}")
    return numbers


def _chosen(ending: str | None) -> Ending | None:
    if ending is not None and ending not in CHOICES:
        raise UsageError(f"no ending {ending!r}; use {', '.join(CHOICES[:-1])} or {CHOICES[-1]}")
    return next((e for e in CHOICES if e == ending), None)


def _ending(reading: Reading, user_ending: Ending | None, of_source: Ending, outputs: int, folder: Path) -> Ending:
    if user_ending == "softmax" and outputs == 1:
        raise UsageError("a softmax over the model's one output is always 1; say --ending sigmoid or value")
    if reading.task == "embed":
        return "value"
    if reading.boxes is not None:
        return of_source
    unsaid = user_ending is None and of_source == "logits" and reading.is_vector
    configured = configured_ending(folder) if unsaid else None
    return user_ending or configured or ("sigmoid" if outputs == 1 else of_source)


def _drop_copies(model: ir.Model) -> None:
    """Let what reads an Identity or a Dropout read its input, so that a layer has one name only."""
    for node in model.graph:
        if node.op_type in ("Identity", "Dropout") and not drops(node) and node.inputs[0] is not None:
            node.outputs[0].replace_all_uses_with(node.inputs[0], replace_graph_outputs=True)
