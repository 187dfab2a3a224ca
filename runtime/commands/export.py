"""`fusioncam export`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from fusioncam import supervisor
from fusioncam.errors import UsageError
from fusioncam.manifest import Manifest
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.options import SECONDS, Json, MemoryLimit, Quiet, Scores, Size, Three, TimeLimit

# What is worth saying of a new bundle, and of which, given the ending that was asked for.
NOTES: dict[str, Callable[[Manifest, str | None], bool]] = {
    "the model does not say how pictures are prepared: {prepared} was assumed; "
    "if that is wrong the maps are too (see --preset)": lambda m, _: m.preprocessing.origin == "assumed",
    "the bundle has no gradient: Score-CAM and Recipro-CAM can be had, Grad-CAM and its like cannot": (
        lambda m, _: not m.gradient
    ),
    "the model has one output, and does not say what it is: it was taken for the logit of a binary model "
    "(if it is a regression, say --ending value)": (
        lambda m, ending: m.source.outputs == 1 and m.source.ending != "sigmoid" and ending is None
    ),
    "the model decides something once for a whole batch (an If or a Loop): masked pictures are scored one by one, "
    "which is slower; without that operator they share runs": lambda m, _: m.one_by_one,
    "the model gives probabilities whose logits are out of reach: log p is explained (log p / (1 - p) for a sigmoid)": (
        lambda m, _: m.source.reach == "out_of_reach"
    ),
    "the model's outputs lie within 0..1, but nothing says that they are probabilities: they were taken for logits "
    "(if each is a probability, say --ending sigmoid; if they are values of a regression, --ending value)": (
        lambda m, _: m.source.reach == "doubtful"
    ),
    "the model's whole numbers cannot hold all that the preprocessing gives: the rest is cut off (see --preset)": (
        lambda m, _: m.cuts_pixels_off
    ),
    "what follows the layer takes no masks: Recipro-CAM cannot be had of this bundle": lambda m, _: not m.has_head,
}


def export(
    model: Annotated[
        str, typer.Argument(help="ONNX file, a folder with one, or package.module:factory of a torch module.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="BUNDLE", help="Folder to make [MODEL.fcam].")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Tensor or node to explain by [chosen].")] = None,
    labels: Annotated[Path | None, typer.Option(help="Text file, one class name a line.")] = None,
    size: Size = None,
    scores: Scores = None,
    preset: Annotated[str | None, typer.Option(help="The arithmetic: torchvision | tf | unit | raw | signed.")] = None,
    rescale: Annotated[float | None, typer.Option(help="Factor on the 0..255 pixel.")] = None,
    mean: Annotated[Three, typer.Option(metavar="A B C", help="Subtracted after rescaling.")] = None,
    std: Annotated[Three, typer.Option(metavar="A B C", help="Divided by last.")] = None,
    channel_order: Annotated[str | None, typer.Option(help="rgb | bgr.")] = None,
    resize: Annotated[str | None, typer.Option(help="squash | crop | squash_crop | crop_first.")] = None,
    crop_fraction: Annotated[float | None, typer.Option(help="Side of the crop over that of the picture.")] = None,
    interpolation: Annotated[
        str | None, typer.Option(help="nearest | bilinear | bicubic | lanczos | box | hamming [bilinear].")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the masked passes: fp32 | fp16 (GPUs) | int8 (CPUs) [the model's].")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Photos like those to be explained; for int8.")
    ] = None,
    no_gradient: Annotated[
        bool, typer.Option("--no-gradient", help="Without gradients, for operators that have no rule.")
    ] = False,
    ending: Annotated[
        str | None, typer.Option(help="What logits become: softmax | sigmoid | value (a regression) [the model's].")
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="Also the whole method as one graph, fusioncam.onnx, for any onnxruntime.")
    ] = False,
    shared_weights: Annotated[
        bool, typer.Option("--shared-weights", help="With --single: half the file, but slower.")
    ] = False,
    unrolled: Annotated[
        int | None, typer.Option(metavar="N", help="Also the method without a Loop, N masks a call, for TensorRT.")
    ] = None,
    time_limit: TimeLimit = SECONDS,
    memory_limit: MemoryLimit = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a classifier into a bundle: x = (pixel * rescale - mean) / std on 0..255 pixels."""
    supervisor.limit(model, time_limit, memory_limit)
    from fusioncam.export import export_model, export_torch
    from fusioncam.export.reading.from_torch import build_module, zeros

    def complain(line: str) -> None:
        if not quiet:
            console.complain(line, "note")

    photos = None
    if calibrate is not None:
        from fusioncam.runtime.photos.calibration import photos_in

        photos = photos_in(calibrate, complain)
    arithmetic = {
        "preset": preset, "rescale": rescale, "mean": mean, "std": std,
        "channel_order": channel_order, "resize": resize, "crop_fraction": crop_fraction,
        "interpolation": interpolation,
    }  # fmt: skip
    given: dict[str, Any] = {
        "layer": layer, "size": size, "output": scores, "labels": labels, "preprocessing": arithmetic,
        "precision": precision, "calibrate": photos,
        "gradient": not no_gradient, "ending": ending,
        "single": single, "shared_weights": shared_weights, "unrolled": unrolled,
    }  # fmt: skip
    source = Path(model)
    if source.exists() or ":" not in model or model.endswith(".onnx"):
        out = out or Path(f"{(source.name if source.is_dir() else source.stem) or 'model'}.fcam")
        manifest = export_model(source, out, **given)
    elif size is None:
        raise UsageError("a torch module takes pictures of any size; say which with --size H W")
    else:
        out = out or Path(model.rpartition(":")[2] + ".fcam")
        manifest = export_torch(build_module(model), zeros(size), out, **given)
    if json:
        console.say_json({"bundle": str(out), **manifest.model_dump(mode="json")})
        return
    channels, height, width = manifest.layer.shape
    console.say(f"{out}: layer {manifest.layer.name!r} ({channels} x {height} x {width}), {manifest.classes} classes")
    for remark in manifest.layer.remarks:
        complain(remark)
    for note, holds in NOTES.items():
        if holds(manifest, ending):
            complain(note.format(prepared=manifest.preprocessing.words))
    for remark in manifest.preprocessing.remarks:
        complain(remark)
