"""The image input: it becomes a float32 picture (N, C, H, W), whatever its type and the order of its axes.

So do a signal (N, C, L) and a volume or a video (N, C, D, H, W).
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.gradient import Ops
from fusioncam.export.reading.configurations import read_literal
from fusioncam.export.reading.further_inputs import attach, common_batch, describe, picture_input
from fusioncam.export.reading.shapes import BRIGHTEST
from fusioncam.export.sessions import run
from fusioncam.free_size import sides
from fusioncam.further_inputs import FurtherInput, drawn
from fusioncam.kernels.arrays import Array, Size
from fusioncam.manifest import PLACES, WHOLE_NUMBERS
from fusioncam.preprocessing import KINDS

RESERVED = ("image", "class_index", "masks", "logits", "activations", "gradients")
MOST_PIXELS = 100_000_000  # of a batch; more are not read from a file, either
USUAL = 3  # channels, where neither the shape nor a convolution says how many
ALONE = "chw"  # the layout of one picture without an axis of pictures, as torchvision's detectors take it
# The axis of the channels, by the rank of the input. D is the depth of a volume, or the frames of a video.
LAYOUTS = {
    4: {"nchw": 1, "nhwc": 3},
    3: {"ncl": 1, "nlc": 2},
    5: {"ncdhw": 1, "ndhwc": 4, "ndchw": 2},
}
SIZES = {
    1: "one positive whole number, L",
    2: "two positive whole numbers, H and W",
    3: "three positive whole numbers, D, H and W",
}
Shape = Sequence[int | None]


@dataclass(frozen=True)
class ImageInput:
    """The image input as the source has it.

    Attributes:
        name: Its name.
        type: Type of its numbers; whole ones are pixels as they are.
        channel_axis: The axis of the channels: 1, or the last one, or 2 of a video (N, D, C, H, W); 0 of one picture
            (C, H, W) without an axis of pictures.
        batch: Its batch, or None where that is free.
        channels: C.
        size: (H, W).
        open: Whether the source leaves one of them open.
    """

    name: str
    type: ir.DataType
    channel_axis: int
    batch: int | None
    channels: int
    size: Size
    open: bool

    @property
    def channels_last(self) -> bool:
        """Return whether it is (N, H, W, C)."""
        return self.channel_axis == len(self.size) + 1


@dataclass(frozen=True)
class _Reading:
    """A way to read the shape of the input: where its channels are, and how many."""

    channel_axis: int
    channels: int

    def size(self, shape: Shape) -> Shape:
        """Return the sizes of the axes beside batch and channels."""
        return [*shape[1 : self.channel_axis], *shape[self.channel_axis + 1 :]]

    def is_shortest(self, shape: Shape) -> bool:
        """Return whether there are fewer channels than rows, and than columns; an open axis may be of any length."""
        return all(n is None or n > self.channels for n in self.size(shape))

    def shape(self, batch: int, size: Sequence[int]) -> list[int]:
        """Return the shape of a batch."""
        places = self.channel_axis - 1
        return [batch, *size[:places], self.channels, *size[places:]]

    def order(self, rank: int) -> list[int]:
        """Return where the axes of the source lie in (N, C, H, W)."""
        axes = [0, *range(2, rank)]
        axes.insert(self.channel_axis, 1)
        return axes


def take_image(
    model: ir.Model,
    size: Size | None,
    side: int | None = None,
    layout: str | None = None,
    picture: ir.Value | None = None,
    defaults: Mapping[str, Array] | None = None,
) -> ImageInput:
    """Put a float32 NCHW input named `image` in front; for whole numbers it is rounded.

    Args:
        model: The model; it is changed.
        size: (H, W), for a model that leaves them open.
        side: What is taken for an open H or W where `size` is not given.
        layout: One of `LAYOUTS`, for a model whose shapes do not say which axis holds the channels.
        picture: The input that is explained, by default `picture_input`; further inputs keep their own types.
        defaults: Values of optional inputs, by name.

    Raises:
        ModelError: The model does not take one picture.
        UsageError: `size` or `layout` does not fit the model, or is missing; or a further input cannot stay open.
    """
    graph = model.graph
    old = picture or picture_input(graph, None)
    others = [i for i in graph.inputs if i is not old]
    graph.inputs[:] = [old, *others]
    name = str(old.name)
    shape: Shape = [None] * 4
    if old.shape is not None:
        shape = [d if isinstance(d, int) and d > 0 else None for d in old.shape]
    alone = _is_alone(model, shape, layout)
    if alone:
        readings, shape = [_Reading(1, shape[0] or _first_channels(model) or USUAL)], [1, *shape]
    else:
        shape = [common_batch(old, others), *shape[1:]]
        readings = _readings(model, name, shape, known=old.shape is not None, layout=layout)

    def further(reading: _Reading, size: Size) -> list[FurtherInput]:
        return describe(old, others, reading.shape(1, size)[1:], reading.channel_axis, defaults or {})

    reading, chosen = _fitting(model, readings, shape, size, side, further)
    described = further(reading, chosen)
    free_names(model)
    image = ir.Value(name="image", type=ir.TensorType(ir.DataType.FLOAT))
    image.shape = ir.Shape([shape[0] or "N", reading.channels, *chosen])
    op = Ops(graph, "input")
    inner = image if reading.channel_axis == 1 else op.Transpose(image, perm=reading.order(len(shape)))
    inner = op.Squeeze(image, op.ints([0])) if alone else inner
    if old.dtype not in (None, ir.DataType.FLOAT):
        if old.dtype.is_integer():
            inner = _whole(op, inner, old.dtype)
            image.meta[BRIGHTEST] = min(255, WHOLE_NUMBERS.get(old.dtype.name.lower(), (0, 255))[1])
        inner = op.Cast(inner, to=old.dtype)
    old.replace_all_uses_with(inner)
    graph.inputs[0] = image
    graph.sort()
    attach(model, described, shape[0])
    kind, is_open = old.dtype or ir.DataType.FLOAT, None in reading.size(shape)
    axis = 0 if alone else reading.channel_axis
    return ImageInput(name, kind, axis, shape[0], reading.channels, chosen, is_open)


def _whole(op: Ops, values: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Round to the numbers that the type holds: casting alone drops fractions and lets large numbers wrap round."""
    rounded = op.Round(values)
    ends = WHOLE_NUMBERS.get(dtype.name.lower(), (0, None) if dtype.name.startswith("U") else None)
    if ends is None:
        return rounded
    return op.Clip(rounded, *(None if end is None else op.constant(end, np.float32) for end in ends))


def _readings(model: ir.Model, name: str, shape: Shape, known: bool, layout: str | None) -> list[_Reading]:
    """Return the ways to read the input's shape, at least one.

    An axis of three is believed first, then one of as many as the first convolution takes. Else an axis can hold the
    channels where it is shorter than height and width, and an open one as many as the convolution takes.

    Raises:
        ModelError: The input is no picture.
        UsageError: Both orders of axes make sense, or there is no such layout.
    """
    shape_text = f"input {name!r} has " + (f"shape {[d or '?' for d in shape]}" if known else "shape unknown")
    if len(shape) not in LAYOUTS:
        raise ModelError(
            f"{shape_text}; the model must take a picture (N, C, H, W) or (N, H, W, C), a signal (N, C, L) or "
            "(N, L, C), or a volume (N, C, D, H, W), (N, D, H, W, C) or (N, D, C, H, W)"
        )
    layouts = LAYOUTS[len(shape)]
    if layout not in (None, *layouts):
        alone = (ALONE,) * (len(shape) == len(ALONE))
        raise UsageError(f"no layout {layout!r}; use {' or '.join((*layouts, *alone))}")
    taken = _first_channels(model)
    ends = {axis: shape[axis] for name, axis in layouts.items() if layout in (None, name)}
    for channels in (USUAL, taken):
        sure = [_Reading(axis, channels) for axis, size in ends.items() if channels and size == channels]
        if len(sure) == 1 or (sure and channels == USUAL and len(shape) == 4):
            return sure[:1]  # what is open elsewhere is height or width
    readings = [_Reading(axis, size or taken or USUAL) for axis, size in ends.items()]
    if layout is None:
        readings = [r for r in readings if ends[r.channel_axis] is None or r.is_shortest(shape)]
    if not readings or (len(readings) > 1 and None not in ends.values()):
        alone = (ALONE,) * (len(shape) == len(ALONE) and None not in shape)
        choices = " or ".join(f"--layout {name}" for name in (*layouts, *alone))
        raise UsageError(f"{shape_text}; say which axis holds the channels with {choices}")
    return readings


def _is_alone(model: ir.Model, shape: Shape, layout: str | None) -> bool:
    """Return whether the input is one picture (C, H, W): of three channels, as the first convolution takes them."""
    if layout is not None or len(shape) != len(ALONE):
        return layout == ALONE and len(shape) == len(ALONE)
    first = _first_weights(model)
    return shape[0] == USUAL == _first_channels(model) and USUAL not in shape[1:] and len(first) == len(ALONE) + 1


def _first_channels(model: ir.Model) -> int | None:
    """Return the number of channels the first convolution takes, by its weights; None where that is unknown."""
    node, weights = next(((node, w) for node in model.graph if (w := _weights_of(node))), (None, ()))
    return None if node is None else weights[1] * node.attributes.get_int("group", 1)


def _first_weights(model: ir.Model) -> tuple[int, ...]:
    """Return the shape of the weights of the first convolution; empty where it is unknown."""
    return next(filter(None, map(_weights_of, model.graph)), ())


def _weights_of(node: ir.Node) -> tuple[int, ...]:
    weight = node.inputs[1] if node.op_type == "Conv" else None
    return () if weight is None or weight.const_value is None else tuple(weight.const_value.shape.numpy())


def _stated(model: ir.Model, sides: int) -> Size | None:
    """Return the size that Ultralytics' metadata states where the graph leaves it open; None where there is none."""
    size = read_literal(model.metadata_props.get("imgsz", ""))
    size = [size] * sides if isinstance(size, int) else size
    usable = isinstance(size, list) and len(size) == sides and all(isinstance(n, int) and n > 0 for n in size)
    return tuple(size) if usable else None


def _fitting(
    model: ir.Model,
    readings: list[_Reading],
    shape: Shape,
    size: Size | None,
    side: int | None,
    further: Callable[[_Reading, Size], list[FurtherInput]],
) -> tuple[_Reading, Size]:
    """Return the reading of the shape that fits, and (H, W); where several may, the model is tried.

    Raises:
        ModelError: The model runs with none.
        UsageError: `size` does not fit, or is missing.
    """
    failures: list[ModelError | UsageError] = []
    for reading in readings:
        own = reading.size(shape)
        kind, letters = KINDS[len(own)], PLACES[len(own)]
        stated = _stated(model, len(own))
        if size is None and stated is None and side is None and None in own:
            raise UsageError(
                f"the model takes {kind} of any size; say --size any, or which with --size {' '.join(letters)}"
            )
        chosen = size or tuple(n or m or side or 0 for n, m in zip(own, stated or own, strict=True))
        if len(chosen) != len(own):
            raise UsageError(f"size is {SIZES[len(own)]}, not {chosen}")
        if any(n not in (None, m) for n, m in zip(own, chosen, strict=True)):
            named = f"{' x '.join(str(n or 'any') for n in own)} ({' x '.join(letters)})"
            failures.append(UsageError(f"the model takes {kind} of {named} only, not {sides(chosen)}"))
            continue
        batch = shape[0] or 1
        if batch * math.prod(chosen) > MOST_PIXELS:
            raise ModelError(f"the model takes {batch} x {sides(chosen)} pixels: too many to be explained")
        if len(readings) == 1:
            return reading, chosen
        try:
            image = model.graph.inputs[0]
            picture = np.zeros(reading.shape(batch, chosen), (image.dtype or ir.DataType.FLOAT).numpy())
            run(model, {str(image.name): picture, **drawn(further(reading, chosen), batch)})
        except ModelError as error:
            failures.append(error)
        else:
            return reading, chosen
    raise failures[0]


def free_names(model: ir.Model, names: Collection[str] = RESERVED) -> None:
    """Rename the tensors that have names which the inputs and outputs of the bundle's graphs need."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(o for node in graph for o in node.outputs)]
    taken = {value.name for value in values}
    for value in values:
        if value.name in names:
            name = f"{value.name}/source"
            while name in taken:  # a graph of a bundle, exported again
                name += "/source"
            value.name = name
            taken.add(name)
