"""`fusioncam demo`."""

from pathlib import Path
from typing import Annotated

import typer

from fusioncam.runtime import console
from fusioncam.runtime.commands.options import Json, Quiet


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
    from fusioncam.runtime.saving import Results, explain_files, save_sample
    from fusioncam.runtime.wanted import Wanted

    scene = save_sample(out)
    export_model(MODEL, out / "shapes.fcam")
    (done, *_), _ = explain_files(
        Explainer(out / "shapes.fcam"), [scene], out / "explained", Wanted(), Results(), quiet=quiet, show=False
    )
    if json:
        console.say_json(done)
    else:
        seen = f"{done['label']} ({done['probability']:.2f})"
        console.say(f"the model sees a {seen} in {scene}; why it does: {done['picture']}")
