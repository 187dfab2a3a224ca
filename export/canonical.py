"""The canonical form: one float32 NCHW image in, (N, classes) logits out, free batch, every shape known."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.batch import with_any_batch
from fusioncam.export.batch.resizing import name_every_size
from fusioncam.export.endings import Make, ModelEnding, find_ending, ranked, refuse_ranks
from fusioncam.export.gradient import Ops, dims, path
from fusioncam.export.gradient.rules.elementwise import drops
from fusioncam.export.reading.conversion import compare_conversion
from fusioncam.export.reading.image_input import ImageInput, take_image
from fusioncam.export.reading.load import fold, load_converted, refuse_random
from fusioncam.export.reading.shapes import measure
from fusioncam.export.reading.unfused import keep_activations
from fusioncam.export.source_metadata.configurations import configured_ending
from fusioncam.manifest import Ending

CHOICES: tuple[Ending, ...] = ("softmax", "sigmoid", "value")  # for a user; an ending nobody names is `logits`
BOTH_WAYS: Make = lambda op, z: op.Mul(z, op.constant([[-1, 1]], np.float32))  # noqa: E731
FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


@dataclass
class Classifier:
    """A model in canonical form.

    Attributes:
        model: Its graph has the input `image` (N, C, H, W) and the output `logits` (N, classes), both float32.
        taken: The image input as it is in the source.
        output_name: Name of the source's output behind which the logits lie.
        classes: Number of logits.
        ending: How the logits become probabilities, by the user, else by the source, else by a configuration beside it;
            `value` where they are the values of a regression.
        source: The operators of the source after the logits.
        outputs: Numbers the source gives for a picture: as many as classes, or 1. One output z, of a binary model or a
            regression, has two classes, of the logits -z and z: the evidence against it and the evidence for it.
        precision: Type the weights are kept in.
    """

    model: ir.Model
    taken: ImageInput
    output_name: str
    classes: int
    ending: Ending
    source: ModelEnding
    outputs: int
    precision: Literal["float32", "float16"]

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W) of the image."""
        return self.taken.size

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return (C, H, W) of the image."""
        return (self.taken.channels, *self.taken.size)

    @property
    def image(self) -> ir.Value:
        """Return the input of the graph."""
        return self.model.graph.inputs[0]

    @property
    def logits(self) -> ir.Value:
        """Return the output of the graph."""
        return self.model.graph.outputs[0]


def canonicalize(
    source: Path,
    size: tuple[int, int] | None = None,
    output: str | None = None,
    ending: str | None = None,
    side: int | None = None,
    layout: str | None = None,
) -> Classifier:
    """Load a model and bring it to the canonical form.

    Args:
        source: The ONNX file; opset 7 or later, float32 or float16.
        size: (H, W) of the input, for a model that leaves them open.
        output: Which output holds the class scores, where there are several.
        ending: How logits become probabilities (see `CHOICES`), whatever the graph holds. With `value` the output
            itself is explained.
        side: What is taken for an open H or W where `size` is not given.
        layout: `nchw` or `nhwc`, for a model whose shapes do not say which axis holds the channels.

    Raises:
        ModelError: The file cannot be read or is no image classifier of one image.
        UsageError: `size`, `output`, `ending` or `layout` does not fit the model.
    """
    if size is not None:
        size = _checked(size)
    user_ending = _chosen(ending)
    model, conversion = load_converted(source)
    picked = _pick_output(model, output)
    output_name = str(picked.name)
    refuse_random(picked)
    reader = next(((u.node, u.idx) for i in model.graph.inputs for u in i.uses()), None)
    taken = take_image(model, size, side, layout)
    if conversion is not None and reader is not None:
        compare_conversion(model, conversion, taken.name, reader)
    model.graph.outputs[:] = [picked]
    _drop_copies(model)
    keep_activations(model)
    fold(model)
    if model.graph.outputs[0].producer() is None:
        raise ModelError(f"output {output_name!r} is not computed from the image; export the model again")
    model_ending = find_ending(model, taken.batch or 1, user_ending)
    model.graph.outputs[:] = [_batch_first(model, model_ending)]
    fold(model)
    model = with_any_batch(model, taken.batch)
    name_every_size(model.graph)
    outputs = _set_logits(model, model_ending.make, output_name)
    halved = any(v.dtype == ir.DataType.FLOAT16 and v.shape for v in model.graph.initializers.values())
    return Classifier(
        model=model,
        taken=taken,
        output_name=output_name,
        classes=max(outputs, 2),
        ending=_ending(user_ending, model_ending.ending, outputs, source.parent),
        source=model_ending,
        outputs=outputs,
        precision="float16" if halved else "float32",
    )


def _set_logits(model: ir.Model, make: Make | None, output_name: str) -> int:
    """Make logits of the output, two of a single one, and return the number of outputs."""
    _finish_logits(model, output_name)
    if make is not None:
        _change_logits(model, make)
    outputs = dims(model.graph.outputs[0])[1]
    assert outputs is not None
    if outputs == 1:
        _change_logits(model, BOTH_WAYS)
    return outputs


def _checked(size: Sequence[int]) -> tuple[int, int]:
    try:
        height, width = (index(s) for s in size)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise UsageError(f"size is two positive whole numbers, H and W, not {size!r}")
    return height, width


def _chosen(ending: str | None) -> Ending | None:
    if ending is not None and ending not in CHOICES:
        raise UsageError(f"no ending {ending!r}; use {', '.join(CHOICES[:-1])} or {CHOICES[-1]}")
    return next((e for e in CHOICES if e == ending), None)


def _ending(user_ending: Ending | None, of_source: Ending, outputs: int, folder: Path) -> Ending:
    if user_ending == "softmax" and outputs == 1:
        raise UsageError("a softmax over the model's one output is always 1; say --ending sigmoid or value")
    configured = configured_ending(folder) if user_ending is None and of_source == "logits" else None
    return user_ending or configured or ("sigmoid" if outputs == 1 else of_source)


def _pick_output(model: ir.Model, name: str | None) -> ir.Value:
    outputs = {str(o.name): o for o in model.graph.outputs}
    if not outputs:
        raise ModelError("the model has no output; export it again")
    if name is not None and name not in outputs:
        raise UsageError(f"the model has no output {name!r}; it has {', '.join(outputs)}")
    ranks = ranked(model.graph)
    tensors = [o for o in outputs.values() if isinstance(o.type, ir.TensorType)]
    floats = [o for o in tensors if o.dtype in FLOATS and o not in ranks]
    scores = [outputs[name]] if name is not None else floats or tensors or list(outputs.values())
    if scores[0] in ranks:
        raise refuse_ranks(scores[0], ranks[scores[0]], [str(o.name) for o in floats])
    if len(scores) > 1:
        names = ", ".join(str(o.name) for o in scores)
        raise UsageError(f"the model has several outputs; say which holds the class scores with --scores: {names}")
    if scores[0].dtype == ir.DataType.STRING:
        raise ModelError(f"output {scores[0].name!r} is text, not scores; cut the graph before the names are looked up")
    return scores[0]


def _drop_copies(model: ir.Model) -> None:
    """Let what reads an Identity or a Dropout read its input, so that a layer has one name only."""
    for node in model.graph:
        if node.op_type in ("Identity", "Dropout") and not drops(node) and node.inputs[0] is not None:
            node.outputs[0].replace_all_uses_with(node.inputs[0], replace_graph_outputs=True)


def _batch_first(model: ir.Model, ending: ModelEnding) -> ir.Value:
    """Return the tensor of the logits with its batch in front, and without -infinity."""
    value = ending.value
    if ending.floor is not None:
        op = Ops(model.graph, "floor")
        value = op.Max(value, op.constant(ending.floor))
    return value if ending.order is None else Ops(model.graph, "turned").Transpose(value, perm=ending.order)


def _finish_logits(model: ir.Model, output_name: str) -> None:
    """Give the output the shape (N, classes), the type float32 and the name `logits`."""
    graph = model.graph
    op, raw = Ops(graph, "output"), graph.outputs[0]
    sizes = [d for d in dims(raw)[1:] if d != 1]
    if dims(raw)[:1] != (None,) or len(sizes) > 1 or None in sizes:
        shape = ", ".join(str(d or "N") for d in dims(raw))
        raise ModelError(
            f"output {output_name!r} comes from a tensor of shape ({shape}), not (N, classes): no classifier"
        )
    if 0 in sizes:
        raise ModelError(f"output {output_name!r} holds no class scores: its shape is (N, 0); export the model again")
    if raw.dtype not in FLOATS:
        last = raw.producer()
        ending = last.op_type if last is not None else "a constant"
        raise ModelError(f"the model ends in {ending}: it gives integers, not scores; cut the graph before it")
    if not path(graph.inputs[0], raw):
        raise ModelError(f"output {output_name!r} has no gradient: integers or conditions lie between it and the image")
    classes = sizes[0] if sizes else 1
    logits = raw
    if raw.dtype != ir.DataType.FLOAT:
        logits = op.Cast(raw, to=ir.DataType.FLOAT)
        logits.shape, logits.dtype = raw.shape, ir.DataType.FLOAT
    logits = op.Identity(logits) if len(dims(raw)) == 2 else op.Reshape(logits, op.ints([-1, int(classes or 1)]))
    logits.name, logits.dtype, logits.shape = "logits", ir.DataType.FLOAT, ir.Shape(["N", classes])
    graph.outputs[0] = logits


def _change_logits(model: ir.Model, make: Make) -> None:
    """Replace the output by what `make` computes from it."""
    graph = model.graph
    old, op = graph.outputs[0], Ops(graph, "ending")
    new = make(op, old)
    old.name, new.name = new.name, old.name
    graph.outputs[0] = new
    measure(model)
