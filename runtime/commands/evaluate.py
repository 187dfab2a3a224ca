"""`fusioncam evaluate`: metrics of the maps of a folder of photos."""

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from fusioncam.errors import UsageError
from fusioncam.files import temporary_folder
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.completion import choice, word_list
from fusioncam.runtime.commands.engines import EngineName, RayAddress, Workers, checked_cluster
from fusioncam.runtime.commands.lists import parts
from fusioncam.runtime.commands.notes import note_assumptions, note_without_effect
from fusioncam.runtime.commands.options import (
    DEFAULT_METHODS,
    AllowCpu,
    Budget,
    Bundle,
    Chunk,
    Json,
    Out,
    PictureInputs,
    Providers,
    Quiet,
    Recursive,
    Threads,
    given_inputs,
)
from fusioncam.runtime.evaluation.metrics.catalogue import choices_of_metrics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fusioncam.manifest import Manifest
    from fusioncam.runtime.evaluation.annotations import Annotations
    from fusioncam.runtime.evaluation.evaluator import EvaluationConfig
    from fusioncam.runtime.evaluation.metrics.faithfulness import Settings
    from fusioncam.runtime.evaluation.references import References
    from fusioncam.runtime.evaluation.run import Rows

TOGETHER = 4  # photos that a worker evaluates at a time: they share chunks

Folder = Annotated[Path, Argument(metavar="FOLDER", help="Photos.")]
AnnotationsFile = Annotated[
    Path | None,
    Option(metavar="FILE", help="Places of the objects: COCO JSON, Pascal VOC XML or a folder of it, or a JSON list."),
]
ClassOffset = Annotated[
    int, Option(metavar="N", help="Added to class numbers: 1 where the model's class 0 is a background.")
]
Target = Annotated[
    str | None,
    choice(
        "Class to explain: top | annotated (the likeliest that an annotation accepts) [top]. Of maps: all default "
        "targets, each annotated class over its objects, or each detection of an annotated object [annotated, where "
        "there are annotations].",
        metavar="CLASS",
    ),
]
LikeFile = Annotated[
    Path | None,
    Option(metavar="FILE", help="For embeddings: a picture, or a vector in a .npy, that all photos are compared with."),
]
Pairs = Annotated[
    Path | None,
    Option(metavar="FILE.csv", help="For embeddings: a table of two columns, the picture and its reference."),
]
Methods = Annotated[
    str | None,
    word_list(
        f"Maps to compare, separated by commas; the others are compared with the first {DEFAULT_METHODS}.",
        metavar="METHODS",
    ),
]
Metrics = Annotated[str, word_list(f"What to measure: {choices_of_metrics()}.", metavar="METRICS")]
Steps = Annotated[int, Option(metavar="N", help="Steps of insertion and deletion.")]
Tolerance = Annotated[float, Option(metavar="PIXELS", help="Pixels by which the pointing game may miss.")]
Sanity = Annotated[
    bool, Option("--sanity", help="Also compare with the maps of shuffled weights: takes twice as long.")
]
Table = Annotated[str, choice("Kind of the table of results: csv | parquet.", metavar="KIND")]
Restart = Annotated[bool, Option("--restart", help="Delete the results of an earlier run in DIR.")]


def evaluate(
    bundle: Bundle,
    folder: Folder,
    out: Out = Path("evaluation"),
    annotations: AnnotationsFile = None,
    class_offset: ClassOffset = 0,
    target: Target = None,
    like: LikeFile = None,
    pairs: Pairs = None,
    methods: Methods = None,
    metrics: Metrics = "drop,insertion,deletion",
    steps: Steps = 32,
    tolerance: Tolerance = 0.0,
    sanity: Sanity = False,
    budget: Budget = "exact",
    inputs: PictureInputs = None,
    table: Table = "csv",
    recursive: Recursive = False,
    restart: Restart = False,
    engine: EngineName = "local",
    workers: Workers = 1,
    ray_address: RayAddress = None,
    providers: Providers = "cpu",
    allow_cpu: AllowCpu = False,
    chunk: Chunk = None,
    threads: Threads = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Measure how good the maps are: report.html, results.csv and summary.json. Called again, it continues the work."""
    from fusioncam.manifest import read_bundle
    from fusioncam.runtime.budget import parse_budget
    from fusioncam.runtime.evaluation.evaluator import EvaluationConfig
    from fusioncam.runtime.evaluation.questions import checked_choice
    from fusioncam.runtime.evaluation.run import about_of, evaluate_photos, settings_of, write_results
    from fusioncam.runtime.evaluation.store.store import Store
    from fusioncam.runtime.methods import checked_methods
    from fusioncam.runtime.tables import checked_kind

    cluster, kind = checked_cluster(engine, workers, ray_address), checked_kind(table)
    settings, spend = _settings(metrics, steps, annotations, sanity, ray_address), parse_budget(budget)
    manifest = read_bundle(bundle)
    annotated = checked_choice(manifest, target, annotations is not None, bool(like or pairs))
    _check_ranges(manifest, tolerance, steps, class_offset)
    chosen = checked_methods(None if methods is None else parts(methods), manifest.gradient)
    found, notes = _photos(folder, out, recursive, annotations, manifest, class_offset, like)
    photos, references = _references(manifest, like, pairs, found)
    with ExitStack() as stack:
        config = EvaluationConfig(
            bundle.resolve(), chosen, spend, settings, notes, annotated, tolerance, _shuffled(bundle, stack, sanity),
            references, parts(providers), chunk, threads, allow_cpu, given_inputs(inputs),
        )  # fmt: skip
        rows = _rows(config, cluster)  # before the store: a model that cannot be run leaves no folder behind
        same = settings_of(config, manifest, folder) | {"class_offset": class_offset}
        store = stack.enter_context(Store(out, same, restart))
        note_assumptions(manifest, methods, quiet)
        _note_lost(annotations, class_offset, tolerance, quiet)
        with console.progress_bar(folder.name or os.fspath(folder), quiet) as progress:
            evaluated = evaluate_photos(photos, rows, store, progress)
        return _print(write_results(store, config, evaluated, about_of(config, manifest), kind), out, json, quiet)


def _note_lost(annotations: Path | None, class_offset: int, tolerance: float, quiet: bool) -> None:
    """Say which options have no effect without annotations."""
    if annotations is None:
        note_without_effect({"--class-offset": class_offset, "--tolerance": tolerance}, "--annotations", quiet)


def _rows(config: "EvaluationConfig", cluster: "tuple[int, str | None] | None") -> "Rows":
    """Return the function that evaluates photos, here or in the workers of a cluster."""
    from fusioncam.runtime.evaluation.evaluator import Evaluator, open_rows
    from fusioncam.runtime.with_ray import with_ray

    return with_ray(partial(open_rows, config), *cluster, together=TOGETHER) if cluster else Evaluator(config).rows


def _check_ranges(manifest: "Manifest", tolerance: float, steps: int, class_offset: int) -> None:
    """Raise UsageError for a number that makes no sense for the model."""
    from fusioncam.runtime.evaluation.evaluator import refuse_others

    refuse_others(manifest)
    height, width = manifest.preprocessing.size
    _within("tolerance", tolerance, 0, max(height, width))
    _within("steps", steps, 1, height * width)
    _within("class-offset", class_offset, -manifest.classes, manifest.classes)


def _settings(metrics: str, steps: int, annotations: Path | None, sanity: bool, ray_address: str | None) -> "Settings":
    """Return the metrics that ask the model; raise UsageError where nothing can be measured, or not in this way."""
    from fusioncam.runtime.evaluation.metrics.faithfulness import Settings

    settings = Settings(parts(metrics), steps)
    if not settings.metrics and annotations is None and not sanity:
        raise UsageError("nothing to measure; name some metrics, or give --annotations")
    if sanity and ray_address:
        raise UsageError("--sanity shuffles weights on this machine only; leave it out with --ray-address")
    return settings


def _photos(
    folder: Path,
    out: Path,
    recursive: bool,
    annotations: Path | None,
    manifest: "Manifest",
    class_offset: int,
    like: Path | None,
) -> "tuple[dict[str, Path], Annotations]":
    """Return the photos of the folder, without masks, results and the reference, and their annotations."""
    from fusioncam.runtime.evaluation.annotations import Annotations, read_annotations
    from fusioncam.runtime.photos.folder import photos_of, results_among

    notes = Annotations()
    if annotations:
        classes = 0 if manifest.task == "embed" else manifest.classes
        notes = read_annotations(annotations, manifest.labels, classes, class_offset)
    leave_out = [*results_among(folder, out), *notes.mask_files, *([like] if like else [])]
    photos = photos_of(folder, recursive, leave_out, arrays=not manifest.preprocessing.takes_photos)
    return photos, notes.matched_to(photos) if annotations else notes


def _references(
    manifest: "Manifest", like: Path | None, pairs: Path | None, photos: "Mapping[str, Path]"
) -> "tuple[Mapping[str, Path], References]":
    """Return the photos that have references, and those; all photos, where nothing names references.

    Raises:
        UsageError: A reference does not fit.
    """
    from fusioncam.runtime.evaluation.references import References, one_reference, read_pairs
    from fusioncam.runtime.targets.kinds import Like
    from fusioncam.runtime.targets.tasks import checked_target

    if like and pairs:
        raise UsageError("--like and --pairs both name references: give one of them")
    references = one_reference(like, photos) if like else read_pairs(pairs, photos) if pairs else References()
    for file in references.files:
        checked_target(manifest, Like(file))
    return {name: photos[name] for name in references.of_photo or photos}, references


def _shuffled(bundle: Path, stack: ExitStack, sanity: bool) -> Path | None:
    """Make a bundle of the same model with shuffled weights, and return its folder, which ends with the stack.

    Where nobody asks for `sanity`, there is none.
    """
    if not sanity:
        return None
    from fusioncam.export.randomise import randomised_bundle

    shuffled = stack.enter_context(temporary_folder()) / "shuffled.fcam"
    randomised_bundle(bundle, shuffled)
    return shuffled


def _print(summary: "Mapping[str, Any]", out: Path, json: bool, quiet: bool) -> int:
    """Print a summary, and return the exit status."""
    from fusioncam.runtime.commands.evaluation_output import print_summary

    if json:
        console.say_json(summary)
    else:
        print_summary(summary, out / "report.html", quiet)
    return console.DONE if summary["photos"]["evaluated"] else console.FAILED


def _within(name: str, number: float, least: int, most: int) -> None:
    """Raise UsageError for a number out of range, NaN included."""
    if not least <= number <= most:
        raise UsageError(f"{name} must be from {least} to {most}, not {number}")
