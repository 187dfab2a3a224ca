"""`fusioncam explain`."""

from pathlib import Path
from typing import Annotated

import typer

from fusioncam.runtime import console
from fusioncam.runtime.commands.options import Chunk, Json, Providers, Quiet, Threads, parts


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
