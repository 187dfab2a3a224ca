"""The command line: `fusioncam inspect | export | explain | check | bench | demo`."""

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
Providers = Annotated[str, typer.Option(help="Of onnxruntime, in order of preference: tensorrt, cuda, cpu.")]
Chunk = Annotated[int | None, typer.Option(help="Masked pictures per run [measured; 64 on a GPU].")]
Threads = Annotated[int | None, typer.Option(help="CPU threads [one per core].")]
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
    precision: Annotated[
        str | None, typer.Option(help="Of the masked passes: fp32 | fp16 (GPUs) | int8 (CPUs) [the model's].")
    ] = None,
    calibrate: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Photos like those to be explained; for int8.")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn a classifier into a bundle: x = (pixel * rescale - mean) / std on 0..255 pixels."""
    from fusioncam.export import export_model, export_torch
    from fusioncam.export.from_torch import build_module, zeros
    from fusioncam.runtime.calibration import photos_in

    def complain(line: str) -> None:
        if not quiet:
            console.complain(line, "note")

    arithmetic = {
        "preset": preset, "rescale": rescale, "mean": mean, "std": std,
        "channel_order": channel_order, "resize": resize, "crop_fraction": crop_fraction,
    }  # fmt: skip
    given: dict[str, Any] = {
        "layer": layer, "size": size, "output": scores, "labels": labels, "preprocessing": arithmetic,
        "precision": precision, "calibrate": photos_in(calibrate, complain) if calibrate else None,
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
    budget: Annotated[
        str, typer.Option(help="Masked passes to spend: exact | auto | how many, or a share such as 0.2.")
    ] = "exact",
    providers: Providers = "cpu",
    chunk: Chunk = None,
    threads: Threads = None,
    colormap: Annotated[str, typer.Option(help="Colours of the maps.")] = "plasma",
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Explain pictures: writes STEM.npz (maps), STEM.png (panel) and STEM.json for each."""
    from fusioncam.runtime.budget import parse_budget
    from fusioncam.runtime.explainer import Explainer
    from fusioncam.runtime.explanation import FLAGS
    from fusioncam.runtime.saving import class_number, explain_files

    explainer = Explainer(
        bundle,
        parts(providers),
        tuple(m.strip() for m in methods.split(",")),
        parse_budget(budget),
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
    photos: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Photos to measure the drift of fp16 or int8 scores on.")
    ] = None,
    json: Json = False,
) -> int:
    """Hold a bundle against its source: equal logits, a gradient that agrees with central differences, little drift.

    Drift is that of Score-CAM's map where the masked passes are in fp16 or int8.
    """
    from fusioncam.export import check as check_bundle
    from fusioncam.runtime.calibration import photos_in

    findings = check_bundle(bundle, source, photos_in(photos) if photos else None)
    if json:
        console.say_json([{**asdict(f), "ok": f.ok} for f in findings])
    else:
        for f in findings:
            console.say(f"{'ok  ' if f.ok else 'FAIL'}  {f.what}: {f.error:.2g} (limit {f.limit:.2g})")
    return console.DONE if all(f.ok for f in findings) else console.FAILED


@app.command()
def bench(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by `fusioncam export`.")],
    images: Annotated[list[Path] | None, typer.Argument(metavar="[IMAGE...]", help="Pictures [drawn ones].")] = None,
    budget: Annotated[
        str, typer.Option(help="Budgets, separated by commas: exact, auto, a number of passes, a fraction.")
    ] = "exact,auto",
    rounds: Annotated[int, typer.Option(help="Runs per picture and budget, in turns.")] = 5,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="JSON file for the result.")] = None,
    providers: Providers = "cpu",
    chunk: Chunk = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure what explanations cost on this machine, and how near a budget's maps come to exact ones."""
    from fusioncam.runtime.bench.bundle import Plan, bench_bundle
    from fusioncam.runtime.bench.table import prepare_target, print_report, report_json
    from fusioncam.runtime.budget import parse_budget
    from fusioncam.runtime.output import json_bytes, write_atomically

    if out is not None:
        prepare_target(out)
    budgets = [parse_budget(b) for b in parts(budget)]
    with console.progress_bar(bundle.name, quiet) as progress:
        report = bench_bundle(bundle, images or [], budgets, rounds, Plan(parts(providers), chunk, threads), progress)
    if out is not None:
        write_atomically(out, json_bytes(report_json(report)))
    if json:
        console.say_json(report_json(report))
    else:
        print_report(report)
    return console.FAILED if any(row.wrong for row in report.rows) else console.DONE


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


def parts(listed: str) -> list[str]:
    """What stands between the commas."""
    return [part.strip() for part in listed.split(",") if part.strip()]
