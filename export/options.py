"""The options of an export: one list for every function that takes them."""

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, cast

from fusioncam.export.class_vectors import SCALE, ClassVectors
from fusioncam.input_values import InputValues
from fusioncam.kernels.arrays import Array
from fusioncam.manifest import CHUNK, Preprocessing

P = ParamSpec("P")
R = TypeVar("R")
Size = tuple[int, ...] | Literal["any"] | tuple[Literal["any"] | int, ...]
Labels = str | os.PathLike[str] | Sequence[str]
Photos = Callable[[Preprocessing], Iterable[Array | tuple[str, Array]]]  # a photo (C, H, W), or its name and it


class ExportOptions(TypedDict, total=False):
    """The options of `export_model` and `export_torch`, all of them keywords."""

    layer: str | None
    """Tensor or node to explain by; by default chosen (see `inspect_model`)."""
    size: Size | None
    """(H, W) of the input, (L,) of a signal, (D, H, W) of a volume, for a model that leaves them open; by default the
    one that Ultralytics' metadata states, or that of a torch module's example.
    `"any"` makes a bundle that explains at any size that the model takes, see `Explainer.explain`, and at 224 x 224
    unless told otherwise; `("any", H, W)` names another size for that."""
    layout: str | None
    """Order of the input's axes, `nchw` or `nhwc`, for a model whose shapes do not say which one holds the channels. Of
    a signal `ncl` or `nlc`; of a volume `ncdhw` or `ndhwc`, or `ndchw` of a video of pictures. `chw`: one picture."""
    image: str | None
    """The input that is explained, where several can be."""
    inputs: InputValues | None
    """Values of other inputs, by name, which become constants of the graphs: numbers, lists, arrays or `.npy` files.
    None keeps an optional input open; its constant becomes its default."""
    output: str | None
    """The output to explain, where there are several."""
    task: str | None
    """Task of the model: `classify`, `value`, `segment` (maps of classes), `embed` or `detect`; by default what its
    output looks like."""
    reader: str | None
    """The name of the reader that brings the output into the normal form; by default the first that fits."""
    conf: float | None
    """Least score of a detection, 0..1, for detectors; by default 0.25, or what the graph says."""
    iou: float | None
    """The least overlap by which the lower of two detections is a duplicate, 0..1; by default that of the family."""
    agnostic: bool
    """Look for duplicates among detections of all classes, not of one alone."""
    most: int | None
    """The most detections of a picture; by default 300, or what the graph says."""
    class_vectors: ClassVectors | None
    """One vector for each class, an array (classes, D) or a .npy file: an embedding model becomes a classifier, whose
    logits are `class_scale` times the cosines of its embedding with these, as CLIP is by the vectors of texts."""
    class_scale: float
    """The factor on the cosines: the model's learned temperature."""
    labels: Labels | None
    """The names of the classes, or a text file with one a line; by default those of the source."""
    preprocessing: str | Mapping[str, Any] | None
    """Fields of `fusioncam.manifest.Preprocessing`, or `{"preset": NAME}` with more fields over it, or only the name of
    the preset; by default that of the source."""
    precision: str | None
    """Type the score graph computes in: `fp32`, `fp16` for GPUs, `int8` for CPUs and NPUs; by default the
    source's."""
    calibrate: Photos | None
    """For `int8`, and only there: gives the photos to calibrate on, preprocessed (C, H, W) arrays or (name, array),
    when called with the bundle's `Preprocessing`; it is called several times. For a folder of files that is
    `calibrate=fusioncam.runtime.photos_in(folder)`. Some tens of photos like those to be explained
    will do: they are seen under masks of their own activations, as the score graph will see them."""
    symmetric: bool
    """Quantise symmetrically, for `int8`: signed 8 bits around zero, the only kind that TensorRT takes. Maps drift
    more."""
    accept_drift: bool
    """Make the bundle although maps by its int8 scores drift from those by float32 ones beyond the limits. All its
    explanations then carry the flag `drifting_scores`."""
    gradient: bool
    """Make an explain graph that gives gradients, by default true. Without them no operator needs a gradient rule, and
    Score-CAM and Recipro-CAM are what is left; `manifest.json` says so."""
    ending: str | None
    """The way from logits to probabilities, in place of the graph's: `softmax`, `sigmoid` (each class by itself: a
    multi-label model that ends in bare logits), or `value` (a regression: its outputs stay as they are). By default the
    ending of the graph, and a softmax where the graph ends in bare logits. One output z becomes two classes, of the
    logits -z and z, with a sigmoid unless it is a `value`."""
    single: bool
    """Add `fusioncam.onnx` to the bundle, the whole method in one graph; see `single_graph`."""
    shared_weights: bool
    """Let the masked passes in that graph read the weights of its explain pass: half the file, but onnxruntime runs
    them slower."""
    chunk: int
    """Masked pictures per turn of that graph's Loop: few for little memory, many for a GPU."""
    single_for: str
    """Runtime of the graphs: `any` onnxruntime, or engines of `tensorrt`. For these the single graph computes float16
    scores in float16, operators that TensorRT lacks are written in others where that can be, and the export is
    refused by the name of the operator where it cannot."""
    unrolled: int | None
    """Masks per call of the method without a Loop, which the bundle then also gets; see `unrolled_graphs`."""


# Every other option is None.
_SET: ExportOptions = {
    "gradient": True,
    "class_scale": SCALE,
    "agnostic": False,
    "symmetric": False,
    "accept_drift": False,
    "single": False,
    "shared_weights": False,
    "chunk": CHUNK,
    "single_for": "any",
}
DEFAULTS = cast(ExportOptions, {**dict.fromkeys(ExportOptions.__annotations__), **_SET})


def takes_options(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with every option in its signature and, on a call, the defaults of those that are left out."""
    own = inspect.signature(function)
    options = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
        for (name, default), kind in zip(DEFAULTS.items(), ExportOptions.__annotations__.values(), strict=True)
    ]
    positional = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    signature = own.replace(parameters=[*positional, *options])

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:  # which does not name the function, as Python's own error does
            raise TypeError(f"{function.__name__}() {error}") from None
        bound.apply_defaults()
        return function(*bound.args, **bound.kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call
