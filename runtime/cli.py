"""The command line: `fusioncam inspect | export | explain | check | demo`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

import fusioncam
from fusioncam.errors import UsageError
from fusioncam.runtime import console

# Only what every command needs is imported up here: the export stage takes a second to load.

app = typer.Typer(
    name="fusioncam",
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Explain image classifiers straight from ONNX files, with Fusion-CAM.",
    epilog="Exit status: 0 done, 1 failed, 2 bad usage. --debug shows the traceback of an error.",
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, no notes.")]
Size = Annotated[
    tuple[int, int] | None, typer.Option("--size", metavar="H W", help="Input size, where the model leaves it open.")
]
Scores = Annotated[str | None, typer.Option("--scores", help="Output that holds the class scores, of several.")]
Three = tuple[float, float, float] | None


def main() -> None:
    """Entry point of `fusioncam`."""
    command = typer.main.get_command(app)
    console.run_command(lambda arguments: command(arguments, standalone_mode=False), sys.argv[1:])


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    """Explain image classifiers straight from ONNX files, with Fusion-CAM."""
    if version:
        console.say(fusioncam.__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        console.say(context.get_help())
        raise typer.Exit(2)


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    size: Size = None,
    scores: Scores = None,
    every: Annotated[bool, typer.Option("--all", help="List every layer, not only the last ten.")] = False,
    json: Json = False,
) -> None:
    """Show what a model could be explained by: layers, cost, operators without a gradient rule."""
    from fusioncam.export import inspect_model
    from fusioncam.runtime.report import inspection_json, print_inspection

    found = inspect_model(model, size=size, output=scores)
    if json:
        console.say_json(inspection_json(found))
    else:
        print_inspection(found, None if every else 10)


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="ONNX file, or package.module:factory of a torch module.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="BUNDLE", help="Folder to make [MODEL.fcam].")
    ] = None,
    layer: Annotated[str | None, typer.Option(help="Tensor or node to explain by [chosen].")] = None,
    labels: Annotated[Path | None, typer.Option(help="Text file, one class name a line.")] = None,
    size: Size = None,
    scores: Scores = None,
    preset: Annotated[str | None, typer.Option(help="torchvision | tf | unit | raw.")] = None,
    rescale: Annotated[float | None, typer.Option(help="Factor on the 0..255 pixel.")] = None,
    mean: Annotated[Three, typer.Option(metavar="A B C", help="Subtracted after rescaling.")] = None,
    std: Annotated[Three, typer.Option(metavar="A B C", help="Divided by last.")] = None,
    channel_order: Annotated[str | None, typer.Option(help="rgb | bgr.")] = None,
    resize: Annotated[str | None, typer.Option(help="squash | crop.")] = None,
    crop_fraction: Annotated[float | None, typer.Option(help="Side of the crop over that of the picture.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the masked passes: fp32 | fp16 [the model's].")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a classifier into a bundle: x = (pixel * rescale - mean) / std on 0..255 pixels."""
    from fusioncam.export import export_model, export_torch
    from fusioncam.export.from_torch import build_module, zeros

    arithmetic = {
        "preset": preset, "rescale": rescale, "mean": mean, "std": std,
        "channel_order": channel_order, "resize": resize, "crop_fraction": crop_fraction,
    }  # fmt: skip
    given: dict[str, Any] = {
        "layer": layer, "size": size, "output": scores, "labels": labels, "preprocessing": arithmetic,
        "precision": precision,
    }  # fmt: skip
    source = Path(model)
    if source.exists() or ":" not in model or model.endswith(".onnx"):
        out = out or Path(f"{source.stem or 'model'}.fcam")
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
    if manifest.preprocessing.origin == "assumed" and not quiet:
        console.complain(
            "the model does not say how pictures are prepared: torchvision's usual way was assumed; "
            "if that is wrong the maps are too (see --preset)",
            "note",
        )


@app.command()
def explain(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by `fusioncam export`.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")] = Path("out"),
    classes: Annotated[
        list[str] | None, typer.Option("--class", "-c", help="Class number or name; may be given several times [top].")
    ] = None,
    methods: Annotated[str, typer.Option(help="Maps to make, separated by commas.")] = "fusion_cam,grad_cam,score_cam",
    providers: Annotated[
        str, typer.Option(help="Of onnxruntime, in order of preference: tensorrt, cuda, cpu.")
    ] = "cpu",
    chunk: Annotated[int | None, typer.Option(help="Masked pictures per run [8, on a GPU 64].")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads [one per core].")] = None,
    colormap: Annotated[str, typer.Option(help="Colours of the maps.")] = "plasma",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Explain pictures: writes STEM.npz (maps), STEM.png (panel) and STEM.json for each."""
    from fusioncam.runtime.explainer import Explainer
    from fusioncam.runtime.explanation import FLAGS
    from fusioncam.runtime.saving import class_number, explain_files

    explainer = Explainer(
        bundle,
        [p.strip() for p in providers.split(",") if p.strip()],
        tuple(m.strip() for m in methods.split(",")),
        chunk=chunk,
        threads=threads,
    )
    wanted = [explainer.checked_class(class_number(explainer.manifest, c)) for c in classes or []]
    if explainer.manifest.preprocessing.origin == "assumed" and not quiet:
        console.complain(FLAGS["assumed_preprocessing"], "note")
    done, failed = explain_files(explainer, images, out, wanted, colormap, quiet, show=not json)
    if json:
        console.say_json({"explanations": done, "failed": failed})
    return console.FAILED if failed else console.DONE


@app.command()
def check(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by `fusioncam export`.")],
    source: Annotated[Path | None, typer.Option(help="The model it was made from [where it was].")] = None,
    json: Json = False,
) -> int:
    """Hold a bundle against its source: equal logits, and a gradient that agrees with central differences."""
    from fusioncam.export import check as check_bundle

    findings = check_bundle(bundle, source)
    if json:
        console.say_json([{**asdict(f), "ok": f.ok} for f in findings])
    else:
        for f in findings:
            console.say(f"{'ok  ' if f.ok else 'FAIL'}  {f.what}: {f.error:.2g} (limit {f.limit:.2g})")
    return console.DONE if all(f.ok for f in findings) else console.FAILED


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")] = Path(
        "demo-output"
    ),
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Export the built-in model and explain the built-in picture with it."""
    from fusioncam.export import export_model
    from fusioncam.runtime.demo import MODEL
    from fusioncam.runtime.explainer import Explainer
    from fusioncam.runtime.saving import explain_files, save_sample

    scene = save_sample(out)
    export_model(MODEL, out / "shapes.fcam")
    (done, *_), _ = explain_files(
        Explainer(out / "shapes.fcam"), [scene], out / "explained", [], "plasma", quiet, show=False
    )
    if json:
        console.say_json(done)
    else:
        seen = f"{done['label']} ({done['probability']:.2f})"
        console.say(f"the model sees a {seen} in {scene}; why it does: {done['picture']}")
