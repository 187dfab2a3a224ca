"""`fusioncam explain`: maps, panels and records of pictures."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from fusioncam import supervisor
from fusioncam.errors import UsageError
from fusioncam.runtime.commands import console
from fusioncam.runtime.commands.completion import choice, class_names, word_list
from fusioncam.runtime.commands.lists import parts
from fusioncam.runtime.commands.notes import note_assumptions
from fusioncam.runtime.commands.options import (
    DEFAULT_METHODS,
    AllowCpu,
    Budget,
    Bundle,
    Chunk,
    Json,
    MemoryLimit,
    Providers,
    Quiet,
    Threads,
)

Images = Annotated[list[Path], Argument(metavar="IMAGE...", help="Pictures.")]
Out = Annotated[Path, Option("--out", "-o", metavar="DIR", help="Folder for the results.")]
Classes = Annotated[
    list[str] | None,
    Option(
        "--class",
        "-c",
        metavar="CLASS",
        help="Class number or name, by default the top one; may be given several times.",
        autocompletion=class_names,
    ),
]
Versus = Annotated[
    str | None,
    Option(
        metavar="OTHER",
        help="Explain why the class of -c, or the top one, and not this one.",
        autocompletion=class_names,
    ),
]
MostProbable = Annotated[
    int | None, Option("-k", metavar="N", help="Explain the N most probable classes of each picture.")
]
Above = Annotated[float | None, Option(metavar="P", help="Explain every class of this probability or more.")]
Methods = Annotated[str | None, word_list(f"Maps to make, separated by commas {DEFAULT_METHODS}.", metavar="METHODS")]
Smooth = Annotated[str, word_list("Average over further views of each picture: flip, noise, or both.", metavar="VIEWS")]
Also = Annotated[
    list[Path] | None,
    Option(metavar="BUNDLE", help="Average with the maps of another layer's bundle of the same model."),
]
Verify = Annotated[bool, Option("--verify", help="Ask the model if the map is evidence: a verdict, by 23 passes more.")]
Style = Annotated[str, choice("Style of the pictures: heat | contour | top.", metavar="STYLE")]
Top = Annotated[float | None, Option(metavar="P", help="Percent of the pixels that --style top outlines (default 20).")]
Colormap = Annotated[
    str | None, choice("Colours: cividis | inferno | jet | magma | plasma | turbo | viridis (default plasma).")
]
Opacity = Annotated[
    float, Option(metavar="X", help="Opacity of the colours; in other styles, how much the rest fades.")
]
Separate = Annotated[bool, Option("--separate", help="Also draw each map on the whole photo: STEM.METHOD.png.")]
Resolution = Annotated[str, choice("Size of the arrays in STEM.npz: model | photo.", metavar="SIZE")]


def explain(
    bundle: Bundle,
    images: Images,
    out: Out = Path("out"),
    classes: Classes = None,
    versus: Versus = None,
    most_probable: MostProbable = None,
    above: Above = None,
    methods: Methods = None,
    budget: Budget = "exact",
    smooth: Smooth = "",
    also: Also = None,
    verify: Verify = False,
    providers: Providers = "cpu",
    allow_cpu: AllowCpu = False,
    chunk: Chunk = None,
    threads: Threads = None,
    style: Style = "heat",
    top: Top = None,
    colormap: Colormap = None,
    opacity: Opacity = 0.7,
    separate: Separate = False,
    resolution: Resolution = "model",
    memory_limit: MemoryLimit = None,
    json: Json = False,
    quiet: Quiet = False,
) -> int:
    """Explain pictures: writes STEM.npz (maps), STEM.png (panel) and STEM.json for each."""
    supervisor.limit(str(bundle), gigabytes=memory_limit)
    from fusioncam.runtime.budget import parse_budget
    from fusioncam.runtime.commands.class_selection import ClassSelection
    from fusioncam.runtime.commands.saving import OutputOptions, explain_files
    from fusioncam.runtime.explainer import Explainer
    from fusioncam.runtime.labels import class_number
    from fusioncam.runtime.picture import DEFAULT_COLORMAP, DEFAULT_TOP, DrawOptions

    _check(style, top, colormap, versus, verify)
    color = DEFAULT_COLORMAP if colormap is None else colormap
    draw = DrawOptions(color, opacity, style, DEFAULT_TOP if top is None else top)
    options = OutputOptions(draw, resolution, separate)
    explainer = Explainer(
        [bundle, *(also or [])], parts(providers), None if methods is None else parts(methods), parse_budget(budget),
        chunk=chunk, threads=threads, smooth=parts(smooth), allow_cpu=allow_cpu,
    )  # fmt: skip

    def number(name: str) -> int:
        return explainer.pipeline.check_class(class_number(explainer.manifest, name))

    versus_class = None if versus is None else number(versus)
    selection = ClassSelection(tuple(map(number, classes or [])), versus_class, most_probable, above)
    note_assumptions(explainer.manifest, methods, quiet)
    done, failed = explain_files(explainer, images, out, selection, options, verify=verify, quiet=quiet, show=not json)
    if json:
        console.say_json({"explanations": done, "failed": failed})
    return console.FAILED if failed else console.DONE


def _check(style: str, top: float | None, colormap: str | None, versus: str | None, verify: bool) -> None:
    """Raise UsageError for options that do not go together."""
    if top is not None and style != "top":
        raise UsageError("--top is a share for --style top: give both (-k says how many classes)")
    if versus is not None and (style != "heat" or colormap is not None):
        raise UsageError("--versus has colours of its own: leave out --style and --colormap")
    if versus is not None and verify:
        raise UsageError("--verify is about the map of one class: leave out --versus, and give both classes with -c")
