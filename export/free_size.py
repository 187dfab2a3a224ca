"""Bundles of any size: the source that they keep, and the sizes that it takes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from fusioncam.errors import ModelError, UsageError
from fusioncam.export.bundle import read_frozen
from fusioncam.export.checking.source import source_runner
from fusioncam.export.options import ExportOptions
from fusioncam.export.readers import reader_named
from fusioncam.export.readers.boxes import refuse_thresholds
from fusioncam.export.reading.file import read_model
from fusioncam.export.sessions import quiet
from fusioncam.free_size import ANY, FreeSize, Size, sides
from fusioncam.manifest import SOURCE_GRAPH, Manifest

USUAL_SIDE = 224  # of the input of a model that takes any
STEPS = (*range(1, 17), 20, 24, 28, 32, 40, 48, 56, 64, 96, 128)  # that are tried
MOST_TRIED, FARTHEST = 8, 64  # multiples of a step, and pixels: other steps than the model's fit some multiples
# Options that other sizes need, beside thresholds, and the rest of the manifest does not tell.
KEPT = ("output", "task", "reader", "precision", "gradient", "ending", "layout", "single_for")


def asked_size(size: Any) -> tuple[Any, bool]:
    """Return the size that `ExportOptions.size` names, or None, and whether other sizes are wanted, too."""
    if isinstance(size, str):
        size = (size,)
    if not isinstance(size, tuple | list) or not size or size[0] != ANY:
        return size, False
    return tuple(size[1:]) or None, True


def source_graph(source: Path, score_precision: str) -> ir.Model:
    """Return the source as a graph of the bundle.

    Raises:
        UsageError: The scores are in int8, whose ranges are those of one size.
    """
    if score_precision == "int8":
        raise UsageError("int8 scores are calibrated at one size; export with --size H W, or without --precision int8")
    model: ir.Model = ir.from_proto(read_model(source))
    return model


def free_size(bundle: Path, manifest: Manifest, options: ExportOptions) -> FreeSize:
    """Find the sizes that a model takes, by running it.

    Args:
        bundle: The folder of the bundle, with the source.
        manifest: Its manifest.
        options: Those of the export.

    Raises:
        UsageError: The model runs at one size only.
    """
    own = manifest.preprocessing.size
    fails = _trial(bundle, manifest)
    found = [_step(fails, own, axis) for axis in range(len(own))]
    if not any(found):
        larger = tuple(n + STEPS[-1] for n in own)
        raise UsageError(
            f"the model takes pictures of {sides(own)} (H x W) only, so `any` has no effect: {fails(larger)}; "
            "say --size H W, or export the model with free height and width"
        )
    least = tuple(_least(fails, own, axis, step) for axis, step in enumerate(found))
    kept = {name: options[name] for name in KEPT if options[name] is not None}  # type: ignore[literal-required]
    return FreeSize(step=tuple(found), least=least, options=kept | refuse_thresholds(options))


def _trial(bundle: Path, manifest: Manifest) -> Callable[[Size], str | None]:
    """Return the function that runs the source at a size, and returns why it fails; None where it runs."""
    run = source_runner(manifest, bundle / SOURCE_GRAPH, frozen=read_frozen(bundle))
    own = manifest.preprocessing.size
    shapes = onnx.load(bundle / SOURCE_GRAPH, load_external_data=False)

    def outputs(size: Size) -> int:
        made = run(np.zeros((1, manifest.preprocessing.channels, *size), np.float32))
        if manifest.detector is not None:  # its anchors grow with the picture
            return int(made.shape[-1])
        if manifest.form.scored and not manifest.source.argmax:  # maps grow with the picture
            made = reader_named(manifest.reader).compute(made)
        return int(made.ndim if manifest.source.argmax else made.shape[1])

    expected = outputs(own)

    def fails(size: Size) -> str | None:
        if (empty := _empty_tensor(shapes, manifest, size)) is not None:
            return f"at {sides(size)} nothing is left of tensor {empty!r}"
        try:
            made = outputs(size)
        except ModelError as error:
            return str(error.__cause__ or error)
        return None if made == expected else f"at {sides(size)} it gives {made} numbers, not {expected}"

    return fails


def _empty_tensor(source: onnx.ModelProto, manifest: Manifest, size: Size) -> str | None:
    """Return the first tensor that has no elements at a size; onnxruntime divides by its size, and crashes."""
    model = onnx.ModelProto()
    model.CopyFrom(source)
    shape, axis = [1, *size], manifest.source.channel_axis
    last = len(shape) if manifest.source.channels_last else axis or 1
    shape.insert(last, manifest.preprocessing.channels)
    shape = shape if axis else shape[1:]
    image = next(i for i in model.graph.input if i.name == manifest.source.input)
    del image.type.tensor_type.shape.dim[:]
    image.type.tensor_type.shape.dim.extend(onnx.TensorShapeProto.Dimension(dim_value=n) for n in shape)
    del model.graph.value_info[:]  # of another size, perhaps
    with quiet():
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    tensors = ((v.name, v.type.tensor_type.shape.dim) for v in (*inferred.value_info, *inferred.output))
    return next(
        (name for name, dims in tensors if any(d.HasField("dim_value") and d.dim_value < 1 for d in dims)), None
    )


def _step(fails: Callable[[Size], str | None], own: Size, axis: int) -> int:
    """Return the step of an axis, see `FreeSize`; 0 where the model ran at no size that was tried."""

    def fits(step: int) -> bool:
        count = max(min(MOST_TRIED, FARTHEST // step), 2)
        return not any(fails(_replaced(own, axis, own[axis] + n * step)) for n in range(1, count + 1))

    return next(filter(fits, STEPS), 0)


def _least(fails: Callable[[Size], str | None], own: Size, axis: int, step: int) -> int:
    """Return the smallest size of an axis at which the model runs, found by halving."""
    if not step:
        return own[axis]
    low, high = 0, (own[axis] - 1) // step  # of steps below its own size: at `low` the model runs
    while low < high:
        middle = (low + high + 1) // 2
        if fails(_replaced(own, axis, own[axis] - middle * step)):
            high = middle - 1
        else:
            low = middle
    return own[axis] - low * step


def _replaced(size: Size, axis: int, n: int) -> Size:
    return (*size[:axis], n, *size[axis + 1 :])
