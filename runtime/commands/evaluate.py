"""`fusioncam evaluate`."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from fusioncam.errors import UsageError
from fusioncam.files import temporary_folder
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.options import Chunk, Json, Providers, Quiet, Threads, parts

ENGINES, TARGETS = ("local", "ray"), ("top", "annotated")


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="Bundle made by `fusioncam export`.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Photos.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for the results.")] = Path(
        "evaluation"
    ),
    annotations: Annotated[
        Path | None,
        typer.Option(help="Where the objects are: COCO JSON, Pascal VOC XML or a folder of it, or a JSON list."),
    ] = None,
    class_offset: Annotated[
        int, typer.Option(metavar="N", help="Added to class numbers: 1 where the model's class 0 is a background.")
    ] = 0,
    target: Annotated[
        str, typer.Option(help="Class to explain: top, or annotated, the likeliest that an annotation accepts.")
    ] = "top",
    methods: Annotated[
        str, typer.Option(help="Maps to compare, separated by commas; the others are compared with the first.")
    ] = "fusion_cam,grad_cam,score_cam",
    metrics: Annotated[
        str, typer.Option(help="drop (and increase), insertion, deletion, road. --annotations add pointing and energy.")
    ] = "drop,insertion,deletion",
    steps: Annotated[int, typer.Option(help="Steps of insertion and deletion.")] = 32,
    tolerance: Annotated[float, typer.Option(help="Pixels by which the pointing game may miss.")] = 0.0,
    sanity: Annotated[
        bool, typer.Option("--sanity", help="Also compare with the maps of shuffled weights: takes twice as long.")
    ] = False,
    budget: Annotated[
        str, typer.Option(help="Masked passes to spend: exact | auto | how many, or a share such as 0.2.")
    ] = "exact",
    table: Annotated[str, typer.Option(help="csv | parquet.")] = "csv",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Photos of the folders in it, too.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what an earlier run left in DIR.")] = False,
    engine: Annotated[str, typer.Option(help="local | ray.")] = "local",
    workers: Annotated[int, typer.Option(help="Ray actors, each with sessions of its own.")] = 1,
    ray_address: Annotated[str | None, typer.Option(help="Of a running Ray cluster [started here].")] = None,
    providers: Providers = "cpu",
    chunk: Chunk = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Say with numbers how good the maps are: report.html, results.csv and summary.json.

    Interrupted, it goes on where it was when it is started again.
    """
    from fusioncam.export.randomise import randomised_bundle
    from fusioncam.manifest import read_bundle
    from fusioncam.runtime.budget import parse_budget
    from fusioncam.runtime.commands.evaluation_output import print_summary
    from fusioncam.runtime.evaluation.annotations import Annotations, read_annotations
    from fusioncam.runtime.evaluation.evaluator import EvaluationConfig, Evaluator
    from fusioncam.runtime.evaluation.metrics.faithfulness import Settings
    from fusioncam.runtime.evaluation.report.table import KINDS
    from fusioncam.runtime.evaluation.run import about_of, evaluate_photos, settings_of, write_results
    from fusioncam.runtime.evaluation.store.store import Store
    from fusioncam.runtime.evaluation.with_ray import rows_with_ray
    from fusioncam.runtime.methods import checked_methods
    from fusioncam.runtime.photos.folder import photos_of

    _known(engine, table, target)
    kind = next(k for k in KINDS if k == table)
    settings, spend = Settings(parts(metrics), steps), parse_budget(budget)
    manifest = read_bundle(bundle)
    height, width = manifest.preprocessing.size
    _within("workers", workers, 1, 4096)
    if engine != "ray" and (workers != 1 or ray_address):
        raise UsageError("--workers and --ray-address are for --engine ray")
    _within("tolerance", tolerance, 0, max(height, width))
    _within("steps", steps, 1, height * width)
    _within("class-offset", class_offset, -manifest.classes, manifest.classes)
    if annotations is None and target == "annotated":
        raise UsageError("--target annotated takes the class from annotations; name their file with --annotations")
    if not settings.metrics and annotations is None and not sanity:
        raise UsageError("nothing is to be measured; name some metrics, or give --annotations")
    if sanity and ray_address:
        raise UsageError("--sanity shuffles weights on this machine only; leave it out with --ray-address")
    chosen = checked_methods(parts(methods), manifest.gradient)
    notes = Annotations()
    if annotations:
        notes = read_annotations(annotations, manifest.labels, manifest.classes, class_offset)
    photos = photos_of(folder, recursive, [*_inside(folder, out), *notes.mask_files])
    notes = notes.matched_to(photos) if annotations else notes
    with ExitStack() as stack:
        shuffled = None
        if sanity:
            shuffled = stack.enter_context(temporary_folder()) / "shuffled.fcam"
            randomised_bundle(bundle, shuffled)
        config = EvaluationConfig(
            bundle.resolve(), chosen, spend, settings, notes, target == "annotated", tolerance,
            shuffled, parts(providers), chunk, threads,
        )  # fmt: skip
        # Opened before the store: a model that cannot be run leaves no folder behind.
        rows = rows_with_ray(config, workers, ray_address) if engine == "ray" else Evaluator(config).rows
        same = {**settings_of(config, manifest, folder), "class_offset": class_offset}
        store = stack.enter_context(Store(out, same, restart))
        with console.progress_bar(folder.name or os.fspath(folder), quiet) as progress:
            evaluated = evaluate_photos(photos, rows, store, progress)
        summary = write_results(store, config, evaluated, about_of(config, manifest), kind)
    if json:
        console.say_json(summary)
    else:
        print_summary(summary, out / "report.html", quiet)
    return console.DONE if summary["photos"]["evaluated"] else console.FAILED


def _known(engine: str, table: str, target: str) -> None:
    """Validate choices, and require the packages that they need."""
    from fusioncam.runtime.evaluation.report.table import KINDS, require_parquet
    from fusioncam.runtime.evaluation.with_ray import require_ray

    for choice, known, what in ((engine, ENGINES, "engine"), (table, KINDS, "table"), (target, TARGETS, "target")):
        if choice not in known:
            raise UsageError(f"no {what} {choice!r}; use {' or '.join(known)}")
    if table == "parquet":
        require_parquet()
    if engine == "ray":
        require_ray()


def _within(name: str, number: float, least: int, most: int) -> None:
    """Raise UsageError for a number out of range, NaN included."""
    if not least <= number <= most:
        raise UsageError(f"{name} must be from {least} to {most}, not {number}")


def _inside(folder: Path, out: Path) -> list[Path]:
    """Return the folder of results if it lies among the photos; raise UsageError if it is the folder of the photos."""
    photos, results = (Path(os.path.realpath(path)) for path in (folder, out))
    if results == photos:
        raise UsageError(f"{out} is the folder of the photos; choose another for the results with -o")
    return [out] if photos in results.parents else []
