"""`fusioncam export`: a model becomes a bundle."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from typer import Argument, Option

from fusioncam import supervisor
from fusioncam.errors import UsageError
from fusioncam.free_size import ANY, sides
from fusioncam.manifest import CHUNK, Manifest
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.completion import choice, word_list
from fusioncam.runtime.commands.lists import bands_of, numbers_of, parts, size_of
from fusioncam.runtime.commands.notes import SHOWS_MEAN, shows_mean
from fusioncam.runtime.commands.options import (
    SECONDS,
    AcceptDrift,
    Bands,
    FrozenInputs,
    Image,
    Json,
    Layout,
    MemoryLimit,
    Quiet,
    Reader,
    Scores,
    Size,
    Task,
    TimeLimit,
    input_values,
)

if TYPE_CHECKING:
    from fusioncam.export.options import ExportOptions, Photos

# Notes on a new bundle, and for which bundles they hold, with the options that were given.
NOTES: dict[str, Callable[[Manifest, "ExportOptions"], bool]] = {
    "the model does not say how pictures are prepared: {prepared} was assumed; "
    "if that is wrong the maps are too (see --preset)": lambda m, _: m.preprocessing.origin == "assumed",
    SHOWS_MEAN: lambda m, _: shows_mean(m),
    "the bundle has no gradient: Score-CAM and Recipro-CAM are available, "
    "Grad-CAM and other gradient methods are not": lambda m, _: not m.gradient,
    "the model has one output, and does not say what it is: it was taken for the logit of a binary model "
    "(if it is a regression, say --ending value)": (
        lambda m, asked: (
            m.source.outputs == 1 and m.source.ending != "sigmoid" and m.ending == "sigmoid" and asked["ending"] is None
        )
    ),
    "the output was read as an embedding, by its name or the normalisation that closes it: maps explain likeness to a "
    "picture or a vector (if it holds scores of classes, say --task classify)": (
        lambda m, asked: m.task == "embed" and asked["task"] is None and asked["reader"] is None
    ),
    "the model decides something once for a whole batch (an If, a Loop or a search for boxes): masked pictures are "
    "scored one by one, which is slower; without that operator they share runs": lambda m, _: m.one_by_one,
    "the model gives probabilities whose logits are out of reach: log p is explained (log p / (1 - p) for a sigmoid)": (
        lambda m, _: m.source.reach == "out_of_reach"
    ),
    "the model's outputs lie within 0..1, but nothing says that they are probabilities: they were taken for logits "
    "(if each is a probability, say --ending sigmoid; if they are values of a regression, --ending value)": (
        lambda m, _: m.source.reach == "doubtful"
    ),
    "pictures are explained at {size}, unless `explain --size H W` or `--size photo` says otherwise: {sizes}": (
        lambda m, _: m.free_size is not None
    ),
    "the model's whole numbers cannot hold all that the preprocessing gives: the rest is cut off (see --preset)": (
        lambda m, _: m.cuts_pixels_off
    ),
    "how far maps drift on photos is unknown: measure it with `fusioncam check BUNDLE --photos FOLDER`": (
        lambda m, _: m.score_precision != m.precision and (m.drift is None or m.drift.photos == 1)
    ),
    "maps drift beyond the limits, as accepted: every explanation will carry the flag `drifting_scores`": (
        lambda m, _: m.drift is not None and m.drift.accepted
    ),
    "the part of the model after the layer takes no masks: Recipro-CAM is unavailable for this bundle": lambda m, _: (
        not (m.has_head or m.detector)
    ),
}


# Options of the command that are fields of `Preprocessing` as they are, and the name of its preset.
ARITHMETIC = ("preset", "rescale", "resize", "crop_fraction", "interpolation", "pad_place", "pad_rounding")

Model = Annotated[
    str, Argument(metavar="MODEL", help="ONNX file, a folder with one, or package.module:factory of a torch module.")
]
Out = Annotated[Path | None, Option("--out", "-o", metavar="BUNDLE", help="Folder to make [MODEL.fcam].")]
Layer = Annotated[
    str | None, Option(metavar="LAYER", help="Tensor or node to explain by, as `inspect` names it [chosen].")
]
Labels = Annotated[Path | None, Option(metavar="FILE", help="Text file, one class name a line.")]
Preset = Annotated[
    str | None,
    choice("Usual preprocessing: torchvision | tf | unit | raw | signed (arithmetic) | yolo | yolox (letterbox, too)."),
]
Rescale = Annotated[float | None, Option(metavar="X", help="Factor on the 0..255 pixel.")]
Mean = Annotated[
    str | None, Option(metavar="NUMBERS", help="Subtracted after rescaling: one number, or one per channel.")
]
Std = Annotated[str | None, Option(metavar="NUMBERS", help="Divided by last: one number, or one per channel.")]
Order = Annotated[
    str | None,
    word_list(
        "Channels of the model: rgb, bgr or grey (photos); bands (arrays as they are), or the numbers of an array's "
        "bands, from 1, such as 4,3,2 [rgb for three, grey for one, else bands].",
        metavar="ORDER",
    ),
]
Resize = Annotated[
    str | None,
    choice("Way to the input's size: squash | crop | squash_crop | crop_first | letterbox | none.", metavar="WAY"),
]
Pad = Annotated[
    str | None,
    Option(metavar="NUMBERS", help="Padding of a letterbox, 0..255: one number, or one per channel [114]."),
]
PadPlace = Annotated[str | None, choice("Place of the picture in a letterbox: centre | corner (upper left) [centre].")]
PadRounding = Annotated[
    str | None, choice("Rounding of its sides in a letterbox: even (to the nearest) | up (halves) | down [even].")
]
CropFraction = Annotated[float | None, Option(metavar="SHARE", help="Side of the crop over that of the picture.")]
Filter = Annotated[
    str | None,
    choice("Filter: nearest | bilinear | bicubic | lanczos | box | hamming | cv2-linear (not antialiased) [bilinear]."),
]
Precision = Annotated[
    str | None,
    choice("Precision of the masked passes: fp32 | fp16 (GPUs) | int8 (CPUs, NPUs) [the model's].", metavar="KIND"),
]
Calibrate = Annotated[Path | None, Option(metavar="FOLDER", help="Photos like those to be explained; for int8.")]
Symmetric = Annotated[
    bool, Option("--symmetric", help="With int8: signed and around zero, as TensorRT wants it; maps drift more.")
]
NoGradient = Annotated[bool, Option("--no-gradient", help="Without gradients, for operators that have no rule.")]
Conf = Annotated[
    float | None, Option(metavar="SCORE", help="Of a detector: least score of a detection [0.25, or the graph's].")
]
Iou = Annotated[
    float | None, Option(metavar="SHARE", help="Overlap by which the lower of two is a duplicate [the family's].")
]
Agnostic = Annotated[bool, Option("--agnostic", help="Look for duplicates among all classes.")]
Most = Annotated[int | None, Option(metavar="N", help="Most detections of a picture [300, or the graph's].")]
ClassVectors = Annotated[
    Path | None, Option(metavar="FILE", help="Vectors (classes, D), .npy: an embedding model becomes a classifier.")
]
ClassScale = Annotated[float, Option(metavar="X", help="With --class-vectors: factor on the cosines.")]
Ending = Annotated[str | None, choice("Step after the logits: softmax | sigmoid | value (a regression) [the model's].")]
Single = Annotated[
    bool, Option("--single", help="Also the whole method as one graph, fusioncam.onnx, for any onnxruntime.")
]
Shared = Annotated[bool, Option("--shared-weights", help="With --single: half the file, but slower.")]
Turn = Annotated[int, Option("--chunk", metavar="N", help="With --single: masked pictures per turn of its loop.")]
For = Annotated[
    str,
    choice("Graphs for any (onnxruntime) | tensorrt (engines; refuses what it lacks).", "--for", metavar="KIND"),
]
Unrolled = Annotated[int | None, Option(metavar="N", help="Also the method without a Loop, N masks a call.")]


def export(
    model: Model,
    out: Out = None,
    layer: Layer = None,
    labels: Labels = None,
    size: Size = None,
    layout: Layout = None,
    image: Image = None,
    inputs: FrozenInputs = None,
    scores: Scores = None,
    task: Task = None,
    reader: Reader = None,
    conf: Conf = None,
    iou: Iou = None,
    agnostic: Agnostic = False,
    most: Most = None,
    class_vectors: ClassVectors = None,
    class_scale: ClassScale = 100.0,
    preset: Preset = None,
    rescale: Rescale = None,
    mean: Mean = None,
    std: Std = None,
    channel_order: Order = None,
    resize: Resize = None,
    crop_fraction: CropFraction = None,
    interpolation: Filter = None,
    pad: Pad = None,
    pad_place: PadPlace = None,
    pad_rounding: PadRounding = None,
    bands: Bands = None,
    precision: Precision = None,
    calibrate: Calibrate = None,
    symmetric: Symmetric = False,
    accept_drift: AcceptDrift = False,
    no_gradient: NoGradient = False,
    ending: Ending = None,
    single: Single = False,
    shared_weights: Shared = False,
    chunk: Turn = CHUNK,
    single_for: For = "any",
    unrolled: Unrolled = None,
    time_limit: TimeLimit = SECONDS,
    memory_limit: MemoryLimit = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a model into a bundle: x = (pixel * rescale - mean) / std."""
    given = locals()
    supervisor.limit(model, time_limit, memory_limit)
    note = partial(_note, quiet)
    options = _options(given, note)
    _tell(*_exported(model, out, options), options, note, json)


def _options(given: Mapping[str, Any], note: Callable[[str], None]) -> "ExportOptions":
    """Return the options of the export by those of the command."""
    from fusioncam.export.options import ExportOptions

    named = {name: given[name] for name in ExportOptions.__annotations__ if name in given}
    arithmetic = {name: given[name] for name in ARITHMETIC} | {
        "mean": numbers_of("--mean", given["mean"]), "std": numbers_of("--std", given["std"]),
        "pad": numbers_of("--pad", given["pad"]), "channel_order": _order(given["channel_order"]),
        "shown_bands": bands_of(given["bands"]),
    }  # fmt: skip
    changed = {
        "size": size_of(given["size"], ANY), "output": given["scores"], "inputs": input_values(given["inputs"]),
        "preprocessing": arithmetic, "calibrate": _photos(given["calibrate"], note),
        "gradient": not given["no_gradient"],
    }  # fmt: skip
    return cast(ExportOptions, named | changed)


def _tell(bundle: Path, manifest: Manifest, options: "ExportOptions", note: Callable[[str], None], json: bool) -> None:
    """Print what was made, and what a user should know of it."""
    if json:
        console.say_json({"bundle": str(bundle), **manifest.model_dump(mode="json")})
        return
    console.say(_summary(bundle, manifest))
    for line in _notes(manifest, options):
        note(line)


def _note(quiet: bool, line: str) -> None:
    if not quiet:
        console.complain(line, "note")


def _summary(bundle: Path, manifest: Manifest) -> str:
    further = "".join(f", input {each.words}" for each in manifest.inputs)
    layers = ", ".join(layer.title for layer in manifest.layers)  # manifest.json has all names
    return f"{bundle}: {'levels' if manifest.levels else 'layer'} {layers}, {manifest.form.words}{further}"


def _order(text: str | None) -> str | tuple[int, ...] | None:
    """Return the order of channels: a word, or the numbers of bands."""
    words = parts(text or "")
    return tuple(map(int, words)) if words and all(w.isdecimal() for w in words) else text


def _photos(folder: Path | None, note: Callable[[str], None]) -> "Photos | None":
    """Return the reader of the photos to calibrate on."""
    if folder is None:
        return None
    from fusioncam.runtime.photos.calibration import photos_in

    return photos_in(folder, note)


def _exported(model: str, out: Path | None, options: "ExportOptions") -> tuple[Path, Manifest]:
    """Export a file, or the module of a factory, and return the bundle's folder with its manifest."""
    from fusioncam.export import export_model, export_torch
    from fusioncam.export.free_size import USUAL_SIDE, asked_size
    from fusioncam.export.reading.from_torch import build_module, channels_of, zeros
    from fusioncam.export.sessions import silence_default_logger

    silence_default_logger()
    source, (size, any_size) = Path(model), asked_size(options["size"])
    if source.exists() or ":" not in model or model.endswith(".onnx"):
        out = out or Path(f"{(source.name if source.is_dir() else source.stem) or 'model'}.fcam")
        return out, export_model(source, out, **options)
    if size is None and any_size:
        size = (USUAL_SIDE, USUAL_SIDE)
    if size is None:
        raise UsageError("a torch module takes pictures of any size; say --size any, or which with --size H W")
    out = out or Path(model.rpartition(":")[2] + ".fcam")
    module = build_module(model)
    return out, export_torch(module, zeros(size, channels_of(module)), out, **options)


def _notes(manifest: Manifest, options: "ExportOptions") -> Iterator[str]:
    """Yield the lines that a user should know of a new bundle."""
    own, free = manifest.preprocessing.size, manifest.free_size
    facts = {"prepared": manifest.preprocessing.words, "size": sides(own), "sizes": free.words(own) if free else ""}
    yield from manifest.layer.remarks
    for line, holds in NOTES.items():
        if holds(manifest, options):
            yield line.format(**facts)
    yield from manifest.preprocessing.remarks
    if manifest.drift is not None:
        yield from manifest.drift.remarks
