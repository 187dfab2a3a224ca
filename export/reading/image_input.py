"""The image input: it becomes a float32 picture (N, 3, H, W), whatever its type and the order of its axes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.gradient import Ops
from fusioncam.export.reading.shapes import BRIGHTEST
from fusioncam.export.sessions import run
from fusioncam.manifest import WHOLE_NUMBERS

RESERVED = ("image", "class_index", "masks", "logits", "activations", "gradients")
MOST_PIXELS = 100_000_000  # of a batch; more are not read from a file, either
Shape = Sequence[int | None]


@dataclass(frozen=True)
class ImageInput:
    """The image input as the source has it.

    Attributes:
        name: Its name.
        type: Type of its numbers; whole ones are pixels as they are.
        channels_last: Whether it is (N, H, W, 3).
        batch: Its batch, or None where that is free.
        size: (H, W).
        open: Whether the source leaves one of them open.
    """

    name: str
    type: ir.DataType
    channels_last: bool
    batch: int | None
    size: tuple[int, int]
    open: bool


def take_image(model: ir.Model, size: tuple[int, int] | None, side: int | None = None) -> ImageInput:
    """Put a float32 NCHW input named `image` in front; for whole numbers it is rounded.

    Args:
        model: The model; it is changed.
        size: (H, W), for a model that leaves them open.
        side: What is taken for an open H or W where `size` is not given.

    Raises:
        ModelError: The model does not take one picture of three channels.
        UsageError: `size` does not fit the model, or is missing.
    """
    graph = model.graph
    if len(graph.inputs) != 1:
        names = ", ".join(repr(i.name) for i in graph.inputs) or "none"
        raise ModelError(
            f"the model has {len(graph.inputs)} inputs ({names}); only classifiers of one image are supported"
        )
    old = graph.inputs[0]
    name = str(old.name)
    shape: Shape = [None] * 4
    if old.shape is not None:
        shape = [d if isinstance(d, int) and d > 0 else None for d in old.shape]
    orders = _orders(model, name, shape, known=old.shape is not None)
    _free_names(model)
    channels_last, (height, width) = _fitting(model, orders, shape, size, side)
    image = ir.Value(name="image", type=ir.TensorType(ir.DataType.FLOAT))
    image.shape = ir.Shape([shape[0] or "N", 3, height, width])
    op = Ops(graph, "input")
    inner = op.Transpose(image, perm=[0, 2, 3, 1]) if channels_last else image
    if old.dtype not in (None, ir.DataType.FLOAT):
        if old.dtype.is_integer():
            inner = _whole(op, inner, old.dtype)
            image.meta[BRIGHTEST] = min(255, WHOLE_NUMBERS.get(old.dtype.name.lower(), (0, 255))[1])
        inner = op.Cast(inner, to=old.dtype)
    old.replace_all_uses_with(inner)
    graph.inputs[0] = image
    graph.sort()
    is_open = None in (shape[1:3] if channels_last else shape[2:4])
    return ImageInput(name, old.dtype or ir.DataType.FLOAT, channels_last, shape[0], (height, width), is_open)


def _whole(op: Ops, values: ir.Value, dtype: ir.DataType) -> ir.Value:
    """Round to the numbers that the type holds: casting alone drops fractions and lets large numbers wrap round."""
    rounded = op.Round(values)
    ends = WHOLE_NUMBERS.get(dtype.name.lower(), (0, None) if dtype.name.startswith("U") else None)
    if ends is None:
        return rounded
    return op.Clip(rounded, *(None if end is None else op.constant(end, np.float32) for end in ends))


def _orders(model: ir.Model, name: str, shape: Shape, known: bool) -> list[bool]:
    """Return the orders of axes that the input's shape allows: NCHW (False), NHWC (True), or both.

    Raises:
        ModelError: It allows neither.
    """
    orders = [last for last in (False, True) if len(shape) == 4 and shape[3 if last else 1] in (3, None)]
    sure = [last for last in orders if shape[3 if last else 1] == 3]  # then what is open elsewhere is height or width
    orders = sure[:1] or orders
    channels = 3 if sure else _first_channels(model)
    if not orders or channels != 3:
        shape_text = f"shape {[d or '?' for d in shape]}" if known else "shape unknown"
        shape_text += "" if channels == 3 else f", and the first convolution takes {channels} channels"
        raise ModelError(f"input {name!r} has {shape_text}; the model must take a picture (N, 3, H, W) or (N, H, W, 3)")
    return orders


def _first_channels(model: ir.Model) -> int:
    """Return the number of channels the first convolution takes, by its weights; 3 where that is unknown."""
    for node in model.graph:
        weight = node.inputs[1] if node.op_type == "Conv" else None
        if weight is not None and weight.const_value is not None:
            return int(weight.const_value.shape.numpy()[1]) * node.attributes.get_int("group", 1)
    return 3


def _fitting(
    model: ir.Model, orders: list[bool], shape: Shape, size: tuple[int, int] | None, side: int | None
) -> tuple[bool, tuple[int, int]]:
    """Return whether the channels are last, and (H, W); where the shape allows both, the model is tried.

    Raises:
        ModelError: The model runs with neither.
        UsageError: `size` does not fit, or is missing.
    """
    failures: list[ModelError | UsageError] = []
    for channels_last in orders:
        height, width = shape[1:3] if channels_last else shape[2:4]
        if size is None and side is None and (height is None or width is None):
            raise UsageError("the model takes pictures of any size; say --size any, or which with --size H W")
        chosen = size or (height or side or 0, width or side or 0)
        if (height or chosen[0], width or chosen[1]) != tuple(chosen):
            failures.append(
                UsageError(
                    f"the model takes pictures of {height} x {width} (H x W) only, not {chosen[0]} x {chosen[1]}"
                )
            )
            continue
        batch = shape[0] or 1
        if batch * chosen[0] * chosen[1] > MOST_PIXELS:
            raise ModelError(f"the model takes {batch} x {chosen[0]} x {chosen[1]} pixels: too many to be explained")
        if len(orders) == 1:
            return channels_last, chosen
        try:
            shape_tried = [batch, *chosen, 3] if channels_last else [batch, 3, *chosen]
            image = model.graph.inputs[0]
            run(model, {str(image.name): np.zeros(shape_tried, (image.dtype or ir.DataType.FLOAT).numpy())})
        except ModelError as error:
            failures.append(error)
        else:
            return channels_last, chosen
    raise failures[0]


def _free_names(model: ir.Model) -> None:
    """Rename the tensors whose names the bundle's graphs need for their inputs and outputs."""
    graph = model.graph
    values = [*graph.inputs, *graph.initializers.values(), *(o for node in graph for o in node.outputs)]
    taken = {value.name for value in values}
    for value in values:
        if value.name in RESERVED:
            name = f"{value.name}/source"
            while name in taken:  # a graph of a bundle, exported again
                name += "/source"
            value.name = name
            taken.add(name)
