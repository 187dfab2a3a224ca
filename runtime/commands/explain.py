"""`fusioncam explain`: maps, panels and records of pictures."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from fusioncam import supervisor
from fusioncam.errors import UsageError
from fusioncam.free_size import PHOTO
from fusioncam.runtime.commands.completion import choice, class_names, word_list
from fusioncam.runtime.commands.engines import EngineName, RayAddress, Workers, checked_cluster
from fusioncam.runtime.commands.lists import bands_of, parts, size_of
from fusioncam.runtime.commands.options import (
    DEFAULT_METHODS,
    AllowCpu,
    Bands,
    Budget,
    Bundle,
    Chunk,
    Json,
    MemoryLimit,
    Out,
    PictureInputs,
    Providers,
    Quiet,
    Recursive,
    Threads,
    given_inputs,
)

if TYPE_CHECKING:
    from fusioncam.runtime.picture import DrawOptions

Images = Annotated[
    list[str],
    Argument(
        metavar="IMAGE...",
        help="Pictures: files, folders, patterns in quotes, addresses such as s3://bucket/photos; - for a list of such "
        "on standard input, one a line.",
    ),
]
Classes = Annotated[
    list[str] | None,
    Option(
        "--class",
        "-c",
        metavar="CLASS",
        help="Class number or name, by default the top one, or those a segmenter finds; may be given several times.",
        autocompletion=class_names,
    ),
]
LevelsOf = Annotated[str | None, choice("Levels of the neck that explain a detection: own | mean (of all) [own].")]
Region = Annotated[
    list[str] | None,
    Option(
        metavar="MASK",
        help="Explain the class over a mask of the photo's size (not zero is inside): a picture or .npy.",
    ),
]
Point = Annotated[
    tuple[float, float] | None,
    Option(metavar="X Y", help="Explain the part of a class, or the detection, that holds this pixel of the photo."),
]
Box = Annotated[
    tuple[float, float, float, float] | None,
    Option(
        metavar="X1 Y1 X2 Y2", help="Explain the detection whose box is most like this one, in pixels of the photo."
    ),
]
AsOne = Annotated[bool, Option("--detections", help="Explain all detections as one, the sum of their scores.")]
By = Annotated[str | None, choice("Evidence that counts for a detection: score | box (its edges) | both [score].")]
Keypoint = Annotated[
    str | None, Option(metavar="N", help="Explain a keypoint of each detection, by number or name (left_ear).")
]
Conf = Annotated[float | None, Option(metavar="P", help="Least score of a detection [the bundle's].")]
Iou = Annotated[
    float | None,
    Option(metavar="X", help="Overlap by which the lower of two detections is a duplicate [the bundle's]."),
]
Peak = Annotated[
    bool, Option("--peak", help="A region, or a map of values, counts by its largest value, not its mean.")
]
Like = Annotated[
    list[str] | None,
    Option(metavar="OTHER", help="Explain why the picture is like another one, or like the vector in a .npy file."),
]
Value = Annotated[
    list[int] | None, Option(metavar="N", help="Explain value N of a regression, or map N of values, from 0 on.")
]
Down = Annotated[bool, Option("--down", help="With --value: what lowers it, in place of what raises it.")]
Versus = Annotated[
    str | None,
    Option(
        metavar="OTHER",
        help="Explain why the class of -c, or of the best detection or the top one, and not this one.",
        autocompletion=class_names,
    ),
]
MostProbable = Annotated[
    int | None, Option("-k", metavar="N", help="Explain the N most probable classes, or detections, of each picture.")
]
Above = Annotated[float | None, Option(metavar="P", help="Explain every class of this probability or more.")]
Methods = Annotated[str | None, word_list(f"Maps to make, separated by commas {DEFAULT_METHODS}.", metavar="METHODS")]
Smooth = Annotated[str, word_list("Average over further views of each picture: flip, noise, or both.", metavar="VIEWS")]
Also = Annotated[
    list[Path] | None,
    Option(metavar="BUNDLE", help="Average with the maps of another layer's bundle of the same model."),
]
InputSize = Annotated[
    str | None,
    word_list("Size of the input, for a bundle of any size: H,W, or photo (the photo's own).", "--size", metavar="H,W"),
]
Seed = Annotated[int, Option(metavar="N", help="Seed of the random masks of the method rise.")]
Verify = Annotated[bool, Option("--verify", help="Ask the model if the map is evidence: a verdict, by 23 passes more.")]
Style = Annotated[str, choice("Style of the pictures: heat | contour | top.", metavar="STYLE")]
Top = Annotated[
    float | None,
    Option(metavar="N", help="As -k; but with --style top the percent of the pixels that it outlines (default 20)."),
]
Colormap = Annotated[
    str | None, choice("Colours: cividis | inferno | jet | magma | plasma | turbo | viridis (default plasma).")
]
Opacity = Annotated[
    float, Option(metavar="X", help="Opacity of the colours; in other styles, how much the rest fades.")
]
Null = Annotated[bool, Option("--null", "-0", help="Names on standard input end with NUL, as find -print0 has them.")]
Resume = Annotated[
    bool,
    Option("--resume", help="Keep results of an earlier run in DIR with the same settings: explain only the rest."),
]
JsonLines = Annotated[bool, Option("--jsonl", help="Print a line of JSON for each picture as it ends.")]
Table = Annotated[str | None, choice("Also write a table of all explanations: csv | parquet.", metavar="KIND")]
Panel = Annotated[bool, Option("--panel/--no-panel", help="Draw the panel STEM.png.")]
Separate = Annotated[bool, Option("--separate", help="Also draw each map on the whole photo: STEM.METHOD.png.")]
Resolution = Annotated[str, choice("Size of the arrays in STEM.npz: model | photo.", metavar="SIZE")]


def explain(
    bundle: Bundle, images: Images, out: Out = Path("out"), recursive: Recursive = False, null: Null = False,
    resume: Resume = False,
    classes: Classes = None, box: Box = None, point: Point = None, together: AsOne = False, by: By = None,
    keypoint: Keypoint = None, conf: Conf = None, iou: Iou = None, levels: LevelsOf = None,
    region: Region = None, peak: Peak = False, like: Like = None, value: Value = None, down: Down = False,
    versus: Versus = None, most_probable: MostProbable = None, above: Above = None,
    methods: Methods = None, budget: Budget = "exact", smooth: Smooth = "", also: Also = None, size: InputSize = None,
    inputs: PictureInputs = None, seed: Seed = 0,
    verify: Verify = False,
    engine: EngineName = "local", workers: Workers = 1, ray_address: RayAddress = None,
    providers: Providers = "cpu", allow_cpu: AllowCpu = False, chunk: Chunk = None, threads: Threads = None,
    style: Style = "heat", top: Top = None, colormap: Colormap = None, opacity: Opacity = 0.7, bands: Bands = None,
    panel: Panel = True, separate: Separate = False, resolution: Resolution = "model", table: Table = None,
    memory_limit: MemoryLimit = None, json: Json = False, jsonl: JsonLines = False, quiet: Quiet = False,
) -> int:  # fmt: skip
    """Explain pictures: writes STEM.npz (maps), STEM.png (panel) and STEM.json for each.

    The results of a folder have its subfolders. A picture that cannot be explained is reported, and the others go on.
    """
    supervisor.limit(str(bundle), gigabytes=memory_limit)
    from fusioncam.runtime.budget import parse_budget
    from fusioncam.runtime.commands.explaining import Pictures, Run
    from fusioncam.runtime.commands.explanation_output import Report
    from fusioncam.runtime.engine import checked_levels
    from fusioncam.runtime.results.making import MakingConfig, OutputOptions
    from fusioncam.runtime.results.named_targets import NamedTargets
    from fusioncam.runtime.results.target_selection import TargetSelection
    from fusioncam.runtime.tables import checked_kind

    output = OutputOptions(_drawing(style, top, colormap, opacity, versus, verify), resolution, separate, panel)
    config = MakingConfig(
        (bundle, *(also or [])), None if methods is None else parts(methods), parse_budget(budget), parts(smooth),
        verify=verify, output=output, providers=parts(providers), chunk=chunk, threads=threads, allow_cpu=allow_cpu,
        size=size_of(size, PHOTO), bands=bands_of(bands), inputs=given_inputs(inputs), seed=seed,
        levels=checked_levels(levels or "own"),
    )  # fmt: skip
    named = NamedTargets(
        classes or (), region or (), () if point is None else (point,), peak, like or (), value or (), down,
        () if box is None else (box,), together, by, keypoint, conf, iou, levels,
    )  # fmt: skip
    select = partial(TargetSelection.of, named=named, versus=versus, top=_count(top, style, most_probable), above=above)
    kind, cluster = None if table is None else checked_kind(table), checked_cluster(engine, workers, ray_address)
    run = Run(config, select, Pictures(images, recursive, null), out, resume, kind, cluster, quiet, methods)
    return run.report_to(Report(_form(json, jsonl), quiet, above))


def _form(json: bool, jsonl: bool) -> str:
    """Return the form of what is printed; raise UsageError where two are asked for."""
    if json and jsonl:
        raise UsageError("--json is one document, --jsonl a line for each picture: give one of them")
    return "json" if json else "jsonl" if jsonl else "text"


def _drawing(
    style: str, top: float | None, colormap: str | None, opacity: float, versus: str | None, verify: bool
) -> "DrawOptions":
    """Return the way maps are drawn; raise UsageError for options that do not go together."""
    from fusioncam.runtime.picture import DEFAULT_COLORMAP, DEFAULT_TOP, DrawOptions

    if versus is not None and (style != "heat" or colormap is not None):
        raise UsageError("--versus has colours of its own: leave out --style and --colormap")
    if versus is not None and verify:
        raise UsageError("--verify is about the map of one class: leave out --versus, and give both classes with -c")
    color = DEFAULT_COLORMAP if colormap is None else colormap
    return DrawOptions(color, opacity, style, DEFAULT_TOP if top is None or style != "top" else top)


def _count(top: float | None, style: str, most_probable: int | None) -> int | None:
    """Return how many classes or detections are explained, None for the default ones."""
    if top is None or style == "top":
        return most_probable
    if most_probable is not None:
        raise UsageError("--top and -k say the same: give one of them")
    if not top.is_integer():
        raise UsageError("--top is a whole number of classes or detections; with --style top it is a percent")
    return int(top)
